"""The engine: recommends a few prompts for a context, explains each, and counts what happens to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.context import BUCKETS, Context, checked_time, encode
from hare_agents.prompts.diversity import diverse_choice
from hare_agents.prompts.events import EntropyChange, Event, Impression, checked
from hare_agents.prompts.library import Library, checked_relevance
from hare_agents.prompts.scoring import HOUR, MODES, Array, evidence, factors, total
from hare_agents.prompts.statistics import DAY, NEVER, Statistics
from hare_gym.errors import DataError

_CHANGE_OF = {
    "impression": np.array([1, 0, 0, 0, 0], dtype=np.int64),
    "selection": np.array([0, 1, 0, 0, 0], dtype=np.int64),
}


@dataclass(frozen=True)
class Recommendation:
    """One prompt of a slate.

    Attributes:
        prompt: Its id.
        score: The product of the factors.
        factors: ``base``, ``entropy``, ``ucb``, ``freshness``, ``new``.
        context: The key of the context, to be sent back with every event.
    """

    prompt: str
    score: float
    factors: Mapping[str, float]
    context: str


class PromptEngine:
    """Learns what resonates in which context, and keeps no profile.

    Without statistics for a context its recommendations follow base relevance. The same statistics, context and time
    give the same recommendation: nothing is drawn, and equal scores go to the id that comes first.

    Args:
        library: The prompts.
        config: Thresholds and multipliers; the published ones by default.
    """

    def __init__(self, library: Library, config: PromptsConfig | None = None) -> None:
        self.config = config or PromptsConfig()
        self.library = library
        self.statistics = Statistics(self.config, len(library))

    def use(self, library: Library) -> None:
        """Takes other prompts; what was counted for those that stay is kept."""
        rows = {i: library.rows[id] for i, id in enumerate(self.library.ids) if id in library.rows}
        self.statistics = self.statistics.moved(rows, len(library))
        self.library = library

    def recommend(
        self,
        context: Context,
        now: float,
        k: int | None = None,
        *,
        base: Array | None = None,
        usable: NDArray[np.bool_] | None = None,
    ) -> list[Recommendation]:
        """The slate for a context, best first.

        Args:
            context: The visit.
            now: Seconds since 1970.
            k: Prompts wanted; ``slate_size`` of the configuration by default. Fewer come where fewer can be used.
            base: Base relevance from 0 to 100, ``(N,)`` in the order of ``library.ids``; the library's by default.
            usable: Which prompts may be chosen, ``(N,)``.

        Raises:
            DataError: An entropy, depth, hour, time or base relevance out of range.
            UnknownNameError: A lens or topic that the configuration does not list.
        """
        key = encode(self.config.context, context)
        parts = self.factors(key, now, base)
        scores = total(parts)
        chosen = self.choose(scores, self.config.slate_size if k is None else k, usable)
        return [
            Recommendation(
                self.library.ids[row],
                float(scores[row]),
                {name: float(part[row]) for name, part in parts.items()},
                key,
            )
            for row in chosen
        ]

    def factors(self, key: str, now: float, base: Array | None = None) -> dict[str, Array]:
        """Every factor of every prompt in a context, by name, ``(N,)`` each."""
        checked_time(now)
        if base is None:
            base = self.library.relevance(self.config.relevance, self.statistics.buckets(key))
        else:
            base = checked_relevance(base, len(self.library))
        return factors(self.config, self.statistics, key, base, now)

    def choose(self, scores: Array, k: int, usable: NDArray[np.bool_] | None = None) -> list[int]:
        """Rows of a diverse slate by scores.

        Raises:
            DataError: k is below 1.
        """
        if k < 1:
            raise DataError(f"A slate has at least one prompt, not {k}.")
        diversity = self.config.diversity
        distance = diversity.min_distance if diversity.enabled else 0.0
        return diverse_choice(scores, k, self.library.topic_of, self.library.distances, distance, usable)

    def observe(self, event: Event, now: float | None = None) -> None:
        """Counts an event in memory. That it comes once is up to the caller, or to ``Telemetry``.

        Args:
            event: What happened; its ``at`` may be None if ``now`` is given.
            now: Seconds since 1970.

        Raises:
            EventError: It cannot be true; nothing was counted.
            UnknownNameError: A prompt, lens or topic that does not exist; nothing was counted.
        """
        row = self.library.row(event.prompt)
        checked(self.config, event)
        if isinstance(event, Impression):
            at = event.at if event.at is not None else now
            if at is None:
                raise DataError("An impression needs a time: give the event an at, or give now.")
            self.count_impression(row, event.context, checked_time(at))
        else:
            self.statistics.add(row, event.context, change_of(event))

    def count_impression(self, row: int, key: str, at: float) -> None:
        """Counts a show of the prompt in a row."""
        self.statistics.add(row, key, _CHANGE_OF["impression"], at)
        self.statistics.add_shows(row, int(at // DAY), 1)

    def explain(self, context: Context, prompt: str, now: float, base: Array | None = None) -> str:
        """Why a prompt has the score that it has in a context, factor by factor; raises as :meth:`recommend` does.

        Raises:
            UnknownNameError: There is no such prompt.
        """
        row = self.library.row(prompt)
        key = encode(self.config.context, context)
        parts = self.factors(key, now, base)
        product = " x ".join(f"{name} {part[row]:.2f}" for name, part in parts.items())
        lines = [f"{prompt}: {total(parts)[row]:.1f} = {product}", f"  context {key}"]
        lines += [f"  {name} {parts[name][row]:.2f}: {reason}" for name, reason in self._reasons(row, key, now, base)]
        return "\n".join(lines)

    def _reasons(self, row: int, key: str, now: float, base: Array | None) -> list[tuple[str, str]]:
        return [
            ("base", self._why_base(row, key) if base is None else "as given"),
            ("entropy", self._why_entropy(row, key)),
            ("ucb", self._why_ucb(row, key)),
            ("freshness", self._why_freshness(row, key, now)),
            ("new", self._why_new(row)),
        ]

    def _why_base(self, row: int, key: str) -> str:
        prompt, buckets = self.library.prompts[row], self.statistics.buckets(key)
        default = self.config.relevance.default_affinity
        names = [f"{feature}:{buckets[feature]}" for feature in ("lens", "topic")]
        told = " and ".join(f"{prompt.affinity.get(name, default):g} to {name}" for name in names)
        met = sum(buckets[feature] in values for feature, values in prompt.targets.items())
        return f"affinity {told}; {met} of {len(prompt.targets)} targets met"

    def _why_entropy(self, row: int, key: str) -> str:
        section, bucket = self.config.entropy, self.statistics.buckets(key)["entropy"]
        if not section.enabled:
            return "switched off"
        place = BUCKETS.index(bucket)
        samples = int(self.statistics.samples[place, row])
        if samples < section.min_samples:
            return f"{MODES[bucket]} (entropy is {bucket}); {samples} samples, neutral under {section.min_samples}"
        mean = self.statistics.change[place, row] / samples / 1e6
        return f"{MODES[bucket]} (entropy is {bucket}); mean change {mean:+.3f} over {samples} samples"

    def _why_ucb(self, row: int, key: str) -> str:
        section = self.config.ucb
        if not section.enabled:
            return "switched off"
        levels = self.statistics.levels(key)
        n, s = evidence(section, self.config.back_off.strength, levels, len(self.library))
        if n[row] <= 0.0:
            return f"never shown in this context: 1 + {section.c:g}"
        own = levels[0].tally(row).impressions
        lent = f" ({own} here, the rest lent by coarser contexts)" if n[row] > own else ""
        rate, of = s[row] / n[row], n.sum()
        return f"rate {rate:.3f} of {n[row]:g} impressions{lent} + {section.c:g} sqrt(ln({of:g} + 1)/{n[row]:g})"

    def _why_freshness(self, row: int, key: str, now: float) -> str:
        section = self.config.freshness
        if not section.enabled:
            return "switched off"
        last = self.statistics.last_shown[row]
        where = "anywhere"
        if section.scope == "context":
            last, where = self.statistics.levels(key)[0].tally(row).last_shown, "in this context"
        if last == NEVER:
            return f"never shown {where}"
        hours = max(0.0, (now - last) / HOUR)
        return f"shown {where} {hours:.1f} hours ago; {self.statistics.shows_per_day(row, now):.1f} a day over 7 days"

    def _why_new(self, row: int) -> str:
        section, shown = self.config.new, int(self.statistics.impressions[row])
        if not section.enabled:
            return "switched off"
        return f"{shown} impressions, new under {section.impressions}"

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything counted, as arrays."""
        return self.statistics.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave, for the same prompts."""
        self.statistics.load_state(state)


def change_of(event: Event) -> NDArray[np.int64]:
    """What an event adds to the columns of :data:`~hare_agents.prompts.statistics.COLUMNS`."""
    if isinstance(event, EntropyChange):
        return np.array([0, 0, 0, 1, event.value()], dtype=np.int64)
    if event.kind == "completion":
        return np.array([0, 0, event.value(), 0, 0], dtype=np.int64)
    return _CHANGE_OF[event.kind]
