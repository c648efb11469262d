"""Exact ridge posteriors that cost the same after a million rounds as after one.

`Ridge` is one Gaussian posterior; `ArrowRidge` shares one block of features between groups (users, or arms) that
each keep a private block; `BilinearModel` puts the joint features of (query, user, content) on an `ArrowRidge` and
gives its belief about every content at once. All of it is float64: with near-collinear features the same updates in
float32 are wrong by an order of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.linalg.blas import dger
from scipy.linalg.lapack import dpotrf, dpotri

from hare_gym.errors import DataError

Array = NDArray[np.float64]

REFACTOR_EVERY = 1000
"""Updates between two exact inversions of a precision matrix."""

# Observations that wait before they are added to a precision matrix by one matrix product: reading and writing
# the whole matrix for each of them would cost as much as the rest of an update. Divides REFACTOR_EVERY.
_BLOCK = 50


class Ridge:
    """Ridge regression as a Gaussian posterior, N(theta, A_inv): A = ridge I + sum x xᵀ, theta = A_inv sum x r.

    A_inv follows by Sherman and Morrison's formula in O(dim²), in place. The precision A itself is kept as well
    and inverted anew, by Cholesky, every `REFACTOR_EVERY` updates, so that rounding errors do not build up.

    Attributes:
        A_inv: The posterior covariance for unit noise, ``(dim, dim)``.
        theta: The posterior mean, ``(dim,)``.
        count: Updates so far.
    """

    def __init__(self, dim: int, ridge: float = 1.0) -> None:
        self.dim = dim
        self.A_inv: Array = np.eye(dim) / ridge
        self.theta: Array = np.zeros(dim)
        self.count = 0
        self._A: Array = np.eye(dim) * ridge
        self._b: Array = np.zeros(dim)
        self._waiting_x: Array = np.empty((_BLOCK, dim))
        self._waiting_r: Array = np.empty(_BLOCK)

    @property
    def A(self) -> Array:
        """The precision, ``(dim, dim)``."""
        X = self._waiting_x[: self.count % _BLOCK]
        return self._A + X.T @ X

    @property
    def b(self) -> Array:
        """The sum of x r, ``(dim,)``."""
        waiting = self.count % _BLOCK
        return self._b + self._waiting_x[:waiting].T @ self._waiting_r[:waiting]

    def update(self, x: Array, r: float, A_inv_x: Array | None = None) -> None:
        """Learns one observation.

        Args:
            x: Features, ``(dim,)``.
            r: The reward.
            A_inv_x: ``A_inv @ x``, where the caller has it already.

        Raises:
            DataError: A feature or the reward is NaN or infinite; nothing has been learned then.
        """
        if A_inv_x is None:
            x = np.asarray(x, dtype=np.float64)
            A_inv_x = self.A_inv @ x
        variance = float(x @ A_inv_x)
        error = r - float(x @ self.theta)
        if not math.isfinite(variance + error):
            raise unusable(x, r)
        self.theta += A_inv_x * (error / (1.0 + variance))
        s = A_inv_x * (1.0 / math.sqrt(1.0 + variance))
        add_outer(self.A_inv, s, s, -1.0)
        waiting = self.count % _BLOCK
        self._waiting_x[waiting] = x
        self._waiting_r[waiting] = r
        self.count += 1
        if waiting == _BLOCK - 1:
            self._A += self._waiting_x.T @ self._waiting_x
            self._b += self._waiting_x.T @ self._waiting_r
            if self.count % REFACTOR_EVERY == 0:
                self.A_inv = inverse(self._A)
                self.theta = self.A_inv @ self._b

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior as arrays; `load_state` gives it back bit for bit."""
        waiting = self.count % _BLOCK
        return {
            "A": self._A.copy(),
            "A_inv": self.A_inv.copy(),
            "b": self._b.copy(),
            "theta": self.theta.copy(),
            "waiting_x": self._waiting_x[:waiting].copy(),
            "waiting_r": self._waiting_r[:waiting].copy(),
            "count": np.array(self.count, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave.

        Raises:
            DataError: An array is missing, is not float64, has the wrong shape or is not finite.
        """
        dim = self.dim
        count = int(take_array(state, "count", (), np.int64))
        waiting = count % _BLOCK
        A, A_inv = take_array(state, "A", (dim, dim)), take_array(state, "A_inv", (dim, dim))
        b, theta = take_array(state, "b", (dim,)), take_array(state, "theta", (dim,))
        waiting_x, waiting_r = (
            take_array(state, "waiting_x", (waiting, dim)),
            take_array(state, "waiting_r", (waiting,)),
        )
        self.count, self._A, self.A_inv, self._b, self.theta = count, A, A_inv, b, theta
        self._waiting_x[:waiting] = waiting_x
        self._waiting_r[:waiting] = waiting_r


class ArrowRidge:
    """Ridge regression r = zᵀtheta_0 + wᵀtheta_u + noise: k shared features z, p private features w per group u.

    The joint precision is an arrowhead matrix: a shared block, one private block A_u per group, and B_u between
    them. Eliminating the private blocks leaves the Schur complement S, and for an observation (z, w, r) of group u

    - gamma = 1 + wᵀA_u⁻¹w,  rho = z − B_uᵀA_u⁻¹w,  e = r − wᵀA_u⁻¹b_u
    - S gains rho rhoᵀ/gamma and c gains rho e/gamma; theta_0 = S⁻¹c
    - A_u gains wwᵀ, B_u gains wzᵀ, b_u gains wr; theta_u = A_u⁻¹(b_u − B_u theta_0)

    which is the algebra of the hybrid LinUCB (Li et al. 2010, Algorithm 2) without ever subtracting from S. So S
    is a `Ridge` on rho/√gamma and e/√gamma. A_u⁻¹[B_u b_u] is the ridge regression of [z r] on w and is kept,
    updated in place, beside its exact parts. The posterior's blocks (unit noise) are Sigma_00 = S⁻¹,
    Sigma_u0 = −A_u⁻¹B_uS⁻¹ and Sigma_uu = A_u⁻¹ + A_u⁻¹B_uS⁻¹B_uᵀA_u⁻¹.

    A round costs O(k² + kp + p²), however many groups there are. A group takes memory when it is first learned
    about: 2p(p + k + 1) floats, in arrays that grow by doubling. Groups never seen have the prior.

    Attributes:
        shared: The posterior of theta_0 after the private blocks are integrated out; ``shared.A`` is S.
        A_u_inv: A_u⁻¹ by slot, ``(slots, p, p)``; slot 0 is the prior, see `slot`.
        H: A_u⁻¹[B_u b_u] by slot, ``(slots, p, k + 1)``.
    """

    def __init__(
        self, shared_dim: int, private_dim: int, shared_ridge: float = 1.0, private_ridge: float = 1.0
    ) -> None:
        self.shared_dim, self.private_dim = shared_dim, private_dim
        self.shared = Ridge(shared_dim, shared_ridge)
        self._private_ridge = private_ridge
        self._slots: dict[int, int] = {}
        self._counts: list[int] = [0]
        self._allocate(8)

    def _allocate(self, capacity: int) -> None:
        k, p = self.shared_dim, self.private_dim
        self._A_u: Array = np.tile(np.eye(p) * self._private_ridge, (capacity, 1, 1))
        self.A_u_inv: Array = np.tile(np.eye(p) / self._private_ridge, (capacity, 1, 1))
        self._B_u: Array = np.zeros((capacity, p, k + 1))
        self.H: Array = np.zeros((capacity, p, k + 1))

    @property
    def groups(self) -> list[int]:
        """The groups that have been learned about, in order of their first observation."""
        return list(self._slots)

    def slot(self, group: int) -> int:
        """Where ``group`` lies in `A_u_inv` and `H`; 0, which always holds the prior, for one never seen."""
        return self._slots.get(group, 0)

    def update(self, group: int, z: Array, w: Array, r: float) -> None:
        """Learns one observation of ``group``.

        Args:
            group: Any integer.
            z: Shared features, ``(k,)``.
            w: Private features, ``(p,)``.
            r: The reward.

        Raises:
            DataError: A feature or the reward is NaN or infinite; nothing has been learned then.
        """
        zr = np.append(np.asarray(z, dtype=np.float64), r)
        w = np.asarray(w, dtype=np.float64)
        rho = zr - w @ self.H[self.slot(group)]
        self.learn(group, zr, w, rho, self.shared.A_inv @ rho[:-1])

    def learn(self, group: int, zr: Array, w: Array, rho: Array, S_inv_rho: Array) -> None:
        """`update` for a caller that has the intermediate results.

        Args:
            group: Any integer.
            zr: Shared features and the reward, ``(k + 1,)``.
            w: Private features, ``(p,)``.
            rho: ``zr - w @ H[slot(group)]``, ``(k + 1,)``: rho and e of the class's formulas.
            S_inv_rho: ``shared.A_inv @ rho[:k]``, ``(k,)``.

        Raises:
            DataError: As for `update`.
        """
        slot = self.slot(group)
        A_inv_w = self.A_u_inv[slot] @ w
        gamma = 1.0 + float(w @ A_inv_w)
        if not math.isfinite(gamma + float(rho[-1]) + float(S_inv_rho @ S_inv_rho)):
            raise unusable(np.append(zr[:-1], w), float(zr[-1]))
        scale = 1.0 / math.sqrt(gamma)
        self.shared.update(rho[:-1] * scale, float(rho[-1]) * scale, S_inv_rho * scale)
        if slot == 0:
            slot = self._new_slot(group)
        g = A_inv_w * scale
        add_outer(self.A_u_inv[slot], g, g, -1.0)
        add_outer(self.H[slot], A_inv_w, rho, 1.0 / gamma)
        add_outer(self._A_u[slot], w, w, 1.0)
        add_outer(self._B_u[slot], w, zr, 1.0)
        self._counts[slot] += 1
        if self._counts[slot] % REFACTOR_EVERY == 0:
            self.A_u_inv[slot] = inverse(self._A_u[slot])
            self.H[slot] = self.A_u_inv[slot] @ self._B_u[slot]

    def _new_slot(self, group: int) -> int:
        slot = len(self._counts)
        if slot == len(self.H):
            old = self._A_u, self.A_u_inv, self._B_u, self.H
            self._allocate(2 * slot)
            for new, values in zip((self._A_u, self.A_u_inv, self._B_u, self.H), old, strict=True):
                new[:slot] = values
        self._slots[group] = slot
        self._counts.append(0)
        return slot

    def mean(self, group: int) -> Array:
        """theta_u, ``(p,)``."""
        H: Array = self.H[self.slot(group)]
        theta: Array = H[:, -1] - H[:, :-1] @ self.shared.theta
        return theta

    def covariance(self, group: int) -> Array:
        """Sigma_uu for unit noise, ``(p, p)``."""
        slot = self.slot(group)
        H = self.H[slot, :, :-1]
        return np.asarray(self.A_u_inv[slot] + H @ self.shared.A_inv @ H.T)

    def cross_covariance(self, group: int) -> Array:
        """Sigma_u0 for unit noise, ``(p, k)``."""
        return np.asarray(-self.H[self.slot(group), :, :-1] @ self.shared.A_inv)

    def project(self, group: int, F_z: Array, F_w: Array) -> tuple[Array, Array]:
        """The posterior of Fᵀ[theta_0; theta_u], by k²n + pkn products: no block of Sigma is formed.

        Args:
            group: Any integer.
            F_z: ``(k, n)``, the map's shared rows.
            F_w: ``(p, n)``, its private rows.

        Returns:
            The mean Fᵀtheta, ``(n,)``, and the covariance FᵀSigma F for unit noise, ``(n, n)``.
        """
        slot = self.slot(group)
        H = self.H[slot]
        G = F_z - H[:, :-1].T @ F_w
        mean = self.shared.theta @ G + H[:, -1] @ F_w
        return mean, G.T @ (self.shared.A_inv @ G) + F_w.T @ self.A_u_inv[slot] @ F_w

    def predict(self, Z: Array, w: Array, groups: Iterable[int]) -> tuple[Array, Array]:
        """The posterior of the reward in many groups with the same private features.

        Args:
            Z: Shared features, ``(n, k)``.
            w: Private features of all n, ``(p,)``.
            groups: The n groups.

        Returns:
            Means ``(n,)`` and variances ``(n,)``, for unit noise.
        """
        used = len(self._counts)
        slots = [self._slots.get(group, 0) for group in groups]
        wH = (w @ self.H[:used])[slots]
        R = Z - wH[:, :-1]
        variance = np.vecdot(R @ self.shared.A_inv, R) + (self.A_u_inv[:used] @ w @ w)[slots]
        return R @ self.shared.theta + wH[:, -1], variance

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior as arrays; `load_state` gives it back bit for bit."""
        used = slice(1, len(self._counts))
        return {f"shared_{name}": value for name, value in self.shared.state().items()} | {
            "groups": np.array(self.groups, dtype=np.int64),
            "counts": np.array(self._counts[used], dtype=np.int64),
            "A_u": self._A_u[used].copy(),
            "A_u_inv": self.A_u_inv[used].copy(),
            "B_u": self._B_u[used].copy(),
            "H": self.H[used].copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave.

        Raises:
            DataError: An array is missing, is not float64, has the wrong shape or is not finite.
        """
        k, p = self.shared_dim, self.private_dim
        groups = take_array(state, "groups", None, np.int64).tolist()
        n = len(groups)
        counts = take_array(state, "counts", (n,), np.int64).tolist()
        square, wide = (n, p, p), (n, p, k + 1)
        A_u, A_u_inv = take_array(state, "A_u", square), take_array(state, "A_u_inv", square)
        B_u, H = take_array(state, "B_u", wide), take_array(state, "H", wide)
        self.shared.load_state({name.removeprefix("shared_"): state[name] for name in state})
        self._slots = {group: slot for slot, group in enumerate(groups, start=1)}
        self._counts = [0, *counts]
        self._allocate(max(8, n + 1))
        for array, values in ((self._A_u, A_u), (self.A_u_inv, A_u_inv), (self._B_u, B_u), (self.H, H)):
            array[1 : n + 1] = values


class Belief(NamedTuple):
    """What a `BilinearModel` believes about every content y: the reward is N([1; y]ᵀm, [1; y]ᵀV[1; y]).

    Attributes:
        m: ``(1 + d,)``, or ``(B, 1 + d)`` for a batch.
        V: ``(1 + d, 1 + d)`` for unit noise, or ``(B, 1 + d, 1 + d)``; empty in a model without widths.
    """

    m: Array
    V: Array

    def mean(self, items: Array) -> Array:
        """Expected rewards, ``(..., N)``, of ``items`` as `with_one` gives them, ``(..., N, 1 + d)``."""
        return np.asarray(np.vecdot(items, self.m[..., None, :]))

    def width(self, items: Array) -> Array:
        """Standard deviations of the expected rewards for unit noise, ``(..., N)``."""
        return np.asarray(np.sqrt(np.maximum(np.vecdot(items @ self.V, items), 0.0)))


class BilinearModel:
    """The joint linear model over phi(x, user, y) = [1, y, x⊗y, onehot(user)⊗y], as an `ArrowRidge`.

    With z = [1, (1, x)⊗y] shared and w = y private to the user, phi is linear in [1; y] once the query x and the
    user are known: phi = F[1; y]. So one round needs m = Fᵀtheta and V = FᵀSigma F only, and any number of contents
    is judged with these, an item of the pool or any vector.

    Args:
        query_dim: Length of a query x, q.
        content_dim: Length of a content y, d.
        ridge: Prior precision of the shared coefficients.
        user_ridge: Prior precision of each user's coefficients.
        widths: Whether beliefs have V. Without it a round costs about d times less for large d.

    Attributes:
        posterior: The `ArrowRidge`, its groups the users.
    """

    def __init__(
        self, query_dim: int, content_dim: int, ridge: float = 1.0, user_ridge: float = 1.0, widths: bool = True
    ) -> None:
        q, d = query_dim, content_dim
        k = 1 + (q + 1) * d
        self.query_dim, self.content_dim, self.widths = q, d, widths
        self.posterior = ArrowRidge(k, d, ridge, user_ridge)
        # Gᵀ[1; y] is rho: row 0 is that of the constant, row 1 + j that of y_j, and the last column is -A_u⁻¹b_u
        self._G, self._query_part = self._projections(1)
        self._x1 = np.ones(q + 1)
        self._y1 = np.ones(1 + d)
        self._zr = np.ones(k + 1)
        self._forget()

    def _projections(self, size: int) -> tuple[Array, Array]:
        """Room for Gᵀ, ``(size, 1 + d, k + 1)``, and its view ``(size, q + 1, d)`` of where (1, x) is added."""
        q, d = self.query_dim, self.content_dim
        G = np.zeros((size, 1 + d, self.posterior.shared_dim + 1))
        G[:, 0, 0] = 1.0
        one, row, column = G.strides
        return G, as_strided(G[:, 1:, 1:], (size, q + 1, d), (one, d * column, row + column))

    def _forget(self) -> None:
        self._projected: tuple[int, bytes, int] | None = None

    def belief(self, x: Array, user: int) -> Belief:
        """The belief about every content for this query and user. Kept until something is learned.

        Args:
            x: The query, ``(q,)``.
            user: The user's number.

        Raises:
            DataError: The query holds NaN or infinity.
        """
        self._project(x, user)
        return self._belief

    def _project(self, x: Array, user: int) -> None:
        posterior = self.posterior
        key = (user, x.tobytes(), posterior.shared.count)
        if key == self._projected:
            return
        self._forget()
        slot = posterior.slot(user)
        G = self._G[0]
        np.negative(posterior.H[slot], out=G[1:])
        self._x1[1:] = x
        self._query_part += self._x1[:, None]
        m = G[:, :-1] @ posterior.shared.theta - G[:, -1]
        if not math.isfinite(float(m @ m)):
            raise DataError("The query holds NaN or infinity: features must be finite numbers.")
        V = np.empty((0, 0))
        if self.widths:
            self._GS_inv = G[:, :-1] @ posterior.shared.A_inv
            V = self._GS_inv @ G[:, :-1].T
            V[1:, 1:] += posterior.A_u_inv[slot]
        self._belief = Belief(m, V)
        self._projected = key

    def beliefs(self, X: Array, users: NDArray[np.integer[Any]]) -> Belief:
        """The beliefs for B queries ``(B, q)`` and users ``(B,)`` at once; raises as `belief` does."""
        posterior, size = self.posterior, len(users)
        slots = [posterior.slot(user) for user in users.tolist()]
        G, query_part = self._projections(size)
        np.negative(posterior.H[slots], out=G[:, 1:])
        query_part[:, 0] += 1.0
        query_part[:, 1:] += X[:, :, None]
        m = G[..., :-1] @ posterior.shared.theta - G[..., -1]
        if not np.isfinite(m).all():
            raise DataError("A query holds NaN or infinity: features must be finite numbers.")
        if not self.widths:
            return Belief(m, np.empty((size, 0, 0)))
        rows = G.reshape(-1, G.shape[-1])[:, :-1]
        GS_inv = (rows @ posterior.shared.A_inv).reshape(size, 1 + self.content_dim, -1)
        V = GS_inv @ G[..., :-1].swapaxes(1, 2)
        V[:, 1:, 1:] += posterior.A_u_inv[slots]
        return Belief(m, V)

    def update(self, x: Array, user: int, y: Array, r: float) -> None:
        """Learns one round.

        Args:
            x: The query, ``(q,)``.
            user: The user's number.
            y: The content, ``(d,)``.
            r: The reward.

        Raises:
            DataError: A feature or the reward is NaN or infinite; nothing has been learned then.
        """
        self._project(x, user)
        self._y1[1:] = y
        rho = self._y1 @ self._G[0]
        rho[-1] += r
        S_inv_rho = self._y1 @ self._GS_inv if self.widths else self.posterior.shared.A_inv @ rho[:-1]
        np.multiply(self._x1[:, None], y, out=self._zr[1:-1].reshape(-1, self.content_dim))
        self._zr[-1] = r
        self.posterior.learn(user, self._zr, self._y1[1:], rho, S_inv_rho)

    def update_batch(self, X: Array, users: NDArray[np.integer[Any]], Y: Array, rewards: Array) -> None:
        """Learns B rounds in order, without projecting each: ``X`` is ``(B, q)``, ``Y`` is ``(B, d)``."""
        size = len(users)
        Z = np.ones((size, self.posterior.shared_dim))
        X1 = np.concatenate([np.ones((size, 1)), X], axis=1)
        Z[:, 1:] = (X1[:, :, None] * Y[:, None, :]).reshape(size, -1)
        for user, z, y, r in zip(users.tolist(), Z, Y, rewards.tolist(), strict=True):
            self.posterior.update(user, z, y, r)

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior as arrays."""
        return self.posterior.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises as `ArrowRidge.load_state` does."""
        self.posterior.load_state(state)
        self._forget()


def with_one(items: Array) -> Array:
    """``[1; y]`` for each content y: ``(..., N, d)`` to ``(..., N, 1 + d)``."""
    return np.concatenate([np.ones((*items.shape[:-1], 1)), items], axis=-1)


def inverse(A: Array) -> Array:
    """The exactly symmetric inverse of a positive definite matrix, by Cholesky.

    Raises:
        DataError: ``A`` is not positive definite to working precision.
    """
    factor, failed = dpotrf(A, lower=True)
    if failed:
        raise DataError(
            "The precision matrix is no longer positive definite: the features are too large or too collinear for "
            "this ridge. Scale them to a length near 1 or use a larger ridge."
        )
    lower, _ = dpotri(factor, lower=True)
    full: Array = np.tril(lower) + np.tril(lower, -1).T
    return full


def add_outer(A: Array, u: Array, v: Array, scale: float) -> None:
    """``A += scale * outer(u, v)`` in place, without the temporary matrix."""
    dger(scale, v, u, a=A.T, overwrite_a=True)


def unusable(features: Array, reward: float) -> DataError:
    """The error for an observation that is not finite: which number is not, and which it is."""
    if not math.isfinite(reward):
        return DataError(f"The reward is {reward}: rewards must be finite numbers.")
    bad = np.flatnonzero(~np.isfinite(features))
    if len(bad):
        return DataError(f"Feature {bad[0]} is {features[bad[0]]}: features must be finite numbers.")
    return DataError("The features are so large that their squares overflow: scale them to a length near 1.")


def take_array(
    state: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...] | None, dtype: type[Any] = np.float64
) -> NDArray[Any]:
    """A copy of one array of a saved state, checked; ``shape`` None takes any vector."""
    if name not in state:
        raise DataError(f"The state has no array {name!r}: it was saved by another agent or version.")
    array = np.asarray(state[name])
    if array.dtype != dtype:
        raise DataError(
            f"State array {name!r} is {array.dtype}, not {np.dtype(dtype)}: posteriors are kept in float64 only, "
            "because float32 loses their small variances. Save and load them without converting."
        )
    if array.ndim != 1 if shape is None else array.shape != shape:
        raise DataError(
            f"State array {name!r} has shape {array.shape}, not {'that of a vector' if shape is None else shape}: "
            "it belongs to a task of other dimensions."
        )
    if not np.isfinite(array).all():
        raise DataError(f"State array {name!r} holds NaN or infinity.")
    return array.copy()
