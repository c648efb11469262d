"""MABWiser's policies as agents.

The extra ``peers`` brings it: ``pip install 'hare-gym[peers]'``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import context_vector, finite_reward, optional_package
from hare_agents.items import usable_items
from hare_gym.config import configure
from hare_gym.contract import Agent, Observation, TaskSpec
from hare_gym.errors import DataError

OWNER = "agent 'mabwiser'"

LINEAR = ("LinGreedy", "LinTS", "LinUCB")
"""The policies that see the context."""

UNTRIED_IS_ZERO = ("EpsilonGreedy", "Popularity", "Softmax", "UCB1")
"""The policies in which an item without data counts as worth 0, so that some would never be tried."""

POLICIES = (*LINEAR, *UNTRIED_IS_ZERO, "Random", "ThompsonSampling")


@dataclass(frozen=True)
class MABWiserConfig:
    """Knobs of `MABWiser`; the defaults are MABWiser's own. A policy uses those that it has.

    Attributes:
        policy: One of ``LinUCB``, ``LinTS``, ``LinGreedy`` (a ridge regression for each item on the query and the
            user as one-hot); ``EpsilonGreedy``, ``UCB1``, ``ThompsonSampling``, ``Softmax``, ``Popularity``,
            ``Random`` (without context).
        alpha: Exploration of ``LinUCB``, ``LinTS`` and ``UCB1``.
        epsilon: Share of random rounds of ``LinGreedy`` and ``EpsilonGreedy``.
        l2_lambda: Regularisation of the linear policies.
        tau: Temperature of ``Softmax``.
    """

    policy: str = field(default="LinUCB", metadata={"choices": POLICIES})
    alpha: float = field(default=1.0, metadata={"above": 0})
    epsilon: float = field(default=0.1, metadata={"low": 0, "high": 1})
    l2_lambda: float = field(default=1.0, metadata={"above": 0})
    tau: float = field(default=1.0, metadata={"above": 0})


class MABWiser(Agent):
    """One of MABWiser's policies, told of each reward as it comes (``partial_fit``).

    **Start.** MABWiser refuses to predict before its first fit. Until the first reward the item is drawn uniformly
    from the usable ones. ``EpsilonGreedy``, ``UCB1``, ``Softmax`` and ``Popularity`` value an item without data at
    0; they first try every item once, in random order (for UCB1 as Auer et al. 2002 have it).

    ``ThompsonSampling`` needs rewards of 0 or 1: a reward in between becomes 1 with its own probability (Agrawal &
    Goyal 2012).

    Where some items cannot be used, the best of the others is taken. Equal ones go to the lowest index, as in
    MABWiser itself. Its draws come from the agent's generator, of which MABWiser 2.7 would give each item of LinTS a
    copy, so that items shared their noise.

    **State**: the regressions, sums and counts; a loaded agent with the same generator continues exactly.

    Source: Strong, Kleynhans & Kadioglu 2019, "MABWiser: A Parallelizable Contextual Multi-Armed Bandit Library".
    In its version 2.7 ``l2_lambda`` other than 1 has one flaw, left as it is: until an item's first reward, the
    regression's inverse is ``l2_lambda * I`` where it should be ``I / l2_lambda``.

    Raises:
        MissingPackageError: ``mabwiser`` is not installed.
        UnknownNameError: A knob, or a policy, that does not exist.
        ConfigError: A knob's value out of range.
    """

    modes = frozenset({"select"})
    libraries = ("mabwiser",)

    def __init__(self, **knobs: Any) -> None:
        self.config = configure(MABWiserConfig, knobs, OWNER)
        _library()
        self._linear = self.config.policy in LINEAR

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts without data."""
        super().reset(spec, rng)
        library = _library()
        policy = getattr(library.LearningPolicy, self.config.policy)
        knobs = {name: getattr(self.config, name) for name in policy._fields if hasattr(self.config, name)}
        self._mab = library.MAB(list(range(spec.num_items)), policy(**knobs))
        self._mab._rng.rng = rng
        self._tried = np.zeros(spec.num_items, dtype=np.bool_)

    def _context(self, observation: Observation) -> NDArray[np.float64] | None:
        return context_vector(self.spec, observation)[None] if self._linear else None

    def act(self, observation: Observation) -> int:
        """The usable item with the highest expectation, in the policy's own sense of the word."""
        items = usable_items(self.spec, observation)
        if self.config.policy in UNTRIED_IS_ZERO:
            untried = items[~self._tried[items]]
            if len(untried):
                return int(self.rng.choice(untried))
        if not self._tried.any():
            return int(self.rng.choice(items))
        expectations = self._mab.predict_expectations(self._context(observation))
        return int(items[np.argmax([expectations[k] for k in items.tolist()])])

    def update(self, observation: Observation, action: Any, reward: float) -> None:
        """One ``partial_fit``.

        Raises:
            DataError: A reward or a query that is not finite.
        """
        reward = finite_reward(OWNER, reward)
        context = self._context(observation)
        if context is not None and not np.isfinite(context).all():
            raise DataError(f"{OWNER}: the query holds NaN or infinity.")
        if self.config.policy == "ThompsonSampling":
            reward = float(self.rng.random() < reward)
        self._mab.partial_fit(np.array([action]), np.array([reward]), context)
        self._share_generator()
        self._tried[action] = True

    def _share_generator(self) -> None:
        # fitting copies a regression along with its generator; LinTS would then draw the same numbers for many items
        if self._linear:
            for model in self._mab._imp.arm_to_model.values():
                model.rng = self._mab._rng

    # what MABWiser keeps for each item, whichever of them the policy has
    _TABLES = (
        "arm_to_sum",
        "arm_to_count",
        "arm_to_mean",
        "arm_to_exponent",
        "arm_to_expectation",
        "arm_to_success_count",
        "arm_to_fail_count",
    )
    _REGRESSION = ("A", "A_inv", "Xty", "beta")

    def state(self) -> dict[str, NDArray[Any]]:
        """``tried`` and, after the first reward, a table for each figure kept, items along its first axis."""
        arrays: dict[str, NDArray[Any]] = {"tried": self._tried.copy()}
        if not self._tried.any():
            return arrays
        learned = self._mab._imp
        for name in self._tables():
            arrays[name] = np.array([getattr(learned, name)[k] for k in range(self.spec.num_items)])
        if hasattr(learned, "total_count"):
            arrays["total_count"] = np.array(learned.total_count)
        if self._linear:
            for name in self._REGRESSION:
                models = [learned.arm_to_model[k] for k in range(self.spec.num_items)]
                arrays[name] = np.stack([getattr(model, name) for model in models])
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave, after a ``reset`` with the same task and policy.

        Raises:
            DataError: An array is missing: the state is another policy's.
        """
        N = self.spec.num_items
        if "tried" not in state or state["tried"].shape != (N,):
            raise DataError(f"{OWNER}: the state must hold 'tried', an array of shape ({N},).")
        self.reset(self.spec, self.rng)
        if not state["tried"].any():
            return
        # a first fit on nothing much makes MABWiser set up what is then overwritten
        size = self.spec.query_dim + self.spec.num_users
        self._mab.fit(np.array([0]), np.array([0.0]), np.zeros((1, size)) if self._linear else None)
        learned = self._mab._imp
        needed = [*self._tables(), *(self._REGRESSION if self._linear else ())]
        for name in needed:
            if name not in state:
                raise DataError(f"{OWNER}: the state holds no {name!r}; was it another policy's?")
        for name in self._tables():
            getattr(learned, name).update(enumerate(state[name].tolist()))
        if hasattr(learned, "total_count"):
            learned.total_count = int(state["total_count"])
        if self._linear:
            for name in self._REGRESSION:
                for k in range(N):
                    setattr(learned.arm_to_model[k], name, np.array(state[name][k]))
        self._share_generator()
        self._tried = np.array(state["tried"])

    def _tables(self) -> list[str]:
        # Thompson sampling leaves its last draws where other policies keep what they learned
        idle = "arm_to_expectation" if self.config.policy == "ThompsonSampling" else ""
        return [name for name in self._TABLES if name != idle and hasattr(self._mab._imp, name)]


def _library() -> Any:
    return optional_package("mabwiser.mab", "mabwiser", "peers")
