"""Vowpal Wabbit's contextual bandit with features of the items (``cb_explore_adf``) as an agent.

The extra ``peers`` brings it: ``pip install 'hare-gym[peers]'``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward, optional_package
from hare_agents.items import round_pool, usable_items
from hare_gym.config import configure
from hare_gym.contract import Agent, Observation, SearchSpace, TaskSpec, nth_observation
from hare_gym.errors import ConfigError, DataError

Array = NDArray[np.float64]

OWNER = "agent 'vw'"
NAMESPACES = {"q": "the query", "u": "the user", "i": "the item's vector", "a": "the item's index"}


@dataclass(frozen=True)
class VowpalWabbitConfig:
    """Knobs of `VowpalWabbit`. Unless a line says otherwise a default is Vowpal Wabbit's own.

    Attributes:
        exploration: ``epsilon-greedy``; ``squarecb`` (Foster & Rakhlin 2020); ``regcb`` (RegCB-opt of Foster et al.
            2018: the item of the highest confidence bound); ``softmax``.
        epsilon: Share of rounds drawn uniformly, for ``epsilon-greedy``.
        gamma_scale: Greediness of ``squarecb``, whose gamma is ``gamma_scale * t ** gamma_exponent``.
        gamma_exponent: How fast that greediness grows.
        mellowness: Width of the confidence bounds of ``regcb``. (Vowpal Wabbit's is 0.1 here and 1e-3 in its
            ``squarecb``; ours is the latter, after 0.1 was seen to learn much more slowly both on a linear toy with
            four items and on one seed of ``HareLinear-v0``.)
        softmax_lambda: Inverse temperature of ``softmax``. (Vowpal Wabbit's is 1, at which costs in [0, 1] leave
            the choice nearly uniform; ours is 10.)
        interactions: Products of namespaces, separated by spaces, a letter each: ``q`` the query, ``u`` the user,
            ``i`` the item's vector, ``a`` the item's index. (Vowpal Wabbit has none; ours are both contexts, and
            their product, with the item. ``"qi ui qui qqi"`` adds the query's squares.)
        item_ids: Whether each item also has a weight of its own (namespace ``a``), where the pool never changes.
        learning_rate: Of the adaptive, normalised, invariant gradient step.
        power_t: How fast the learning rate falls.
        l2: Weight decay.
        bits: The weights' table has ``2 ** bits`` entries.
    """

    exploration: str = field(
        default="epsilon-greedy",
        metadata={"choices": ("epsilon-greedy", "squarecb", "regcb", "softmax")},
    )
    epsilon: float = field(default=0.05, metadata={"low": 0, "high": 1})
    gamma_scale: float = field(default=10.0, metadata={"above": 0})
    gamma_exponent: float = field(default=0.5, metadata={"low": 0})
    mellowness: float = field(default=1e-3, metadata={"above": 0})
    softmax_lambda: float = field(default=10.0, metadata={"above": 0})
    interactions: str = "qi ui qui"
    item_ids: bool = True
    learning_rate: float = field(default=0.5, metadata={"above": 0})
    power_t: float = field(default=0.5, metadata={"low": 0})
    l2: float = field(default=0.0, metadata={"low": 0})
    bits: int = field(default=18, metadata={"low": 8, "high": 28})

    def __post_init__(self) -> None:
        for product in self.interactions.split():
            for letter in product:
                if letter not in NAMESPACES or len(product) < 2:
                    known = ", ".join(f"{name} ({meaning})" for name, meaning in NAMESPACES.items())
                    raise ConfigError(f"{OWNER}: interaction {product!r} must be two or more letters out of {known}.")

    def arguments(self) -> list[str]:
        """The command line."""
        exploration = {
            "epsilon-greedy": ["--epsilon", str(self.epsilon)],
            "squarecb": [
                *("--squarecb", "--gamma_scale", str(self.gamma_scale)),
                *("--gamma_exponent", str(self.gamma_exponent)),
            ],
            "regcb": ["--regcbopt", "--mellowness", str(self.mellowness)],
            "softmax": ["--softmax", "--lambda", str(self.softmax_lambda)],
        }[self.exploration]
        products = [part for product in self.interactions.split() for part in ("--interactions", product)]
        return [
            *("--cb_explore_adf", "--cb_type", "mtr", "--quiet", "--preserve_performance_counters"),
            *exploration,
            *products,
            *("--learning_rate", str(self.learning_rate), "--power_t", str(self.power_t)),
            *("--l2", str(self.l2), "--bit_precision", str(self.bits)),
        ]


class VowpalWabbit(Agent):
    """Linear regression of the cost on hashed products of query, user and item, with Vowpal Wabbit's exploration.

    The cost is ``1 - reward``, which is what ``regcb`` and ``squarecb`` expect (costs in [0, 1]). Costs are
    regressed with importance weights (``mtr``). The item is drawn by the agent's own generator from Vowpal
    Wabbit's distribution over the usable items, and the chance of the drawn one goes into the label, as of the
    moment when it was drawn. A reward for an item that is not among the last drawn is learned from with the chance
    that the item has now (or as if drawn uniformly, where that is none).

    Rewards may be missing; ``act_batch`` may decide for many users before the first reward comes.

    **State**: Vowpal Wabbit's own model format, as bytes (it is no pickle); a loaded agent goes on exactly. Vowpal
    Wabbit's ``cover`` and ``bag`` are left out, the first because its model format keeps only part of what it learns,
    the second because its resampling is drawn inside Vowpal Wabbit.

    Source: Bietti, Agarwal & Langford 2021, "A Contextual Bandit Bake-off", JMLR 22; Langford, Li & Strehl,
    "Vowpal Wabbit".

    Raises:
        MissingPackageError: ``vowpalwabbit`` is not installed.
        UnknownNameError: A knob, or an exploration, that does not exist.
        ConfigError: A knob's value out of range, or interactions of unknown namespaces.
    """

    modes = frozenset({"select"})
    libraries = ("vowpalwabbit",)
    search_space: ClassVar[SearchSpace] = {
        "exploration": {"type": "choice", "values": ["epsilon-greedy", "squarecb", "regcb"]},
        "epsilon": {"type": "float", "low": 0.005, "high": 0.3, "log": True},
        "gamma_scale": {"type": "float", "low": 1.0, "high": 1000.0, "log": True},
        "mellowness": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "interactions": {"type": "choice", "values": ["qi ui qui", "qi ui qui qqi"]},
        "learning_rate": {"type": "float", "low": 0.03, "high": 3.0, "log": True},
    }

    def __init__(self, **knobs: Any) -> None:
        self.config = configure(VowpalWabbitConfig, knobs, OWNER)
        _library()

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Starts an empty model."""
        super().reset(spec, rng)
        self._lines = None if spec.pool is None else self._item_lines(spec.pool, ids=self.config.item_ids)
        self._start()

    def _start(self, model: Path | None = None) -> None:
        arguments = self.config.arguments()
        if model is not None:
            arguments += ["--initial_regressor", str(model)]
        self._vw = _library().Workspace(arg_list=arguments)
        self._saved: NDArray[np.uint8] | None = None
        self._pending: dict[bytes, float] = {}

    @staticmethod
    def _item_lines(pool: Array, ids: bool) -> list[str]:
        lines = [f"|i {_features(row)}" for row in pool.tolist()]
        return [f"{line} |a {k}" for k, line in enumerate(lines)] if ids else lines

    def _example(self, observation: Observation) -> tuple[list[str], NDArray[np.intp]]:
        """The text of a round, its shared line first, and the indices of the items in it."""
        query = np.asarray(observation["query"], dtype=np.float64)
        if not np.isfinite(query).all():
            raise DataError(f"{OWNER}: the query holds NaN or infinity.")
        items = usable_items(self.spec, observation)
        if self._lines is None:
            pool = round_pool(self.spec, observation)[0][items]
            if not np.isfinite(pool).all():
                raise DataError(f"{OWNER}: an item's vector holds NaN or infinity.")
            lines = self._item_lines(pool, ids=False)
        else:
            lines = [self._lines[k] for k in items]
        return [f"shared |q {_features(query.tolist())} |u {int(observation['user'])}", *lines], items

    def act(self, observation: Observation) -> int:
        """The index of an item drawn from Vowpal Wabbit's distribution."""
        return self._act([observation])[0]

    def act_batch(self, observations: Observation) -> NDArray[np.int64]:
        """B items, ``(B,)``, all before the next reward."""
        size = len(observations["user"])
        return np.array(self._act([nth_observation(observations, i) for i in range(size)]))

    def _act(self, observations: list[Observation]) -> list[int]:
        self._pending = {}
        actions = []
        for observation in observations:
            p = self.probabilities(observation)
            cumulative = np.cumsum(p)
            action = int(np.searchsorted(cumulative, self.rng.random() * cumulative[-1], side="right"))
            self._pending[_key(observation, action)] = float(p[action])
            actions.append(action)
        return actions

    def probabilities(self, observation: Observation) -> Array:
        """Exact: Vowpal Wabbit's distribution, ``(num_items,)``."""
        lines, items = self._example(observation)
        p = np.zeros(self.spec.num_items)
        p[items] = self._vw.predict(lines)
        p /= p.sum()
        return p

    def update(self, observation: Observation, action: Any, reward: float) -> None:
        """One step of learning from ``(action, 1 - reward, chance of action)``.

        Raises:
            DataError: A reward or a query that is not finite, or an item that could not be shown.
        """
        cost = 1.0 - finite_reward(OWNER, reward)
        lines, items = self._example(observation)
        place = int(np.searchsorted(items, action))
        if place == len(items) or items[place] != action:
            raise DataError(f"{OWNER}: item {action} could not be used in the round that it is to learn from.")
        chance = self._pending.get(_key(observation, int(action)))
        if chance is None:
            chance = float(self.probabilities(observation)[action]) or 1.0 / len(items)
        lines[place + 1] = f"0:{cost:.9g}:{chance:.9g} {lines[place + 1]}"
        self._vw.learn(lines)
        self._saved = None

    def state(self) -> dict[str, NDArray[Any]]:
        """``model``: Vowpal Wabbit's binary model, uint8."""
        # saved once for each thing learned: a model also counts what it is merely asked, which changes only its bytes
        if self._saved is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.vw"
                self._vw.save(path)
                self._saved = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        return {"model": self._saved.copy()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave.

        Raises:
            DataError: The bytes are no model of Vowpal Wabbit, or one with other arguments.
        """
        if "model" not in state or state["model"].dtype != np.uint8:
            raise DataError(f"{OWNER}: the state must hold 'model', the bytes of a Vowpal Wabbit model as uint8.")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.vw"
            path.write_bytes(state["model"].tobytes())
            try:
                self._start(path)
            except RuntimeError as error:
                raise DataError(f"{OWNER}: the state's model could not be loaded: {error}") from error


def _library() -> Any:
    return optional_package("vowpalwabbit", "vowpalwabbit", "peers")


def _features(values: list[float]) -> str:
    return " ".join([f"{j}:{value:.9g}" for j, value in enumerate(values)])


def _key(observation: Observation, action: int) -> bytes:
    return np.asarray(observation["query"]).tobytes() + b"%d %d" % (observation["user"], action)
