"""Building configuration dataclasses from keyword arguments, with errors that name the knob."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from hare_gym.errors import ConfigError, unknown_name

C = TypeVar("C")


def configure(config: type[C], values: Mapping[str, Any], owner: str) -> C:
    """Builds the dataclass ``config`` from ``values``.

    A dataclass states a knob's range in its metadata: ``field(default=0.5, metadata={"low": 0, "high": 1})``;
    ``"above"`` and ``"below"`` exclude the bound itself.

    Args:
        config: A dataclass whose fields are the knobs.
        values: The knobs given by the user.
        owner: Who has these knobs, for the messages: ``"HareBilinear-v0"``, ``"agent 'linucb'"``.

    Returns:
        An instance of ``config``.

    Raises:
        UnknownNameError: A knob that ``config`` does not have.
        ConfigError: A value of the wrong type or out of range.
    """
    assert dataclasses.is_dataclass(config)
    fields = {field.name: field for field in dataclasses.fields(config)}
    hints = get_type_hints(config)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            raise unknown_name(f"knob of {owner}", name, fields)
        checked[name] = _checked(name, value, hints[name], fields[name].metadata, owner)
    return config(**checked)


def _checked(name: str, value: Any, hint: Any, limits: Mapping[str, Any], owner: str) -> Any:
    accepted = get_args(hint) or (hint,)
    if value is None and type(None) in accepted:
        return value
    if float in accepted or int in accepted:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ConfigError(f"{owner}: {name} must be a finite number, not {value!r}.")
        number = float(value)
        if float not in accepted and not number.is_integer():
            raise ConfigError(f"{owner}: {name} must be a whole number, not {value!r}.")
        value = number if float in accepted else int(number)
    elif bool in accepted and not isinstance(value, bool):
        raise ConfigError(f"{owner}: {name} must be true or false, not {value!r}.")
    elif str in accepted and not isinstance(value, str):
        raise ConfigError(f"{owner}: {name} must be a string, not {value!r}.")
    for bound, kept, words in (
        ("low", operator.ge, "at least"),
        ("high", operator.le, "at most"),
        ("above", operator.gt, "greater than"),
        ("below", operator.lt, "less than"),
    ):
        if bound in limits and not kept(value, limits[bound]):
            raise ConfigError(f"{owner}: {name} must be {words} {limits[bound]}, not {value!r}.")
    if "choices" in limits and value not in limits["choices"]:
        raise unknown_name(f"{name} of {owner}", str(value), limits["choices"])
    return value
