"""The Bayesian state of every user: u_t and Sigma_u, exactly, with a prior that the population teaches, and lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.linear import Array, ArrowRidge, Belief, BilinearModel, Ridge, inverse, take_array
from hare_gym.errors import DataError

# Users whose states teach the prior: the latest, so that learning it costs the same in any population.
_TEACHERS = 512
# The prior given by hand counts as much as this many users.
_PRIOR_USERS = 10.0


class KnownRidge(Ridge):
    """A `Ridge` that has become certain: theta stays, and its covariance is zero."""

    @classmethod
    def of(cls, ridge: Ridge) -> KnownRidge:
        """Takes over theta, and the sums it came from."""
        known = cls(ridge.dim)
        known.load_state(ridge.state())
        known.A_inv = np.zeros_like(known.A_inv)
        return known

    def update(self, x: Array, r: float, A_inv_x: Array | None = None) -> None:
        """Learns nothing."""


class PopulationRidge(ArrowRidge):
    """`ArrowRidge` whose new groups begin with a learned prior covariance.

    The population's mean is in the shared coefficients already: a user's block is a deviation from it. What is
    learned here is the deviations' covariance, by one step of expectation maximisation at a time (Gelman et al.,
    "Bayesian Data Analysis", chapter 15): ``C = mean over users of (theta_u theta_uᵀ / noise + Sigma_uu)``,
    shrunk to the given prior. A user keeps the prior of the day they came. So all states together are exactly the
    batch ridge regression whose penalty on user u's block is the precision that `prior_of` tells.

    A user who has changed begins a new life, see `restart`: another block in that regression, as of a new user.
    """

    def __init__(
        self, shared_dim: int, private_dim: int, shared_ridge: float = 1.0, private_ridge: float = 1.0
    ) -> None:
        super().__init__(shared_dim, private_dim, shared_ridge, private_ridge)
        # slots of past lives: what they taught theta_0 is in S, and only who remembers their rounds names them
        self._past: set[int] = set()

    def _allocate(self, capacity: int) -> None:
        super()._allocate(capacity)
        p = self.private_dim
        self._prior: Array = np.tile(np.eye(p) * self._private_ridge, (capacity, 1, 1))

    def _new_slot(self, group: int) -> int:
        old = self._prior
        slot = super()._new_slot(group)
        if old is not self._prior:
            self._prior[:slot] = old[:slot]
        self._prior[slot] = self._A_u[slot] = self._prior[0]
        self.A_u_inv[slot] = self.A_u_inv[0]
        return slot

    def restart(self, group: int, remembered: NDArray[np.intp]) -> int:
        """Lets a group begin anew from the prior; theta_0 keeps what the past life taught, exactly.

        Args:
            group: One that has been learned about.
            remembered: Slots that are still referred to; that of an earlier past life not among them is used again.

        Returns:
            The slot of the new life.
        """
        self._past.add(self._slots.pop(group))
        unused = self._past.difference(remembered.tolist())
        if not unused:
            return self._new_slot(group)
        slot = min(unused)
        self._past.remove(slot)
        self._slots[group] = slot
        self._counts[slot] = 0
        self._prior[slot] = self._A_u[slot] = self._prior[0]
        self.A_u_inv[slot] = self.A_u_inv[0]
        self._B_u[slot] = self.H[slot] = 0.0
        return slot

    def prior_of(self, group: int) -> Array:
        """The prior precision of a group's block, ``(p, p)``; of one never seen, what it would begin with."""
        return np.array(self._prior[self.slot(group)])

    def learn_prior(self, noise: float) -> None:
        """Renews the prior of the groups to come, from those seen.

        Args:
            noise: The variance of the reward's noise.
        """
        teachers = self.groups[-_TEACHERS:]
        if not teachers:
            return
        theta = np.stack([self.mean(group) for group in teachers])
        Sigma = np.stack([self.covariance(group) for group in teachers])
        C = theta.T @ theta / noise + Sigma.sum(axis=0)
        C += _PRIOR_USERS * np.eye(self.private_dim) / self._private_ridge
        C /= _PRIOR_USERS + len(teachers)
        self._set_prior(inverse(C))

    def _set_prior(self, precision: Array) -> None:
        self._prior[0] = self._A_u[0] = precision
        self.A_u_inv[0] = inverse(precision)

    def state(self) -> dict[str, NDArray[Any]]:
        """The posterior, every life's prior, and the slot of every group."""
        return {
            **super().state(),
            "slots": np.array(list(self._slots.values()), dtype=np.int64),
            "prior": self._prior[: len(self._counts)].copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError as `ArrowRidge.load_state` does."""
        groups = take_array(state, "groups", None, np.int64)
        slots = take_array(state, "slots", groups.shape, np.int64).tolist()
        lives = len(state["counts"]) if "counts" in state else 0
        shape = (1 + lives, self.private_dim, self.private_dim)
        prior = np.asarray(state.get("prior"))
        if prior.dtype != np.float64 or prior.shape != shape or not np.isfinite(prior).all():
            raise DataError(f"State array 'prior' must be finite float64 of shape {shape}: it is of another agent.")
        # every life is a group of its own to the arrowhead
        super().load_state({**state, "groups": np.arange(lives, dtype=np.int64)})
        self._slots = dict(zip(groups.tolist(), slots, strict=True))
        self._past = set(range(1, 1 + lives)).difference(slots)
        self._prior[: len(prior)] = prior
        self._set_prior(prior[0])


class CoreModel(BilinearModel):
    """The core: joint linear regression on [1, y, x⊗y, user⊗y], with `PopulationRidge` underneath.

    theta_user is the user's state u_t, its posterior block Sigma_u. Before any data the mean is not zero but
    likeness x·y - curvature |y|²: that of a user whose ideal point (Coombs 1964) is the query's multiple
    likeness / (2 curvature) x. Each user's u_t moves theirs from there.

    Args:
        query_dim: Length of a query x, q.
        content_dim: Length of a content y, d; with a likeness it must be q.
        ridge: Prior precision of the shared coefficients.
        user_ridge: Prior precision of a new user's coefficients, at first.
        likeness: See above.
        curvature: See above.
    """

    posterior: PopulationRidge

    def __init__(
        self,
        query_dim: int,
        content_dim: int,
        ridge: float,
        user_ridge: float,
        likeness: float = 0.0,
        curvature: float = 0.0,
    ) -> None:
        super().__init__(query_dim, content_dim, ridge, user_ridge)
        self.posterior = PopulationRidge(self.posterior.shared_dim, content_dim, ridge, user_ridge)
        self.likeness, self.curvature = likeness, curvature

    def bend(self, Y: Array) -> Array:
        """What contents ``(..., d)`` lose by their length, ``(...)``: the mean's part that is not linear in y."""
        return np.asarray(self.curvature * np.vecdot(Y, Y))

    def prior_mean(self, X: Array, Y: Array) -> Array:
        """The mean before any data of contents for queries, ``(..., d)`` both: ``(...)``."""
        mean = self.likeness * np.vecdot(X, Y) if self.likeness else np.zeros(Y.shape[:-1])
        return np.asarray(mean - self.bend(Y) if self.curvature else mean)

    def _project(self, x: Array, user: int) -> None:
        known = self._projected
        super()._project(x, user)
        if self.likeness and self._projected != known:
            self._belief.m[1:] += self.likeness * x

    def beliefs(self, X: Array, users: NDArray[np.integer[Any]]) -> Belief:
        """The linear parts of the beliefs, as `BilinearModel.beliefs`."""
        found = super().beliefs(X, users)
        if self.likeness:
            found.m[:, 1:] += self.likeness * X
        return found

    def hold(self, known: bool) -> None:
        """Whether the shared coefficients count as known: then users are learned about given these, and they stay."""
        posterior = self.posterior
        if known != isinstance(posterior.shared, KnownRidge):
            posterior.shared = KnownRidge.of(posterior.shared) if known else Ridge(posterior.shared_dim)
        self._forget()

    def update(self, x: Array, user: int, y: Array, r: float) -> None:
        """Learns one round; raises as `BilinearModel.update` does."""
        if self.likeness or self.curvature:
            r -= float(self.prior_mean(x, y))
        super().update(x, user, y, r)
        self._forget()

    def update_batch(self, X: Array, users: NDArray[np.integer[Any]], Y: Array, rewards: Array) -> None:
        """Learns B rounds in order, as `BilinearModel.update_batch` does."""
        if self.likeness or self.curvature:
            rewards = rewards - self.prior_mean(X, Y)
        super().update_batch(X, users, Y, rewards)
        self._forget()

    def restart(self, user: int, remembered: NDArray[np.intp]) -> int:
        """`PopulationRidge.restart`."""
        slot = self.posterior.restart(user, remembered)
        self._forget()
        return slot
