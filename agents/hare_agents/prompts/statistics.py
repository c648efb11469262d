"""What was counted: per prompt and context, per prompt and entropy bucket, per prompt and day.

A context holds rows for the prompts that were shown in it and no others, so that memory grows with the pairs that
were seen and not with the events. Coarser contexts are sums of finer ones, kept as they grow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.prompts.config import Feature, PromptsConfig
from hare_agents.prompts.context import BUCKETS, decode, key_of
from hare_gym.errors import DataError

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Rows = NDArray[np.intp]

DAYS = 7
DAY = 86_400
NEVER = -np.inf

IMPRESSIONS, SELECTIONS, COMPLETIONS, SAMPLES, CHANGE = range(5)
COLUMNS = ("impressions", "selections", "completions", "entropy_samples", "entropy_change")


@dataclass(frozen=True)
class Tally:
    """What one pair of prompt and context counts: the columns of :data:`COLUMNS`, and when it was last shown."""

    impressions: int = 0
    selections: int = 0
    completions: int = 0
    entropy_samples: int = 0
    entropy_change: int = 0
    last_shown: float = NEVER

    def values(self) -> Whole:
        """The five counts, ``(5,)``."""
        return np.array(
            [self.impressions, self.selections, self.completions, self.entropy_samples, self.entropy_change],
            dtype=np.int64,
        )


class Counts:
    """The prompts shown in one context, a row each.

    Attributes:
        shown: Impressions of all its prompts together.
    """

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._prompts: Rows = np.zeros(4, dtype=np.intp)
        self._values: Whole = np.zeros((len(COLUMNS), 4), dtype=np.int64)
        self._last: Array = np.full(4, NEVER)
        self.shown = 0

    def __len__(self) -> int:
        return len(self._place)

    @property
    def prompts(self) -> Rows:
        """The prompts, ``(n,)``, in the order in which they were first met."""
        return self._prompts[: len(self._place)]

    @property
    def last_shown(self) -> Array:
        """When each was last shown, ``(n,)``."""
        return self._last[: len(self._place)]

    def column(self, column: int) -> Whole:
        """One of the counts, ``(n,)``."""
        return self._values[column, : len(self._place)]

    def tally(self, prompt: int) -> Tally:
        """What one prompt counts here."""
        place = self._place.get(prompt)
        if place is None:
            return Tally()
        counted = dict(zip(COLUMNS, self._values[:, place].tolist(), strict=True))
        return Tally(**counted, last_shown=float(self._last[place]))

    def add(self, prompt: int, change: Whole, shown: float) -> None:
        """Adds to the counts of one prompt."""
        place = self._place.get(prompt)
        if place is None:
            place = self._place[prompt] = len(self._place)
            if place == len(self._prompts):
                self._prompts = np.concatenate([self._prompts, np.zeros_like(self._prompts)])
                self._values = np.concatenate([self._values, np.zeros_like(self._values)], axis=1)
                self._last = np.concatenate([self._last, np.full(len(self._last), NEVER)])
            self._prompts[place] = prompt
        self._values[:, place] += change
        self.shown += int(change[IMPRESSIONS])
        if shown > self._last[place]:
            self._last[place] = shown

    def moved(self, rows: Mapping[int, int]) -> Counts:
        """The same counts under other rows; prompts without one are dropped."""
        moved = Counts()
        for prompt, place in self._place.items():
            if prompt in rows:
                moved.add(rows[prompt], self._values[:, place], float(self._last[place]))
        return moved


class Statistics:
    """All counts for N prompts.

    Args:
        config: Buckets, and the coarser levels if there are any.
        count: N.

    Attributes:
        impressions: Of each prompt anywhere, ``(N,)``.
        last_shown: Of each prompt anywhere, ``(N,)``, minus infinity for never.
        samples: Entropy changes measured, by initial bucket, ``(3, N)``.
        change: Their sums in millionths, ``(3, N)``.
    """

    def __init__(self, config: PromptsConfig, count: int) -> None:
        self.config = config
        self.contexts: dict[str, Counts] = {}
        self.coarser: dict[str, Counts] = {}
        self.impressions: Whole = np.zeros(count, dtype=np.int64)
        self.last_shown: Array = np.full(count, NEVER)
        self.samples: Whole = np.zeros((len(BUCKETS), count), dtype=np.int64)
        self.change: Whole = np.zeros((len(BUCKETS), count), dtype=np.int64)
        self._day: Whole = np.full((DAYS, count), -1, dtype=np.int64)
        self._shows: Whole = np.zeros((DAYS, count), dtype=np.int64)
        self._buckets: dict[str, dict[Feature, str]] = {}

    def buckets(self, key: str) -> dict[Feature, str]:
        """The buckets of a context's key; raises as :func:`~hare_agents.prompts.context.decode` does."""
        found = self._buckets.get(key)
        return decode(self.config.context, key) if found is None else found

    def levels(self, key: str) -> list[Counts]:
        """The counts of a context and of the coarser ones that lend to it, finest first; none are made."""
        levels = [self.contexts.get(key, _NONE)]
        if self.config.back_off.enabled:
            buckets = self.buckets(key)
            levels += [self.coarser.get(key_of(buckets, level), _NONE) for level in self.config.back_off.levels]
        return levels

    def add(self, prompt: int, key: str, change: Whole, shown: float = NEVER) -> None:
        """Adds to what a prompt counts in a context, and to all sums that it is part of.

        Args:
            prompt: Its row.
            key: The context's full key.
            change: Additions to the columns of :data:`COLUMNS`, ``(5,)``.
            shown: When it was shown, if it was.

        Raises:
            DataError: A key that is no context, or one context too many.
        """
        counts = self.contexts.get(key)
        if counts is None:
            buckets = self.buckets(key)
            if len(self.contexts) >= self.config.context.max_contexts:
                raise DataError(
                    f"There are {len(self.contexts):,} contexts already, and {key!r} would be one more. List the "
                    "lenses and topics that exist under context in the configuration, or raise context.max_contexts."
                )
            counts = self.contexts[key] = Counts()
            self._buckets[key] = buckets
        counts.add(prompt, change, shown)
        buckets = self._buckets[key]
        if self.config.back_off.enabled:
            for level in self.config.back_off.levels:
                self.coarser.setdefault(key_of(buckets, level), Counts()).add(prompt, change, shown)
        self.impressions[prompt] += change[IMPRESSIONS]
        if change[SAMPLES]:
            bucket = BUCKETS.index(buckets["entropy"])
            self.samples[bucket, prompt] += change[SAMPLES]
            self.change[bucket, prompt] += change[CHANGE]
        if shown > self.last_shown[prompt]:
            self.last_shown[prompt] = shown

    def put(self, prompt: int, key: str, tally: Tally) -> None:
        """Sets what a prompt counts in a context, whatever it counted before; raises as :meth:`add` does."""
        counts = self.contexts.get(key, _NONE)
        change = tally.values() - counts.tally(prompt).values()
        if change.any() or tally.last_shown > counts.tally(prompt).last_shown:
            self.add(prompt, key, change, tally.last_shown)

    def add_shows(self, prompt: int, day: int, shows: int) -> None:
        """Adds to the shows of a day, counted in days since 1970."""
        slot = day % DAYS
        if self._day[slot, prompt] < day:
            self._day[slot, prompt], self._shows[slot, prompt] = day, 0
        if self._day[slot, prompt] == day:
            self._shows[slot, prompt] += shows

    def put_shows(self, prompt: int, day: int, shows: int) -> None:
        """Sets the shows of a day."""
        slot = day % DAYS
        if self._day[slot, prompt] <= day:
            self._day[slot, prompt], self._shows[slot, prompt] = day, shows

    def shows_per_day(self, prompt: int, now: float) -> float:
        """Shows a day over the last seven, today included."""
        recent = self._day[:, prompt] > int(now // DAY) - DAYS
        return float(self._shows[recent, prompt].sum()) / DAYS

    def moved(self, rows: Mapping[int, int], count: int) -> Statistics:
        """The same statistics for other prompts: old row -> new row; what has no new row is dropped.

        Args:
            rows: New rows by old ones.
            count: How many prompts there are now.
        """
        moved = Statistics(self.config, count)
        old = np.array(list(rows.keys()), dtype=np.intp)
        new = np.array(list(rows.values()), dtype=np.intp)
        for name in ("impressions", "last_shown", "samples", "change", "_day", "_shows"):
            getattr(moved, name)[..., new] = getattr(self, name)[..., old]
        moved.contexts = {key: counts.moved(rows) for key, counts in self.contexts.items()}
        moved.coarser = {key: counts.moved(rows) for key, counts in self.coarser.items()}
        moved._buckets = dict(self._buckets)
        return moved

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything counted, as arrays."""
        keys = list(self.contexts)
        found = [self.contexts[key] for key in keys]
        return {
            "keys": np.array(keys, dtype="U400"),
            "sizes": np.array([len(counts) for counts in found], dtype=np.int64),
            "prompts": _joined([counts.prompts for counts in found], np.int64),
            "last": _joined([counts.last_shown for counts in found], np.float64),
            "values": _joined([counts._values[:, : len(counts)] for counts in found], np.int64, len(COLUMNS)),
            "day": self._day.copy(),
            "shows": self._shows.copy(),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave, for as many prompts."""
        count = state["day"].shape[1]
        if count != len(self.impressions):
            raise DataError(f"The state is of {count} prompts, but there are {len(self.impressions)}.")
        self.__init__(self.config, count)  # type: ignore[misc]
        self._day[...], self._shows[...] = state["day"], state["shows"]
        at = 0
        for key, size in zip(state["keys"].tolist(), state["sizes"].tolist(), strict=True):
            for i in range(at, at + size):
                self.add(int(state["prompts"][i]), key, state["values"][:, i], float(state["last"][i]))
            at += size


_NONE = Counts()


def _joined(parts: Sequence[NDArray[Any]], dtype: Any, columns: int | None = None) -> NDArray[Any]:
    if not parts:
        return np.zeros(0 if columns is None else (columns, 0), dtype=dtype)
    return np.concatenate(parts, axis=-1).astype(dtype)
