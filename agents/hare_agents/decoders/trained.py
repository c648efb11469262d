"""Decoders that have learned to write, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hare_agents.decoders.language_model import ConditionedDecoder
from hare_agents.decoders.models import (
    CONFIG_FILE,
    NAMES,
    complete,
    decoder_folder,
    is_hub_id,
    resolve,
    smollm2_folder,
)
from hare_gym.errors import ConfigError, unknown_name


def load_decoder(source: str = "", device: str = "cpu", **knobs: Any) -> ConditionedDecoder:
    """A trained language-model decoder.

    Args:
        source: A folder that `ConditionedDecoder.save` wrote; ``tiny``; or ``smollm2`` or a hub's id, for what ``hare
            models train`` has made of it. Empty for the one trained on SmolLM2 where it is there, else tiny.
        device: ``cpu``, ``cuda``, ...
        knobs: Of `LanguageModelConfig`, such as ``temperature``.

    Raises:
        UnknownNameError: No such decoder or knob.
        ConfigError: A decoder that is not on this machine, or a folder without one.
    """
    source = source or ("smollm2" if (decoder_folder("smollm2") / CONFIG_FILE).is_file() else "tiny")
    folder = Path(resolve("tiny") if source == "tiny" else source).expanduser()
    if not folder.is_dir():
        if source not in NAMES and not is_hub_id(source):
            raise unknown_name(
                "language-model decoder", source, NAMES, "Or give the folder of a trained one, or a hub's id."
            )
        folder = decoder_folder(source)
        if not (folder / CONFIG_FILE).is_file():
            remedy = f"hare models train --base {source}"
            if source == "smollm2" and not complete(smollm2_folder()):
                remedy = f"hare models fetch smollm2, then {remedy}"
            raise ConfigError(
                f"No decoder has been trained on {source!r} on this machine: {remedy}. The decoders 'composer' and "
                "'tiny' need no training."
            )
    return ConditionedDecoder.load(folder, device, **knobs)
