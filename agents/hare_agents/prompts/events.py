"""What happens to a prompt that is shown: four kinds of events, without a word on who the visitor was.

An event's id is made by whoever sends it, so that it can be sent again when the answer was lost, and counts once. It
must be a random UUID: a name or a hash of one would make the log a profile.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.context import Bucket, checked_share, checked_time, decode, entropy_bucket
from hare_gym.errors import DataError, unknown_name

Kind: TypeAlias = Literal["impression", "selection", "completion", "entropy"]
KINDS: tuple[Kind, ...] = ("impression", "selection", "completion", "entropy")

MILLI, MICRO = 1_000, 1_000_000


class EventError(DataError):
    """An event that cannot be true, and was not recorded."""


class ClockError(EventError):
    """An event from the past or the future."""


def new_id() -> str:
    """A random id for an event."""
    return str(uuid.uuid4())


@dataclass(frozen=True, kw_only=True)
class _Event:
    """What all events have.

    Attributes:
        prompt: The prompt's id.
        context: The key of the context in which it was recommended.
        at: When, in seconds since 1970; None for the time of recording.
        id: A random UUID (version 4 or 7).
    """

    prompt: str
    context: str
    at: float | None = None
    id: str = field(default_factory=new_id)

    def value(self) -> int:
        """The number that the event carries, in whole units, so that sums do not depend on their order."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Impression(_Event):
    """The prompt was shown."""

    kind: ClassVar[Kind] = "impression"


@dataclass(frozen=True, kw_only=True)
class Selection(_Event):
    """The prompt was chosen.

    Attributes:
        dwell: Seconds that its answer was looked at.
    """

    dwell: float = 0.0
    kind: ClassVar[Kind] = "selection"

    def value(self) -> int:
        """Milliseconds."""
        return round(self.dwell * MILLI)


@dataclass(frozen=True, kw_only=True)
class Completion(_Event):
    """What came of a selection.

    Attributes:
        completed: Whether the visitor went through with it.
    """

    completed: bool = True
    kind: ClassVar[Kind] = "completion"

    def value(self) -> int:
        """1 if completed."""
        return int(self.completed)


@dataclass(frozen=True, kw_only=True)
class EntropyChange(_Event):
    """The visitor's entropy before and after; the context is the one before.

    Attributes:
        before: From 0 to 1.
        after: From 0 to 1.
    """

    before: float
    after: float
    kind: ClassVar[Kind] = "entropy"

    def value(self) -> int:
        """Millionths."""
        return round((self.after - self.before) * MICRO)


Event: TypeAlias = Impression | Selection | Completion | EntropyChange


_CLASSES: dict[str, type[Event]] = {one.kind: one for one in (Impression, Selection, Completion, EntropyChange)}


def event_of(values: Mapping[str, Any]) -> Event:
    """An event out of plain values, such as a request's: ``{"kind": "selection", "prompt": ..., "context": ...}``.

    Args:
        values: ``kind`` (impression, selection, completion or entropy) and the fields of its class.

    Raises:
        EventError: A field is missing, or is no text where it must be one.
        UnknownNameError: A kind or a field that does not exist.
    """
    kind = values.get("kind")
    if kind not in _CLASSES:
        raise unknown_name("kind of event", str(kind)[:80], _CLASSES)
    made = _CLASSES[kind]
    known = {one.name: one for one in fields(made)}
    told = {name: value for name, value in values.items() if name != "kind"}
    for name, value in told.items():
        if name not in known:
            raise unknown_name(f"field of {kind}", str(name)[:80], known)
        if name in ("prompt", "context", "id") and not isinstance(value, str):
            raise EventError(f"{name} of an event must be a text, not {str(value)[:80]!r}.")
    for name, one in known.items():
        if name not in told and one.default is MISSING and one.default_factory is MISSING:
            raise EventError(f"An event of the kind {kind} needs {name}. Send it.")
    return made(**told)


def checked(config: PromptsConfig, event: Event) -> Bucket:
    """Checks all of an event but its prompt and its place in time; gives the context's entropy bucket.

    Raises:
        EventError: An id that is no random UUID, a negative or endless dwell, an entropy outside [0, 1] or beside its
            context, a context that was never encoded.
        UnknownNameError: A lens or topic that the configuration does not list.
    """
    try:
        _checked_id(event.id)
        bucket: Bucket = decode(config.context, event.context)["entropy"]  # type: ignore[assignment]
        if event.at is not None:
            checked_time(event.at)
        if isinstance(event, Selection):
            _checked_dwell(event.dwell, config.telemetry.max_dwell)
        elif isinstance(event, Completion) and not isinstance(event.completed, bool):
            raise DataError(f"completed must be true or false, not {event.completed!r}.")
        elif isinstance(event, EntropyChange):
            checked_share("entropy after", event.after)
            checked_share("entropy before", event.before)
            if entropy_bucket(config.context, event.before) != bucket:
                raise DataError(
                    f"entropy before is {event.before}, but the context says {bucket}. Send the context in which the "
                    "prompt was recommended, with the entropy that it had."
                )
    except EventError:
        raise
    except DataError as error:
        raise EventError(f"{type(event).__name__} of {str(event.prompt)[:80]!r} was not recorded: {error}") from None
    return bucket


def _checked_id(id: str) -> None:
    try:
        made = uuid.UUID(id)
    except (ValueError, AttributeError, TypeError):
        made = None
    if made is None or made.version not in (4, 7) or str(made) != id:
        raise DataError(
            f"the event's id {str(id)[:80]!r} is no random UUID in its usual form (version 4 or 7). Make one with "
            "uuid.uuid4(), and send it again with the same one; an id made from a name would identify somebody."
        )


def _checked_dwell(dwell: float, most: float) -> None:
    if isinstance(dwell, bool) or not isinstance(dwell, int | float) or not math.isfinite(dwell) or dwell < 0:
        raise DataError(f"dwell must be a number of seconds from 0, not {dwell!r}.")
    if dwell > most:
        raise DataError(
            f"a dwell of {dwell} seconds is more than telemetry.max_dwell ({most}). Send seconds, not milliseconds, "
            "or raise the limit."
        )
