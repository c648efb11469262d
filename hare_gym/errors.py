"""Errors that name the mistake and the fix.

Every class takes one message, because Gymnasium re-raises what an environment's constructor raises as
``type(error)(text)``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HareError(Exception):
    """Base of every error that a user of the package can cause and mend."""


class UnknownNameError(HareError):
    """A name (environment, agent, suite, knob, column) that nothing answers to."""


class ConfigError(HareError, ValueError):
    """A known setting with a value outside its range."""


class ActionError(HareError, ValueError):
    """An action of the wrong type, shape, dtype or range."""


class DataError(HareError, ValueError):
    """A data file or a value in one (NaN, infinite, a propensity of zero) that cannot be used."""


class ContractError(HareError, AssertionError):
    """An environment or an agent that breaks the contract of :mod:`hare_gym.contract`."""


class MissingPackageError(HareError, ImportError):
    """An optional package is needed and not installed; the message says how to install it."""


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """Builds ``Unknown agent 'linucbb'. Did you mean 'linucb'?`` for the caller to raise.

    Args:
        kind: What the name should have been: ``"agent"``, ``"environment"``, ``"column"``, ...
        name: What was given.
        known: Every name that would have been accepted.
        hint: A sentence to end with, such as how to list the names.

    Returns:
        The error, not raised.
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        folded = {candidate.casefold(): candidate for candidate in known}
        near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=1)]
    if near:
        text = f"Unknown {kind} {name!r}. Did you mean {near[0]!r}?"
    else:
        shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        text = f"Unknown {kind} {name!r}. Known: {shown or 'none'}."
    return UnknownNameError(f"{text} {hint}".rstrip())
