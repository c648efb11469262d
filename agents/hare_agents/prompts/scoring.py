"""The factors of a score, each over all prompts at once.

score = base relevance x entropy multiplier x UCB x freshness x bonus of the new.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hare_agents.prompts.config import EntropySection, FreshnessSection, NewSection, PromptsConfig, UCBSection
from hare_agents.prompts.context import BUCKETS, Bucket
from hare_agents.prompts.events import MICRO
from hare_agents.prompts.statistics import COMPLETIONS, IMPRESSIONS, SELECTIONS, Counts, Statistics

Array = NDArray[np.float64]

HOUR = 3_600.0
MODES = {"high": "clarify", "medium": "explore", "low": "challenge"}


def entropy_multiplier(section: EntropySection, statistics: Statistics, bucket: Bucket) -> Array:
    """What a prompt has done to entropy from this bucket on, as a factor, ``(N,)``.

    With d the mean change: clarify (high) grows evenly from 1 at d = 0 to ``favoured`` at d = -``strong_change`` and
    falls to ``disfavoured`` at the opposite; challenge (low) is its mirror; explore (medium) is 1 at d = 0,
    ``favoured`` at ``|d| = moderate_change`` and ``disfavoured`` from three times that on. Under ``min_samples`` it
    is 1.
    """
    samples = statistics.samples[BUCKETS.index(bucket)]
    factor = np.ones(len(samples))
    if not section.enabled:
        return factor
    known = np.flatnonzero(samples >= section.min_samples)
    mean = statistics.change[BUCKETS.index(bucket), known] / (samples[known] * float(MICRO))
    if bucket == "medium":
        at = [0.0, section.moderate_change, 3.0 * section.moderate_change]
        factor[known] = np.interp(np.abs(mean), at, [1.0, section.favoured, section.disfavoured])
    else:
        at = [-section.strong_change, 0.0, section.strong_change]
        gained = -mean if bucket == "high" else mean
        factor[known] = np.interp(gained, at, [section.disfavoured, 1.0, section.favoured])
    return factor


def evidence(section: UCBSection, strength: float, levels: list[Counts], count: int) -> tuple[Array, Array]:
    """Impressions n and successes s of each prompt, ``(N,)`` each, with what coarser contexts lend.

    From the coarsest level to the finest: what was seen in the rest of a level joins what is known so far, and all of
    that may weigh ``strength`` impressions at most in the next one. The context's own impressions count in full.
    With one level nothing is borrowed.
    """
    n, s = np.zeros(count), np.zeros(count)
    for level in range(len(levels) - 1, -1, -1):
        counts = levels[level]
        if level < len(levels) - 1 and levels[-1].shown:
            weight = strength / np.maximum(n, strength)
            n *= weight
            s *= weight
        _add(section, counts, n, s, 1.0)
        if level > 0:  # what a finer level saw comes in with that level
            _add(section, levels[level - 1], n, s, -1.0)
    return n, s


def _add(section: UCBSection, counts: Counts, n: Array, s: Array, sign: float) -> None:
    w = section.completion_weight
    successes = (1.0 - w) * counts.column(SELECTIONS) + w * counts.column(COMPLETIONS)
    n[counts.prompts] += sign * counts.column(IMPRESSIONS)
    s[counts.prompts] += sign * successes


def ucb(section: UCBSection, n: Array, s: Array) -> Array:
    """Success rate + c √(ln(N + 1)/n), and 1 + c where unseen, ``(N,)``; N is the sum of n."""
    factor = np.full(len(n), 1.0 + section.c)
    if not section.enabled:
        return np.ones(len(n))
    seen = np.flatnonzero(n > 0.0)
    if len(seen):
        pulls = n[seen]
        factor[seen] = s[seen] / pulls + section.c * np.sqrt(np.log(pulls.sum() + 1.0) / pulls)
    return factor


def freshness(section: FreshnessSection, statistics: Statistics, counts: Counts, now: float) -> Array:
    """min(1, floor + hours since last shown / hours), 1 where never shown, ``(N,)``.

    A prompt that was last shown after ``now`` (a clock went backwards) counts as shown just now.
    """
    if not section.enabled:
        return np.ones(len(statistics.impressions))
    if section.scope == "prompt":
        last = statistics.last_shown
    else:
        last = np.full(len(statistics.impressions), -np.inf)
        last[counts.prompts] = counts.last_shown
    gone = np.maximum((now - last) / HOUR, 0.0)
    return np.minimum(1.0, section.floor + gone / section.hours)


def new_bonus(section: NewSection, statistics: Statistics) -> Array:
    """1 + (bonus - 1)(1 - impressions/limit) while there are fewer impressions than that, ``(N,)``."""
    if not section.enabled:
        return np.ones(len(statistics.impressions))
    left = np.maximum(1.0 - statistics.impressions / section.impressions, 0.0)
    return 1.0 + (section.bonus - 1.0) * left


def factors(config: PromptsConfig, statistics: Statistics, key: str, base: Array, now: float) -> dict[str, Array]:
    """Every factor by its name, ``(N,)`` each, base relevance first."""
    levels = statistics.levels(key)
    bucket: Bucket = statistics.buckets(key)["entropy"]  # type: ignore[assignment]
    n, s = evidence(config.ucb, config.back_off.strength, levels, len(base))
    return {
        "base": base,
        "entropy": entropy_multiplier(config.entropy, statistics, bucket),
        "ucb": ucb(config.ucb, n, s),
        "freshness": freshness(config.freshness, statistics, levels[0], now),
        "new": new_bonus(config.new, statistics),
    }


def total(parts: dict[str, Array]) -> Array:
    """The product of all factors, taken in their order, ``(N,)``."""
    score = np.ones(len(parts["base"]))
    for part in parts.values():
        score *= part
    return score
