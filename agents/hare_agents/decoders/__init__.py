"""Decoders: from attended content to words, all behind one protocol (`hare_agents.decoders.protocol`)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from hare_agents.decoders.protocol import Decoder
from hare_gym.errors import ConfigError, HareError, unknown_name

BUILT_IN = {
    "composer": "hare_agents.decoders.composer:Composer",
    "verbatim": "hare_agents.decoders.verbatim:Verbatim",
    "claude": "hare_agents.decoders.claude:Claude",
}


def make_decoder(name: str, **knobs: Any) -> Decoder:
    """A decoder by name.

    Args:
        name: ``composer``, ``verbatim``, ``claude``; a trained language model (``tiny``, ``smollm2``, a folder, a
            hub's id, see `hare_agents.decoders.trained.load_decoder`); or ``"package.module:Class"``.
        knobs: The decoder's own; of a language model, those of `LanguageModelConfig` and ``device``.

    Raises:
        UnknownNameError: Nothing answers to the name, or a knob that the decoder does not have.
        ConfigError: A knob out of range, or a language model that has not learned to write for content vectors.
        MissingPackageError: The decoder needs a package that is not installed.
    """
    path = BUILT_IN.get(name, name if ":" in name else "")
    if not path:
        return _language_model(name, **knobs)
    module, _, attribute = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"The decoder {name!r} cannot be loaded: {error}. Give 'package.module:Class'.") from error
    try:
        decoder: Decoder = cls(**knobs)
    except HareError:
        raise
    except TypeError as error:
        raise ConfigError(f"The decoder {name!r} does not accept {sorted(knobs)}: {error}.") from error
    return decoder


def _language_model(name: str, **knobs: Any) -> Decoder:
    from hare_agents.decoders.models import NAMES
    from hare_agents.decoders.trained import load_decoder

    if name not in NAMES and "/" not in name and not Path(name).expanduser().is_dir():
        raise unknown_name(
            "decoder",
            name,
            (*BUILT_IN, *NAMES),
            "Or give the folder of a trained language model, a hub's id, or 'package.module:Class'.",
        )
    return load_decoder(name, **knobs)


__all__ = ["BUILT_IN", "Decoder", "make_decoder"]
