"""``HareClassification-v0``: a labelled table played as a contextual bandit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec
from hare_gym.environment import Environment, item_index, readonly
from hare_gym.errors import ConfigError, DataError, unknown_name
from hare_gym.tables import ENDINGS, Table, encode, read_table

MODES: tuple[ActionMode, ...] = ("select",)

BUILT_IN = ("breast_cancer", "digits", "wine")


@dataclass(frozen=True)
class ClassificationConfig:
    """The knobs of `HareClassification`.

    Attributes:
        table: A data set inside scikit-learn (``digits``, ``breast_cancer``, ``wine``), or the path of a CSV or
            Parquet file of one's own.
        label: The column with the classes, for files; the last one by default.
        horizon: Rounds in a session, T. By default each row once; a longer session goes round again, each time in
            a new order.
        noise: The chance that a round's answer is judged the wrong way round, p; at most 1/2, which leaves
            nothing to learn.
        costs: ``random`` gives each class a hidden price in [0, 1/2]; ``none`` gives none.
        scale: Whether the columns are standardised; ``False`` leaves numbers as they are.
    """

    table: str = "digits"
    label: str | None = None
    horizon: int | None = field(default=None, metadata={"low": 1})
    noise: float = field(default=0.0, metadata={"low": 0, "high": 0.5})
    costs: str = field(default="none", metadata={"choices": ("none", "random")})
    scale: bool = True


class HareClassification(Environment):
    """Real data with known answers: each round shows a row of a table, and the agent guesses its class.

    Rows come in a random order drawn from the seed, each once before any comes again. The agent learns only whether
    its own guess was right, never what would have been right: a classification task turned into a contextual bandit
    (Dudík et al. 2011, section 4). Nobody simulated the contexts, and the oracle is still exact.

    Built in are the tables that ship inside scikit-learn: ``digits`` (1,797 rows, 64 columns, 10 classes),
    ``breast_cancer`` (569, 30, 2) and ``wine`` (178, 13, 3). Any CSV or Parquet file works by its path.

    **Action space.** ``select``: ``Discrete(num_classes)``; classes are numbered in sorted order of their labels
    (``env.unwrapped.classes``).

    **Observation space.** ``query``: ``Box(d)``, float64: each numeric column standardised, each text column
    one-hot, all divided by the square root of the number of columns, so that the mean squared length is 1 (constant
    columns become 0 and add nothing). ``user``: ``Discrete(1)``. The pool is the identity matrix: an item's content
    is its class and nothing more. The observation after the last round repeats the last round's.

    **Reward.** The bit b is 1 for the right class and 0 for a wrong one, flipped with probability ``noise``. Without
    costs the reward is b. With ``costs="random"`` class a has a hidden price c_a ~ U(0, 1/2), drawn by
    ``reset(seed=...)``, that is paid whenever a is chosen, and a wrong answer costs 1/2:
    ``reward = 1 - (1 - b)/2 - c_a``, in [0, 1]. Whether round t's bit is flipped depends on the seed and t alone, so
    agents compared on a seed meet the same rows and the same luck.

    **Oracle.** Exact: the mean of b is 1 - p for the right class and p for the others, and the oracle is the maximum
    of the mean reward over the classes. With costs and noise a cheap wrong class can be the best one. No content
    exists beside the classes, so both oracles are equal.

    **Knobs.** `ClassificationConfig`: ``table``, ``label``, ``horizon``, ``noise``, ``costs``, ``scale``.

    **Version history.** v0: first version.
    """

    modes = MODES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(ClassificationConfig, knobs, "HareClassification")
        table, label = _table(self.config)
        self.classes, self._labels = _classes(table, label)
        features = [name for name in table.columns if name != label]
        self._contexts = readonly(encode(table, features, self.config.scale))
        self.costs = np.zeros(len(self.classes))
        self._drawn = False
        self._set_task(
            TaskSpec(
                id="HareClassification-v0",
                action_mode=self.action_mode,
                horizon=self.config.horizon or len(table),
                num_users=1,
                query_dim=self._contexts.shape[1],
                content_dim=len(self.classes),
                num_items=len(self.classes),
                pool=np.eye(len(self.classes)),
                reward_version="1" if self.config.table in BUILT_IN else f"1 of {self._data_digest()}",
                kwargs=dict(knobs),
            )
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts a session: new order, new noise; new prices only with a seed (or the first time)."""
        super().reset(seed=seed)
        if self.config.costs == "random" and (seed is not None or not self._drawn):
            self.costs = self.np_random.uniform(0.0, 0.5, len(self.classes))
            self._drawn = True
        self._t = 0
        self._start_rendering()
        self._prepare()
        return self._observation(), {}

    def _data_digest(self) -> str:
        """A hash of the data: a path may come to lead to others, which are then another task."""
        digest = hashlib.sha256(self._contexts.tobytes() + self._labels.tobytes())
        digest.update(repr(self.classes).encode())
        return digest.hexdigest()[:16]

    def _draw_pass(self) -> None:
        """The order and the noise of the next len(table) rounds."""
        self._order = self.np_random.permutation(len(self._labels))
        self._flipped = self.np_random.random(len(self._labels)) < self.config.noise

    def _prepare(self) -> None:
        i = self._t % len(self._labels)
        if i == 0:
            self._draw_pass()
        self._row = int(self._order[i])
        self._label = int(self._labels[self._row])
        self._flip = bool(self._flipped[i])
        bit = np.full(len(self.classes), self.config.noise)
        bit[self._label] = 1.0 - self.config.noise
        self._means = self._reward(bit, self.costs)

    def _reward(self, bit: Any, cost: Any) -> Any:
        return bit if self.config.costs == "none" else 1.0 - 0.5 * (1.0 - bit) - cost

    def _observation(self) -> dict[str, Any]:
        return {"query": self._contexts[self._row].copy(), "user": np.int64(0)}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action that is not a class's number; the round is not spent.
        """
        k = item_index(action, len(self.classes))
        correct = k == self._label
        reward = float(self._reward(float(correct != self._flip), self.costs[k]))
        expected, oracle = float(self._means[k]), float(self._means.max())
        info = self._info(expected, oracle, oracle, correct=correct)
        return self._end_round(0, k, reward, info)

    def optimal_action(self) -> int:
        """The class with the highest mean reward for the row just shown."""
        return int(self._means.argmax())


def _table(config: ClassificationConfig) -> tuple[Table, str]:
    """The table and the name of its label column."""
    if config.table in BUILT_IN:
        if config.label is not None:
            raise ConfigError(
                f"HareClassification: label is for files; {config.table!r} knows its own. Leave label out."
            )
        return _built_in(config.table), "target"
    if "/" not in config.table and "\\" not in config.table and "." not in config.table:
        raise unknown_name(
            "table of HareClassification",
            config.table,
            BUILT_IN,
            f"A table of your own is given by its path, which ends in {', '.join(ENDINGS)}.",
        )
    table = read_table(config.table)
    return table, table.columns[-1] if config.label is None else config.label


@lru_cache(maxsize=len(BUILT_IN))
def _built_in(name: str) -> Table:
    from sklearn import datasets

    return Table(name, getattr(datasets, f"load_{name}")(as_frame=True).frame)


def _classes(table: Table, label: str) -> tuple[list[Any], NDArray[np.int64]]:
    """The sorted labels, and each row's place among them."""
    classes, labels = table.levels(label)
    if len(classes) < 2:
        raise DataError(f"{table.name}: column {label!r} holds {classes[0]!r} in every row; a label needs two.")
    if len(classes) > len(table) // 2:
        raise DataError(
            f"{table.name}: column {label!r} has {len(classes)} different values in {len(table)} rows, which is a "
            "quantity or an identifier and not a class. Name the label column with label=..."
        )
    return classes, labels
