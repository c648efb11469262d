"""The contract between environments, agents and the runner.

An **observation** is a flat dict: ``query`` (float64, shape ``(query_dim,)``) and ``user`` (an integer), and
where a task has them ``query_text`` (str), ``pool`` (float64, ``(num_items, content_dim)``, padded),
``pool_mask`` (int8, ``(num_items,)``, 1 for an item that can be used this round; a fixed pool may have one too) and
``pool_text`` (str: the texts of the mask's items, in order, with a form feed between them; see
:func:`pool_texts_of`).

An **action** depends on the task's mode: ``select`` (an item's index), ``slate`` (``slate_size`` indices),
``synthesize`` (a content vector, ``(content_dim,)``, in the unit ball), ``write`` (a text). An environment plays
whatever its action space holds: an item that ``pool_mask`` leaves out, or that a slate repeats, earns nothing.

An **episode** is a session of ``horizon`` rounds over a population of users, ended by truncation. A reward
lies in [0, 1]. ``info`` is for the runner only; its keys are :data:`INFO_KEYS`. What a product would see of a round
besides its reward (which item of a slate was clicked) is an **outcome**, numbers by name, for :meth:`Agent.feedback`.
"""

from __future__ import annotations

import hashlib
import json
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hare_gym.errors import ContractError

Observation: TypeAlias = Mapping[str, Any]
Action: TypeAlias = Any
ActionMode: TypeAlias = Literal["select", "slate", "synthesize", "write"]

ACTION_MODES: tuple[ActionMode, ...] = ("select", "slate", "synthesize", "write")

INFO_KEYS = ("expected_reward", "oracle_reward", "catalogue_oracle_reward", "regret")
"""What ``step`` tells the runner: the mean of the reward just drawn; the best mean that any content could
have had; the best mean of an existing item; and the regret, which is the best that the task's *action mode*
could have reached (an item for ``select`` and ``slate``, any content for the others) minus the first. The
reward's parts stand beside them by name. ``observed = False`` marks a round whose reward nobody saw (a logged
round in which another item was shown): the runner then neither counts it nor calls ``update``. ``outcome``, where a
task has it, goes to ``feedback``. Of parts that the environment lists in its ``measures`` the runner keeps sums."""

SearchSpace: TypeAlias = Mapping[str, Mapping[str, Any]]
"""What ``hare tune`` may try, by hyperparameter: ``{"type": "float" | "int", "low", "high", "log"}``, both ends
included and ``log`` optional, or ``{"type": "choice", "values"}``. A dot in the name leads into a mapping:
``"kwargs.n_steps"`` is the entry ``n_steps`` of the hyperparameter ``kwargs``."""

TEXT_CHARSET = string.printable + "–—‘’“”…•→×°éèêëàâäáçñóôöúüßí"
"""Every character that a text space admits; :func:`sanitise` maps any string into it."""


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """What an agent may know of a task before its first round. Immutable, JSON-serialisable, hashed.

    Attributes:
        id: The environment's registered id, such as ``"HareBilinear-v0"``.
        action_mode: One of :data:`ACTION_MODES`.
        horizon: Rounds in the session, T.
        num_users: Users in the population; ``observation["user"]`` is below it.
        query_dim: Length of ``observation["query"]``.
        content_dim: Length of an item's vector, and of a synthesized one.
        num_items: Items in the pool, N.
        slate_size: Items in a slate, k; 1 in the other modes.
        pool: The items' vectors, float64 ``(num_items, content_dim)``, read-only; ``None`` where the pool
            changes from round to round and comes with the observation.
        pool_texts: The items' texts, where the task has them.
        has_query_text: Whether observations carry ``query_text``.
        has_pool_text: Whether observations carry ``pool_text``, for pools that change from round to round.
        has_pool_mask: Whether observations carry ``pool_mask`` though the pool is fixed, for items that come or go.
        text_length: The longest text, in characters, of a query, of a written action or of an item of ``pool_text``.
        encoder: The name of the encoder that made the vectors, if one did.
        reward_version: Changes when the reward's meaning does.
        kwargs: The environment's knobs, as given to ``gymnasium.make``.
    """

    id: str
    action_mode: ActionMode
    horizon: int
    num_users: int
    query_dim: int
    content_dim: int
    num_items: int
    slate_size: int = 1
    pool: NDArray[np.float64] | None = None
    pool_texts: tuple[str, ...] | None = None
    has_query_text: bool = False
    text_length: int = 8192
    encoder: str | None = None
    reward_version: str = "1"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    has_pool_text: bool = False
    has_pool_mask: bool = False

    def __post_init__(self) -> None:
        if self.pool is not None:
            pool = np.array(self.pool, dtype=np.float64)
            pool.setflags(write=False)
            object.__setattr__(self, "pool", pool)

    def to_json(self) -> str:
        """The canonical JSON text: sorted keys, no NaN, floats that read back to the same bits."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["pool"] = None if self.pool is None else self.pool.tolist()
        values["kwargs"] = dict(self.kwargs)
        for name in ("has_pool_text", "has_pool_mask"):
            if not values[name]:  # younger than the first records, whose digests stay
                del values[name]
        return json.dumps(values, sort_keys=True, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TaskSpec:
        """Reads what :meth:`to_json` wrote."""
        values = json.loads(text)
        if values["pool"] is not None:
            values["pool"] = np.array(values["pool"], dtype=np.float64)
        if values["pool_texts"] is not None:
            values["pool_texts"] = tuple(values["pool_texts"])
        return cls(**values)

    @property
    def digest(self) -> str:
        """SHA-256 of the task: its JSON with the pool's bytes in place of the pool's decimals."""
        pool = b"" if self.pool is None else self.pool.tobytes()
        rest = replace(self, pool=None).to_json().encode()
        return hashlib.sha256(rest + b"\n" + hashlib.sha256(pool).digest()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSpec) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class Agent(ABC):
    """One learner. Subclass it, write ``act`` and ``update``, and every environment can be played.

    An agent sees observations and rewards, never ``info``, and logs nothing. Its randomness is the generator
    given to :meth:`reset`, and nothing else.

    Attributes:
        modes: The action modes that the agent can play.
        search_space: The hyperparameters that ``hare tune`` may choose, and among which values; empty for none.
        libraries: Distributions, by their names on the package index, whose versions decide what the agent does; they
            are part of a run's key.
        privileged: Whether the runner hands the environment itself to :meth:`attach` (an oracle, for tests).
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"select"})
    search_space: ClassVar[SearchSpace] = {}
    libraries: ClassVar[tuple[str, ...]] = ()
    privileged: ClassVar[bool] = False

    spec: TaskSpec
    rng: np.random.Generator

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets everything and prepares for a session of ``spec``. Overriders call it first."""
        self.spec = spec
        self.rng = rng

    @abstractmethod
    def act(self, observation: Observation) -> Action:
        """The action for one round. It must leave what was learned unchanged."""

    def update(self, observation: Observation, action: Action, reward: float) -> None:  # noqa: B027
        """Learns from one round's reward. An agent that does not learn leaves it out."""

    def feedback(self, observation: Observation, action: Action, outcome: Mapping[str, float]) -> None:  # noqa: B027
        """Learns from what was seen of a round besides its reward; called before ``update`` where there is any."""

    def act_batch(self, observations: Observation) -> Action:
        """Actions for B users of one world at once.

        Args:
            observations: As for :meth:`act`, each value with a leading axis of length B.

        Returns:
            The B actions, stacked as the vector environment's action space wants them.
        """
        size = len(observations["user"])
        return stack_actions([self.act(nth_observation(observations, i)) for i in range(size)])

    def update_batch(self, observations: Observation, actions: Action, rewards: NDArray[np.float64]) -> None:
        """Learns from the B rewards of one :meth:`act_batch`, in order."""
        for i, reward in enumerate(rewards):
            self.update(nth_observation(observations, i), actions[i], float(reward))

    def feedback_batch(
        self, observations: Observation, actions: Action, outcomes: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Learns from the outcomes of one :meth:`act_batch`, each value with a leading axis of length B."""
        for i in range(len(observations["user"])):
            outcome = {name: float(values[i]) for name, values in outcomes.items()}
            self.feedback(nth_observation(observations, i), actions[i], outcome)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything learned, as arrays by name (no pickles: they go to npz or safetensors)."""
        return {}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:  # noqa: B027
        """Takes back what :meth:`state` gave, after a ``reset`` with the same task."""

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """The chance of each item under ``act``, ``(num_items,)``, or ``None`` where it is not known.

        Off-policy estimates use it; without it they use the action that was drawn, which is unbiased too
        but noisier.
        """
        return None

    def diagnostics(self) -> dict[str, float]:
        """Numbers worth a curve (attention entropy, a user's uncertainty), read at the runner's checkpoints."""
        return {}

    def attach(self, env: Any) -> None:
        """Receives the unwrapped environment after each reset, if the agent is ``privileged``."""
        raise TypeError(f"{type(self).__name__} is not privileged.")


def nth_observation(observations: Observation, i: int) -> Observation:
    """User i's observation out of a batched one."""
    return {key: value[i] for key, value in observations.items()}


def stack_actions(actions: list[Action]) -> Action:
    """B single actions as one batched action: an array, or a tuple of texts."""
    return tuple(actions) if isinstance(actions[0], str) else np.stack(actions)


def observation_space(spec: TaskSpec) -> spaces.Dict:
    """The observation space that ``spec`` implies."""
    parts: dict[str, spaces.Space[Any]] = {
        "query": spaces.Box(-np.inf, np.inf, (spec.query_dim,), np.float64),
        "user": spaces.Discrete(spec.num_users),
    }
    if spec.has_query_text:
        parts["query_text"] = text_space(spec.text_length)
    if spec.pool is None:
        parts["pool"] = spaces.Box(-np.inf, np.inf, (spec.num_items, spec.content_dim), np.float64)
    if spec.pool is None or spec.has_pool_mask:
        parts["pool_mask"] = spaces.MultiBinary(spec.num_items)
    if spec.has_pool_text:
        parts["pool_text"] = text_space(spec.num_items * (spec.text_length + 1))
    return spaces.Dict(parts)


def action_space(spec: TaskSpec) -> spaces.Space[Any]:
    """The action space that ``spec`` implies."""
    if spec.action_mode == "select":
        return spaces.Discrete(spec.num_items)
    if spec.action_mode == "slate":
        return spaces.MultiDiscrete([spec.num_items] * spec.slate_size)
    if spec.action_mode == "synthesize":
        return spaces.Box(-1.0, 1.0, (spec.content_dim,), np.float32)
    return text_space(spec.text_length)


ITEM_SEPARATOR = "\f"


def pool_text_of(texts: Sequence[str], length: int) -> str:
    """The texts of a round's items as one ``pool_text``, each sanitised and cut to ``length`` characters."""
    return ITEM_SEPARATOR.join(sanitise(text.replace(ITEM_SEPARATOR, " "), length) for text in texts)


def pool_texts_of(observation: Observation) -> tuple[str, ...]:
    """The items' texts out of one round's ``pool_text``: one for each item of ``pool_mask``, in order.

    Raises:
        ContractError: The observation has no ``pool_text``.
    """
    if "pool_text" not in observation:
        raise ContractError(
            "The observation has no pool_text: look at spec.has_pool_text, and for a pool that stays read "
            "spec.pool_texts."
        )
    if not np.any(observation["pool_mask"]):
        return ()
    return tuple(observation["pool_text"].split(ITEM_SEPARATOR))


def text_space(length: int) -> spaces.Text:
    """Texts of up to ``length`` characters of :data:`TEXT_CHARSET`, the empty one included."""
    return spaces.Text(length, min_length=0, charset=TEXT_CHARSET)


_ADMITTED = frozenset(TEXT_CHARSET)


def sanitise(text: str, length: int) -> str:
    """``text`` with each character outside :data:`TEXT_CHARSET` as ``?``, cut to ``length`` characters."""
    text = text[:length]
    if _ADMITTED.issuperset(text):  # nearly always, and many times as fast
        return text
    return "".join(c if c in _ADMITTED else "?" for c in text)
