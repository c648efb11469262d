"""What the engine can be told without touching code: validated sections with published defaults, read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from hare_gym.errors import ConfigError, UnknownNameError, unknown_name

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
"""A lens, a topic, a prompt's id: lower case, digits and hyphens, at most 64: no free text gets into a key."""

Feature = Literal["lens", "topic", "entropy", "depth", "time"]
FEATURES: tuple[Feature, ...] = ("lens", "topic", "entropy", "depth", "time")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_BYTES = 20_000_000


class Section(BaseModel):
    """A part of the configuration: immutable, finite, and without room for misspelt names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class ContextSection(Section):
    """How a visit is put into buckets.

    Attributes:
        low: Entropy below it is low.
        high: Entropy above it is high.
        medium_depth: From so many steps on a session is of medium depth; below it is shallow.
        deep_depth: From so many steps on it is deep.
        times: The hour at which each time of day begins; the last one lasts until the first one.
        lenses: The lenses that exist, or None for any.
        topics: The topic clusters that exist, or None for any.
        max_contexts: Contexts that are kept at most, so that memory is bounded whatever visitors send.
    """

    low: float = Field(default=0.3, ge=0, le=1)
    high: float = Field(default=0.7, ge=0, le=1)
    medium_depth: int = Field(default=3, ge=1)
    deep_depth: int = Field(default=8, ge=2)
    times: dict[Name, Annotated[int, Field(ge=0, le=23)]] = Field(
        default={"morning": 6, "afternoon": 12, "evening": 18, "night": 22}, min_length=1
    )
    lenses: list[Name] | None = None
    topics: list[Name] | None = None
    max_contexts: int = Field(default=20_000, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> ContextSection:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) lies above high ({self.high}). Swap them.")
        if self.medium_depth >= self.deep_depth:
            raise ValueError(f"medium_depth ({self.medium_depth}) must be below deep_depth ({self.deep_depth}).")
        if len(set(self.times.values())) < len(self.times):
            raise ValueError("two times begin at the same hour. Give each its own.")
        return self


class RelevanceSection(Section):
    """Base relevance, 0 to 100: what an editor knows.

    Attributes:
        default_affinity: The affinity of a prompt to a lens or topic that it says nothing about.
        off_target: Factor for each target of the prompt that the context misses.
    """

    default_affinity: float = Field(default=50.0, ge=0, le=100)
    off_target: float = Field(default=0.5, ge=0, le=1)


class EntropySection(Section):
    """The entropy multiplier: clarify where entropy is high, explore where it is medium, challenge where it is low.

    Attributes:
        enabled: Off, the multiplier is 1.
        min_samples: Below so many samples of a prompt's effect the multiplier is 1.
        strong_change: A mean fall (clarify) or rise (challenge) of so much gets the whole of ``favoured``.
        moderate_change: The mean change, up or down, that explore favours most; three times it is too much.
        favoured: The largest multiplier.
        disfavoured: The smallest.
    """

    enabled: bool = True
    min_samples: int = Field(default=10, ge=1)
    strong_change: float = Field(default=0.1, gt=0, le=1)
    moderate_change: float = Field(default=0.05, gt=0, le=1)
    favoured: float = Field(default=1.5, ge=1)
    disfavoured: float = Field(default=0.7, ge=0, le=1)


class UCBSection(Section):
    """The learned factor: success rate + c √(ln(N + 1)/n), and 1 + c where unseen.

    Attributes:
        enabled: Off, the factor is 1.
        c: Width of the exploration.
        completion_weight: A success is a selection weighted by 1 - w and a completion weighted by w.
    """

    enabled: bool = True
    c: float = Field(default=1.5, ge=0)
    completion_weight: float = Field(default=0.0, ge=0, le=1)


class FreshnessSection(Section):
    """Freshness: min(1, floor + hours since last shown / hours).

    Attributes:
        enabled: Off, the factor is 1.
        floor: The factor of a prompt that was shown just now.
        hours: Scale of the recovery.
        scope: Whether "last shown" means anywhere (``prompt``) or in this context.
    """

    enabled: bool = True
    floor: float = Field(default=0.5, ge=0, le=1)
    hours: float = Field(default=48.0, gt=0)
    scope: Literal["prompt", "context"] = "prompt"


class NewSection(Section):
    """The bonus of a new prompt, falling evenly from ``bonus`` to 1 over its first impressions.

    Attributes:
        enabled: Off, the factor is 1.
        impressions: A prompt is new while it has fewer.
        bonus: The factor of a prompt never shown.
    """

    enabled: bool = True
    impressions: int = Field(default=50, ge=1)
    bonus: float = Field(default=1.3, ge=1)


class DiversitySection(Section):
    """The choice: best first, passing over what lies too near to what was chosen.

    Attributes:
        enabled: Off, the best k are taken.
        min_distance: Smallest topic distance between two prompts of a slate: 1 - cosine where topics have vectors;
            otherwise 1 between two topics and 0 within one.
    """

    enabled: bool = True
    min_distance: float = Field(default=0.3, ge=0, le=2)


class BackOffSection(Section):
    """Borrowing from coarser contexts: what other contexts saw counts for at most ``strength`` impressions.

    Attributes:
        enabled: Whether to borrow.
        strength: Impressions that the evidence of all coarser contexts may count for, kappa.
        levels: The features that each coarser level keeps, finest first; each level a part of the one before.
    """

    enabled: bool = False
    strength: float = Field(default=10.0, gt=0)
    levels: list[list[Feature]] = Field(
        default=[["lens", "topic", "entropy", "depth"], ["lens", "topic", "entropy"], ["lens", "entropy"], []],
        min_length=1,
    )

    @model_validator(mode="after")
    def _nested(self) -> BackOffSection:
        finer: set[str] = set(FEATURES)
        for level in self.levels:
            if not set(level) < finer:
                raise ValueError(
                    f"level {level} is no proper part of {sorted(finer)}. List the levels from fine to coarse, each "
                    "leaving out some features of the one before."
                )
            finer = set(level)
        return self


class TelemetrySection(Section):
    """What the store of events accepts and keeps.

    Attributes:
        max_clock_step: Seconds by which an event may lie before the newest one or after the clock of this machine.
        max_dwell: The longest believable dwell, in seconds.
        time_resolution: Times are rounded down to so many seconds, so that they name nobody.
        retention_days: How long events are kept by ``hare prompts retain``; what they counted for stays.
    """

    max_clock_step: int = Field(default=300, ge=0)
    max_dwell: float = Field(default=86_400.0, gt=0)
    time_resolution: int = Field(default=60, ge=1)
    retention_days: int = Field(default=90, ge=7)


class PromptsConfig(Section):
    """The whole configuration; every default is the published one.

    Attributes:
        slate_size: Prompts to recommend, k.
        context: Buckets.
        relevance: Base relevance.
        entropy: The entropy multiplier.
        ucb: The learned factor.
        freshness: Freshness.
        new: The bonus of new prompts.
        diversity: The choice of a diverse slate.
        back_off: Borrowing from coarser contexts.
        telemetry: The store of events.
    """

    slate_size: int = Field(default=3, ge=1)
    context: ContextSection = ContextSection()
    relevance: RelevanceSection = RelevanceSection()
    entropy: EntropySection = EntropySection()
    ucb: UCBSection = UCBSection()
    freshness: FreshnessSection = FreshnessSection()
    new: NewSection = NewSection()
    diversity: DiversitySection = DiversitySection()
    back_off: BackOffSection = BackOffSection()
    telemetry: TelemetrySection = TelemetrySection()

    @classmethod
    def load(cls, path: str | Path) -> PromptsConfig:
        """Reads a YAML file; what it leaves out has its default.

        Raises:
            ConfigError: The file cannot be read, is no YAML, or holds a value out of range.
            UnknownNameError: A field that does not exist.
        """
        return cls.of(read_yaml(path), str(path))

    @classmethod
    def of(cls, values: Any, source: str = "prompts configuration") -> PromptsConfig:
        """Builds it from plain values; raises as :meth:`load` does, naming ``source``."""
        return validated(cls, {} if values is None else values, source)


M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], values: Any, source: str) -> M:
    """``values`` as ``model``, with the first mistake told by field and fix.

    Raises:
        ConfigError: A value of the wrong type or out of range.
        UnknownNameError: A field that does not exist.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: must be a mapping of names to values, not {type(values).__name__}.")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _told(error, model, source) from None


def _told(error: ValidationError, model: type[BaseModel], source: str) -> ConfigError | UnknownNameError:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *above, name = (str(part) for part in first["loc"])
        owner: Any = model
        for part in above:
            field = getattr(owner, "model_fields", {}).get(part)
            owner = getattr(field, "annotation", None)
        known = getattr(owner, "model_fields", {})
        return unknown_name("field", name, known, f"({source}{', in ' + '.'.join(above) if above else ''})")
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason.replace("Input should", "it must", 1).replace("Field required", "it is missing")
    given = "" if isinstance(first["input"], Mapping) else f", not {first['input']!r}"
    if first["type"] == "value_error":
        given = ""
    return ConfigError(f"{source}: {where or 'the whole'}: {reason}{given}{'' if reason.endswith('.') else '.'}")


def read_yaml(path: str | Path) -> Any:
    """The plain values of a YAML file of at most 20 MB, without aliases.

    Raises:
        ConfigError: The file cannot be read, is too large, or is no such YAML.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size:,} bytes; at most {_MOST_BYTES:,} are read.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_Loader)):
            raise ConfigError(f"{path} uses an alias (*name); a few of them can stand for gigabytes. Write it out.")
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
