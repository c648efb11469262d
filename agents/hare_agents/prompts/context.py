"""A visit's context: five features, in buckets, as a readable key.

For instance ``lens:skeptic|topic:ai-safety|entropy:high|depth:shallow|time:evening``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from hare_agents.prompts.config import FEATURES, ContextSection, Feature
from hare_gym.errors import DataError, unknown_name

Bucket: TypeAlias = Literal["low", "medium", "high"]
BUCKETS: tuple[Bucket, ...] = ("low", "medium", "high")
DEPTHS = ("shallow", "medium", "deep")
EVERYWHERE = "all"
"""The key of the coarsest context, which keeps no feature."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True)
class Context:
    """What is known of a visit, and nothing of the visitor.

    Attributes:
        lens: The way of looking that the visitor chose.
        topic: The topic cluster of what is being read.
        entropy: The visitor's uncertainty, from 0 (settled) to 1 (lost).
        depth: Steps in this session so far.
        hour: The visitor's hour of the day, from 0 up to 24.
    """

    lens: str = "any"
    topic: str = "any"
    entropy: float = 0.5
    depth: int = 0
    hour: float = 12.0


def entropy_bucket(section: ContextSection, entropy: float) -> Bucket:
    """``"high"`` above the upper threshold, ``"low"`` below the lower one, otherwise ``"medium"``.

    Raises:
        DataError: Outside [0, 1], or no number.
    """
    checked_share("entropy", entropy)
    if entropy > section.high:
        return "high"
    return "low" if entropy < section.low else "medium"


def checked_share(what: str, value: float) -> float:
    """``value`` if it is a number from 0 to 1.

    Raises:
        DataError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise DataError(f"{what} must be a number from 0 to 1, not {value!r}. Scale it before it is sent.")
    return float(value)


def buckets_of(section: ContextSection, context: Context) -> dict[Feature, str]:
    """The bucket of each feature.

    Raises:
        DataError: A value outside its range, or a name with other characters than a-z, 0-9 and hyphens.
        UnknownNameError: A lens or topic that the configuration does not list.
    """
    if not isinstance(context.depth, int) or isinstance(context.depth, bool) or context.depth < 0:
        raise DataError(f"depth must be a whole number of steps from 0, not {context.depth!r}.")
    if not isinstance(context.hour, int | float) or isinstance(context.hour, bool) or not 0 <= context.hour < 24:
        raise DataError(f"hour must be a number from 0 up to 24, not {context.hour!r}.")
    return {
        "lens": _known("lens", context.lens, section.lenses),
        "topic": _known("topic", context.topic, section.topics),
        "entropy": entropy_bucket(section, context.entropy),
        "depth": DEPTHS[(context.depth >= section.medium_depth) + (context.depth >= section.deep_depth)],
        "time": _time_of(section.times, context.hour),
    }


def _known(what: str, name: str, known: Iterable[str] | None) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DataError(
            f"{what} must be a short name of a-z, 0-9 and hyphens, such as 'ai-safety', not {str(name)[:80]!r}."
        )
    if known is not None and name not in known:
        raise unknown_name(what, name, known, "The configuration lists them under context.")
    return name


def _time_of(times: Mapping[str, int], hour: float) -> str:
    begun = {name: start for name, start in times.items() if start <= hour} or times
    return max(begun, key=lambda name: begun[name])


def key_of(buckets: Mapping[Feature, str], kept: Iterable[Feature] = FEATURES) -> str:
    """The readable key of the features that are kept, in their fixed order."""
    kept = set(kept)
    return "|".join(f"{name}:{buckets[name]}" for name in FEATURES if name in kept) or EVERYWHERE


def encode(section: ContextSection, context: Context) -> str:
    """The key of a context; raises as :func:`buckets_of` does."""
    return key_of(buckets_of(section, context))


def decode(section: ContextSection, key: str) -> dict[Feature, str]:
    """The buckets out of a full key.

    Raises:
        DataError: A key that :func:`encode` does not write.
        UnknownNameError: A lens or topic that the configuration does not list.
    """
    parts = [part.partition(":") for part in key.split("|")]
    if [name for name, _, _ in parts] != list(FEATURES):
        raise DataError(f"{key[:200]!r} is no context. Write lens:...|topic:...|entropy:...|depth:...|time:...")
    buckets = cast(dict[Feature, str], {name: value for name, _, value in parts})
    _known("lens", buckets["lens"], section.lenses)
    _known("topic", buckets["topic"], section.topics)
    for name, known in (("entropy", BUCKETS), ("depth", DEPTHS), ("time", tuple(section.times))):
        value = buckets[cast(Feature, name)]
        if value not in known:
            raise unknown_name(name, value, known, f"(context {key[:200]!r})")
    return buckets


def checked_time(at: float) -> float:
    """A time in seconds since 1970.

    Raises:
        DataError: No finite number from 0.
    """
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at) or at < 0:
        raise DataError(f"A time must be a number of seconds since 1970, such as time.time(), not {at!r}.")
    return float(at)
