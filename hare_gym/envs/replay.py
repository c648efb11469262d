"""``HareReplay-v0``: logged bandit data, played back to an agent that was not there."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec
from hare_gym.environment import Environment, check_horizon, item_index, readonly
from hare_gym.errors import ConfigError, DataError
from hare_gym.tables import Table, encode, read_table

Array = NDArray[np.float64]

MODES: tuple[ActionMode, ...] = ("select",)

HOW_TO_GET_OBD = (
    "A sample of the Open Bandit Dataset comes inside a package of its authors: run "
    "'pip download --no-deps obp==0.4.1' and 'unzip obp-0.4.1-py3-none-any.whl', and give layout='obd' and "
    "path='obp/dataset/obd/random/all' (or random/men, random/women, bts/all, ...)."
)


@dataclass(frozen=True, eq=False)
class LoggedData:
    """What a logging policy showed, to whom, with what chance, and what came of it. Its arrays are read-only views.

    Attributes:
        contexts: What was known before the choice, float64 ``(n, d)``.
        users: Each event's user, int64 ``(n,)``.
        actions: The item shown, int64 ``(n,)``, from 0 to N - 1.
        rewards: In [0, 1], float64 ``(n,)``.
        propensities: The chance that the logging policy had of showing that item, float64 ``(n,)``, in (0, 1].
        pool: The items' vectors, float64 ``(N, m)``.

    Raises:
        DataError: Arrays of unequal length, or values outside the ranges above.
    """

    contexts: Array
    users: NDArray[np.int64]
    actions: NDArray[np.int64]
    rewards: Array
    propensities: Array
    pool: Array

    def __post_init__(self) -> None:
        for part in fields(self):
            dtype = np.int64 if part.name in ("users", "actions") else np.float64
            object.__setattr__(self, part.name, readonly(np.asarray(getattr(self, part.name), dtype=dtype).view()))
        n = len(self.actions)
        if not n:
            raise DataError("A log needs at least one event.")
        for name, limit in (("contexts", 2), ("users", 1), ("rewards", 1), ("propensities", 1)):
            array = getattr(self, name)
            if array.ndim != limit or len(array) != n:
                raise DataError(f"A log of {n} actions needs {n} {name}, not an array of shape {array.shape}.")
        for name, bad, rule in (
            ("contexts", ~np.isfinite(self.contexts).all(axis=1), "finite"),
            ("actions", (self.actions < 0) | (self.actions >= len(self.pool)), f"from 0 to {len(self.pool) - 1}"),
            ("rewards", ~((self.rewards >= 0.0) & (self.rewards <= 1.0)), "in [0, 1]"),
            ("propensities", ~((self.propensities > 0.0) & (self.propensities <= 1.0)), "in (0, 1]"),
        ):
            if bad.any():
                row = int(bad.argmax())
                raise DataError(
                    f"A log's {name} must be {rule}; event {row} has {getattr(self, name)[row].tolist()}."
                )

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.pool)

    @cached_property
    def constant_propensity(self) -> float | None:
        """The one propensity of every event, or ``None`` where they differ."""
        p = self.propensities
        return float(p[0]) if np.ptp(p) <= 1e-6 * p[0] else None

    @property
    def is_uniform(self) -> bool:
        """Whether every item had the same chance in every event, which unbiased replay needs."""
        p = self.constant_propensity
        return p is not None and abs(p * self.num_items - 1.0) < 1e-3

    def take(self, index: NDArray[np.int64]) -> LoggedData:
        """The events at ``index``, in that order."""
        return LoggedData(
            self.contexts[index],
            self.users[index],
            self.actions[index],
            self.rewards[index],
            self.propensities[index],
            self.pool,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every array."""
        digest = hashlib.sha256()
        for part in fields(self):
            array = np.ascontiguousarray(getattr(self, part.name))
            digest.update(f"{part.name} {array.dtype} {array.shape}\n".encode() + array.tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoggedData) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True)
class ReplayConfig:
    """The knobs of `HareReplay`.

    Attributes:
        path: The log: a CSV or Parquet file, or with ``layout="obd"`` a folder.
        layout: ``columns``: the knobs below name the columns. ``obd``: the Open Bandit Dataset's own files.
        context: Columns that were known before the choice (a list); text is encoded one-hot.
        action: Column of the item shown, 0 to N - 1.
        reward: Column of the reward.
        propensity: Column of the chance that the logging policy had of showing that item.
        user: Column of the user, if there is one.
        position: Column of the place on the page, if there is one; it joins the context, one-hot.
        items: A CSV or Parquet file with one row an item: its number in a column named as ``action`` says, and
            features. Without it an item is its number and nothing more.
        num_items: N, where the log may not show every item; by default one more than the largest in it.
        reward_range: ``[low, high]`` of rewards that are not in [0, 1]; they are scaled to it.
        horizon: Events offered, T; all of them by default.
        shuffle: Whether each session draws its events in a random order; ``False`` keeps the log's.
    """

    path: str | None = None
    layout: str = field(default="columns", metadata={"choices": ("columns", "obd")})
    context: Any = ()
    action: str = "action"
    reward: str = "reward"
    propensity: str = "propensity"
    user: str | None = None
    position: str | None = None
    items: str | None = None
    num_items: int | None = field(default=None, metadata={"low": 2})
    reward_range: Any = (0.0, 1.0)
    horizon: int | None = field(default=None, metadata={"low": 1})
    shuffle: bool = False

    def __post_init__(self) -> None:
        if self.path is None:
            raise ConfigError(f"HareReplay: path is missing: it says where the logged data are. {HOW_TO_GET_OBD}")
        if not isinstance(self.context, list | tuple) or not all(isinstance(name, str) for name in self.context):
            raise ConfigError(f"HareReplay: context must be a list of column names, not {self.context!r}.")
        object.__setattr__(self, "context", tuple(self.context))
        try:
            low, high = (float(bound) for bound in self.reward_range)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not -np.inf < low < high < np.inf:
            raise ConfigError(f"HareReplay: reward_range must be [low, high], low < high, not {self.reward_range!r}.")
        object.__setattr__(self, "reward_range", (low, high))
        if self.layout == "obd":
            named = [
                item.name
                for item in fields(self)
                if item.name in _COLUMNS_ONLY and getattr(self, item.name) != item.default
            ]
            if named:
                raise ConfigError(f"HareReplay: layout 'obd' knows its columns; leave out {', '.join(named)}.")
        elif not self.context and self.user is None:
            raise ConfigError(
                "HareReplay: context is missing: list the columns that were known before the choice "
                "(context=['age', 'device']), name a user column, or give layout='obd'."
            )


_COLUMNS_ONLY = ("context", "action", "reward", "propensity", "user", "position", "items", "num_items")


class HareReplay(Environment):
    """Somebody else's log, played back: an agent is shown each logged event and learns where it agrees with the log.

    One step is one logged event. The agent sees its context and chooses an item. If that is the item the log shows,
    the agent receives the logged reward; otherwise nobody knows what would have happened, ``info["observed"]`` is
    ``False``, and the runner neither counts the round nor lets the agent learn from it. This is the replay method of
    Li, Chu, Langford and Wang (2011), Algorithm 2: under a logging policy that shows **every item with the same
    chance**, the matched events are distributed as if the agent had run live, so their mean reward is unbiased. Under
    any other logging policy it is not (the environment warns once when a log's propensities are not uniform): read
    the IPS and doubly-robust estimates of ``hare_evaluation.off_policy`` there. They use every event of
    ``env.unwrapped.log``, the session's events as arrays.

    Layouts: ``columns`` reads a CSV or Parquet file and is told which column is which. ``obd`` reads a folder of the
    Open Bandit Dataset (Saito et al. 2021), such as ``obd/random/all`` with ``all.csv`` and ``item_context.csv``:
    the reward is the click, the context is the four hashed user features and the position, and an item is its
    ``item_feature_0`` to ``item_feature_3``. The user-item affinities, almost all zero, are left out.

    **Action space.** ``select``: ``Discrete(num_items)``.

    **Observation space.** ``query``: ``Box(d)``, float64: each numeric column standardised, each text column and the
    position one-hot (levels sorted), all divided by the square root of the number of columns, so that the mean
    squared length is 1. ``user``: ``Discrete(num_users)``, the users sorted; ``Discrete(1)`` without a user column.
    The pool is encoded from the items' features in the same way, or the identity matrix without them. The
    observation after the last round repeats the last round's.

    **Reward.** The logged reward where the choice matches, scaled to [0, 1] by ``reward_range``, else 0 and not
    observed. ``info`` also holds ``logged_action``, ``logged_reward`` and ``propensity``.

    **Oracle.** None: a log does not tell what the best item would have earned. ``oracle_reward`` and
    ``catalogue_oracle_reward`` are 1, the largest possible reward, which is a bound of unknown width, and ``regret``
    is 1 minus ``expected_reward``; compare agents by reward, not by the level of this regret. ``expected_reward`` is
    the logged reward where it was observed (an unbiased draw of the unknown mean) and the log's mean reward, a
    placeholder that nobody counts, where it was not. ``optimal_action()`` raises an error.

    **Knobs.** `ReplayConfig` lists them all: ``path``, ``layout``, the columns' names, ``items``, ``num_items``,
    ``reward_range``, ``horizon`` and ``shuffle``.

    **Version history.** v0: first version.
    """

    modes = MODES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(ReplayConfig, knobs, "HareReplay")
        self._data = load_log(self.config)
        horizon = len(self._data) if self.config.horizon is None else self.config.horizon
        check_horizon("HareReplay", horizon, len(self._data))
        self._order = np.arange(horizon)
        self._log: LoggedData | None = None
        self._mean_reward = float(self._data.rewards.mean())
        self._set_task(
            TaskSpec(
                id="HareReplay-v0",
                action_mode=self.action_mode,
                horizon=horizon,
                num_users=int(self._data.users.max()) + 1,
                query_dim=self._data.contexts.shape[1],
                content_dim=self._data.pool.shape[1],
                num_items=self._data.num_items,
                pool=self._data.pool,
                # the path may come to lead to other data, which is then another task
                reward_version=f"1 of {self._data.digest[:16]}",
                kwargs=dict(knobs),
            )
        )

    @property
    def log(self) -> LoggedData:
        """The events of this session, in the order in which they are offered."""
        if self._log is None:
            whole = len(self._order) == len(self._data) and not self.config.shuffle
            self._log = self._data if whole else self._data.take(self._order)
        return self._log

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts the log from its first event; with ``shuffle``, in a new order."""
        super().reset(seed=seed)
        if self.config.shuffle:
            self._order = self.np_random.permutation(len(self._data))[: self.task.horizon]
            self._log = None
        self._t = 0
        self._prepare()
        self._start_rendering()
        return self._observation(), {}

    def _prepare(self) -> None:
        self._i = int(self._order[self._t])

    def _observation(self) -> dict[str, Any]:
        return {"query": self._data.contexts[self._i].copy(), "user": self._data.users[self._i]}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Offers one logged event.

        Raises:
            ActionError: An action that is not an item's number; the event is not spent.
        """
        data, i = self._data, self._i
        chosen, shown = item_index(action, data.num_items), int(data.actions[i])
        logged_reward = float(data.rewards[i])
        observed = chosen == shown
        expected = logged_reward if observed else self._mean_reward
        info = self._info(
            expected,
            1.0,
            1.0,
            observed=observed,
            logged_action=shown,
            logged_reward=logged_reward,
            propensity=float(data.propensities[i]),
        )
        return self._end_round(int(data.users[i]), chosen, logged_reward if observed else 0.0, info)

    def optimal_action(self) -> NoReturn:
        """There is none.

        Raises:
            ConfigError: Always: a log tells what one item earned, never what another would have.
        """
        raise ConfigError(
            "HareReplay has no optimal action: a log does not tell what the items that were not shown would have "
            "earned, so an oracle cannot play it. Leave the oracle agent out."
        )


def load_log(config: ReplayConfig) -> LoggedData:
    """The whole log that ``config`` names; an unchanged file is read once.

    Raises:
        UnknownNameError: A column that the file does not have.
        DataError: A file or a value that cannot be used; the message names the column and the first such row.
    """
    assert config.path is not None
    if config.layout == "obd":
        folder = Path(config.path).expanduser()
        events = _obd_events(folder)
        items: Path | None = folder / "item_context.csv"
    else:
        events = Path(config.path).expanduser()
        items = None if config.items is None else Path(config.items).expanduser()
    log, item_table = read_table(events), None if items is None else read_table(items)
    return _load(log, item_table, replace(config, horizon=None, shuffle=False))


def _obd_events(folder: Path) -> Path:
    """The log in a folder of the Open Bandit Dataset: ``<campaign>.csv`` beside ``item_context.csv``."""
    if not folder.is_dir():
        raise DataError(f"HareReplay: there is no folder {str(folder)!r}. {HOW_TO_GET_OBD}")
    tables = sorted(file for file in folder.glob("*.csv") if file.name != "item_context.csv")
    if len(tables) != 1 or not (folder / "item_context.csv").is_file():
        below = ", ".join(sorted(str(file.parent.relative_to(folder)) for file in folder.rglob("item_context.csv")))
        hint = f" Folders below it that do: {below}." if below else f" {HOW_TO_GET_OBD}"
        raise DataError(
            f"HareReplay: the folder {str(folder)!r} does not hold item_context.csv and one more CSV file.{hint}"
        )
    return tables[0]


# keyed by the tables themselves, which `read_table` keeps while their files are unchanged
@lru_cache(maxsize=8)
def _load(log: Table, items: Table | None, config: ReplayConfig) -> LoggedData:
    if config.layout == "obd":
        context = [f"user_feature_{i}" for i in range(4)]
        action, reward, propensity, position = "item_id", "click", "propensity_score", "position"
        user: str | None = None
    else:
        context = list(config.context)
        action, reward, propensity = config.action, config.reward, config.propensity
        user, position = config.user, config.position  # type: ignore[assignment]
    actions = log.integers(action)
    _first_bad(log, action, actions < 0, actions, "item numbers start at 0")
    pool = _pool(items, action, config.num_items, int(actions.max()) + 1)
    _first_bad(log, action, actions >= len(pool), actions, f"there are {len(pool)} items, 0 to {len(pool) - 1}")
    propensities = log.numbers(propensity)
    bad = ~((propensities > 0.0) & (propensities <= 1.0))
    _first_bad(log, propensity, bad, propensities, "a propensity is a chance greater than 0 and at most 1")
    users = np.zeros(len(log), dtype=np.int64) if user is None else log.levels(user)[1]
    columns = [*context, *([position] if position else [])]
    contexts = encode(log, columns, categorical=[position] if position else []) if columns else np.ones((len(log), 1))
    data = LoggedData(contexts, users, actions, _scaled(log, reward, config.reward_range), propensities, pool)
    if not data.is_uniform:
        p = data.constant_propensity
        shown = f"are all {p:.6g}, not 1/{len(pool)}" if p else "differ from event to event"
        warnings.warn(
            f"{log.name}: the logging policy was not uniform (propensities {shown}), so the rewards that replay "
            "observes are biased. Read the IPS, SNIPS and doubly-robust estimates instead."
        )
    return data


def _scaled(log: Table, reward: str, reward_range: tuple[float, float]) -> Array:
    low, high = reward_range
    values = log.numbers(reward)
    rule = f"rewards lie in [{low:g}, {high:g}]; give reward_range=[{values.min():g}, {values.max():g}] or wider"
    _first_bad(log, reward, (values < low) | (values > high), values, rule)
    return (values - low) / (high - low)


def _pool(items: Table | None, action: str, num_items: int | None, seen: int) -> Array:
    """The items' vectors, in the order of their numbers."""
    if items is None:
        return np.eye(num_items or max(seen, 2))
    numbers = items.integers(action)
    order = np.argsort(numbers, kind="stable")
    if not np.array_equal(numbers[order], np.arange(len(numbers))):
        raise DataError(
            f"{items.name}: column {action!r} must number the rows: each of 0 to {len(numbers) - 1} once."
        )
    if num_items not in (None, len(numbers)):
        raise ConfigError(f"HareReplay: num_items is {num_items}, but {items.name} describes {len(numbers)} items.")
    return encode(items, [name for name in items.columns if name != action])[order]


def _first_bad(table: Table, column: str, bad: Iterable[Any], values: NDArray[Any], rule: str) -> None:
    bad = np.asarray(bad)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{table.name}: column {column!r} holds {values[row].item()!r} in row {row + 1}; {rule}.")
