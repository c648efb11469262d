"""What a network does not know yet: the covariance of its gradients, as NeuralUCB and NeuralTS use it.

Z = lambda I + sum g gᵀ/m over the contents that were played, with g = ∇f at the parameters of that time. Everything
is float64 and in terms of g/√m, the gradient of f/√m.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hare_agents._content import take
from hare_agents._mlp import Network, Pass
from hare_agents.items import Array
from hare_agents.linear import ArrowRidge
from hare_gym.errors import ConfigError

_MOST_SHARED = 4096


class Covariance(Protocol):
    """Z, in one of two forms."""

    def variance(self, run: Pass) -> Array:
        """gᵀZ⁻¹g/m for each content, ``(N,)``."""

    def slope(self, run: Pass) -> Array:
        """Half the gradient of that variance with respect to each [1; y], ``(N, 1 + d)``.

        It is `Network.pullback` of Z⁻¹g/√m, and its product with [1; y] is the variance.
        """

    def draw(self, user: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """A draw from N(0, Z⁻¹): the part for theta ``(P,)``, and for the user's U ``((1 + d) m,)``."""

    def add(self, run: Pass) -> None:
        """Adds g gᵀ/m of the one content in ``run``."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Z as arrays."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave, or raises DataError."""


class Diagonal:
    """Z's diagonal alone, inverted entry by entry: the approximation of the papers' experiments.

    A gradient's squares are products of the squares of the context, the content and the last layer, so that all N
    variances take products as small as those of a forward pass: no gradient is formed.

    Attributes:
        shared: The diagonal's entries for theta, ``(P,)``.
        own: Those for each user's U less lambda, ``(num_users, 1 + d, m)``: 0 until the user is met.
    """

    def __init__(self, network: Network, ridge: float) -> None:
        self.network, self.ridge = network, ridge
        self.shared: Array = np.full(network.theta.shape, ridge)
        self.own: Array = np.zeros(network.U.shape)

    def _contracted(self, run: Pass) -> tuple[Array, Array]:
        """w_j² (sum over k of c_k²/Z_kej, plus 1/Z_ej of the user) ``(1 + d, m)``, and 1/Z of w ``(m,)``."""
        K, E, m = self.network.shape
        inverse = 1.0 / self.shared
        c2 = np.square(run.c1, dtype=np.float64)
        layer = (c2 @ inverse[:-m].reshape(K, -1)).reshape(E, m)
        layer += 1.0 / (self.ridge + self.own[run.user])
        layer *= np.square(self.network.w, dtype=np.float64)
        return layer, inverse[-m:]

    def variance(self, run: Pass) -> Array:
        """See `Covariance.variance`."""
        layer, last = self._contracted(run)
        through_first = np.square(run.Y1, dtype=np.float64) @ layer
        through_first[run.h <= 0.0] = 0.0
        return np.asarray(through_first.sum(axis=1) + np.square(np.maximum(run.h, 0.0)) @ last)

    def slope(self, run: Pass) -> Array:
        """See `Covariance.slope`."""
        layer, last = self._contracted(run)
        active = (run.h > 0.0).astype(np.float64)
        return np.asarray(run.Y1 * (active @ layer.T) + (np.maximum(run.h, 0.0) * last) @ run.C.T)

    def draw(self, user: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `Covariance.draw`."""
        own = self.ridge + self.own[user].ravel()
        noise = rng.standard_normal(len(self.shared)), rng.standard_normal(len(own))
        return noise[0] / np.sqrt(self.shared), noise[1] / np.sqrt(own)

    def add(self, run: Pass) -> None:
        """See `Covariance.add`."""
        K, _, m = self.network.shape
        c2, y2 = np.square(run.c1, dtype=np.float64), np.square(run.Y1[0], dtype=np.float64)
        own = y2[:, None] * np.where(run.h[0] > 0.0, np.square(self.network.w), 0.0)
        self.shared[:-m].reshape(K, -1)[...] += c2[:, None] * own.ravel()
        self.shared[-m:] += np.square(np.maximum(run.h[0], 0.0))
        self.own[run.user] += own

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Covariance.state`."""
        return {"shared": self.shared.copy(), "own": self.own.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Covariance.load_state`."""
        self.shared, self.own = take(state, "shared", self.shared), take(state, "own", self.own)


class Full:
    """All of Z, exactly. Users meet only in the shared parameters, so that Z is an arrowhead (`ArrowRidge`).

    With P shared parameters, (1 + q)(1 + d) m + m of them, and p = (1 + d) m for each user, a round costs O(P² N) and
    memory is 2 P² numbers and another 2 p (p + P + 1) for each user who was met: a matter of small networks.

    Raises:
        ConfigError: More than 4,096 shared parameters.
    """

    def __init__(self, network: Network, ridge: float) -> None:
        P, own = len(network.theta), int(np.prod(network.shape[1:]))
        if P > _MOST_SHARED:
            per_unit = P // network.shape[2]
            raise ConfigError(
                f"covariance='full' of {P} parameters is too large: use width={_MOST_SHARED // per_unit // 2 * 2} "
                "or less, or covariance='diagonal'."
            )
        self.network = network
        self.posterior = ArrowRidge(P, own, ridge, ridge)

    def variance(self, run: Pass) -> Array:
        """See `Covariance.variance`."""
        shared, own = self.network.gradients(run)
        posterior, slot = self.posterior, self.posterior.slot(run.user)
        rho = shared - own @ posterior.H[slot, :, :-1]
        variance = np.vecdot(rho @ posterior.shared.A_inv, rho) + np.vecdot(own @ posterior.A_u_inv[slot], own)
        return np.asarray(variance)

    def slope(self, run: Pass) -> Array:
        """See `Covariance.slope`."""
        shared, own = self.network.gradients(run)
        posterior, slot = self.posterior, self.posterior.slot(run.user)
        H = posterior.H[slot, :, :-1]
        solved = (shared - own @ H) @ posterior.shared.A_inv
        return self.network.pullback(run, solved, own @ posterior.A_u_inv[slot] - solved @ H.T)

    def draw(self, user: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """See `Covariance.draw`. Costs O(P³)."""
        posterior, slot = self.posterior, self.posterior.slot(user)
        P, own = posterior.shared_dim, posterior.private_dim
        shared = np.linalg.cholesky(posterior.shared.A_inv) @ rng.standard_normal(P)
        noise = np.linalg.cholesky(posterior.A_u_inv[slot]) @ rng.standard_normal(own)
        return shared, noise - posterior.H[slot, :, :-1] @ shared

    def add(self, run: Pass) -> None:
        """See `Covariance.add`."""
        shared, own = self.network.gradients(run)
        self.posterior.update(run.user, shared[0], own[0], 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """See `Covariance.state`."""
        return self.posterior.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Covariance.load_state`."""
        self.posterior.load_state(state)


def covariance(kind: str, network: Network, ridge: float) -> Covariance:
    """``"diagonal"`` or ``"full"``."""
    return Full(network, ridge) if kind == "full" else Diagonal(network, ridge)
