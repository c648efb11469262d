"""How a conditioned language model learns to write: pairs of vectors and texts, and the causal loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingConfig:
    """Knobs of `train`.

    Attributes:
        epochs: Passes over the pairs.
        batch_size: Texts in a step.
        lr: Peak of the learning rate of the model (or its LoRA); one cycle, AdamW.
        prefix_lr: The same for the prefix.
        weight_decay: Of AdamW, for matrices of the model.
        clip: Largest norm of a gradient.
        opening: Only so many tokens of each text, without an end; 0 for all. What a text is about shows early, and is
            learned there for a fraction of the cost.
        seed: Of the order, of z-dropout and of dropout.
    """

    epochs: int = field(default=10, metadata={"low": 1})
    batch_size: int = field(default=16, metadata={"low": 1})
    lr: float = field(default=3e-3, metadata={"above": 0})
    prefix_lr: float = field(default=3e-3, metadata={"above": 0})
    weight_decay: float = field(default=0.01, metadata={"low": 0})
    clip: float = field(default=1.0, metadata={"above": 0})
    opening: int = field(default=0, metadata={"low": 0})
    seed: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True)
class Pair:
    """What a decoder learns from: a text, and the vectors for which it should be written.

    Attributes:
        z: The content, ``(content_dim,)``.
        text: A SKILL.md; what is not name, description and body is left out of training.
        u: The user's state, ``(content_dim,)``; None where nobody asked.
    """

    z: Array
    text: str
    u: Array | None = None


def train(
    decoder: Any,
    pairs: Sequence[Pair],
    progress: Callable[[int, int, float], None] | None = None,
    **knobs: Any,
) -> list[float]:
    """See `hare_agents.decoders.language_model.ConditionedDecoder.train`; ``decoder`` is one of these."""
    import torch

    c = configure(TrainingConfig, knobs, f"training of {decoder.name!r}")
    Z, U = vectors_of(pairs, decoder.content_dim)
    decoder.standardise(Z)
    rows = decoder.rows_of([pair.text for pair in pairs])
    fronts = [decoder.front_of(row) for row in rows]
    if c.opening:
        rows = [row[: c.opening] for row in rows]
    rng = np.random.default_rng(c.seed)
    batches = [batch for _ in range(c.epochs) for batch in _batches(rows, c.batch_size, rng)]
    optimiser = torch.optim.AdamW(
        [
            {"params": decoder.model_parameters(), "lr": c.lr, "weight_decay": c.weight_decay},
            {"params": list(decoder.prefix.parameters()), "lr": c.prefix_lr, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [c.lr, c.prefix_lr], total_steps=max(len(batches), 2), pct_start=0.1
    )
    losses = []
    with torch.random.fork_rng(devices=decoder.devices()):
        torch.manual_seed(c.seed)
        decoder.model.train()
        for step, batch in enumerate(batches, 1):
            hidden = rng.random(len(batch)) < decoder.config.z_dropout
            known = (rng.random(len(batch)) < 0.5) & ~hidden & ~np.isnan(U[batch, 0])
            logp, mask = decoder.log_probabilities(
                [rows[i] for i in batch],
                np.where(hidden[:, None], np.nan, Z[batch]),
                np.where(known[:, None], U[batch], np.nan),
            )
            weight = mask.clone()
            for place, i in enumerate(batch):
                weight[place, : fronts[i]] *= decoder.config.front_weight
            loss = -(logp * weight).sum() / weight.sum()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(decoder.parameters(), c.clip)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if progress:
                progress(step, len(batches), losses[-1])
    decoder.model.eval()
    return losses


def vectors_of(pairs: Sequence[Pair], content_dim: int) -> tuple[Array, Array]:
    """Both vectors of pairs, ``(n, content_dim)`` each; z and u; a user whom nobody knows is a row of NaN.

    Raises:
        DataError: Fewer than two pairs, or vectors of the wrong length or not finite.
    """
    if len(pairs) < 2:
        raise DataError(f"Training needs at least two pairs, not {len(pairs)}.")
    for n, pair in enumerate(pairs):
        for letter, vector in (("z", pair.z), ("u", pair.u)):
            if vector is None:
                continue
            if np.shape(vector) != (content_dim,):
                raise DataError(f"Pair {n}: {letter} has the shape {np.shape(vector)}, not ({content_dim},).")
            if not np.isfinite(vector).all():
                raise DataError(f"Pair {n}: {letter} holds a number that is not finite.")
    unknown = np.full(content_dim, np.nan)
    return np.stack([p.z for p in pairs]), np.stack([unknown if p.u is None else p.u for p in pairs])


def _batches(rows: Sequence[Sequence[int]], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches of texts of like length, in random order."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]) + rng.uniform(0, 60))
    batches = [order[at : at + size] for at in range(0, len(order), size)]
    return [batches[i] for i in rng.permutation(len(batches))]
