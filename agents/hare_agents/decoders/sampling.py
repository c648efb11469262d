"""Draws texts from a causal language model, with the prompt given as vectors: `sample`.

`generate` of transformers has no classifier-free guidance for prompts of vectors and keeps computing texts that have
ended; this loop has the one and stops the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from hare_agents.decoders.skeleton import Skeleton

_SHRINK = 0.75  # share of texts still open below which the others leave the batch
_REPEATED = 20.0  # nats; not -inf, as the skeleton may leave nothing else


@torch.no_grad()
def sample(
    model: Any,
    prompts: torch.Tensor,
    free: torch.Tensor | None,
    skeleton: Skeleton | None,
    *,
    limit: int,
    end: int,
    seed: int,
    temperature: float,
    top_k: int,
    top_p: float,
    guidance: float = 1.0,
    no_repeat: int = 0,
    begun: list[list[int]] | None = None,
    told: Callable[[list[list[int]]], None] | None = None,
) -> list[list[int]]:
    """Draws B texts at once.

    Guidance moves away from what the model would write without its vectors (Ho and Salimans, 2022; for language
    models Sanchez et al., 2023, eq. 7): log P_0 + g (log P - log P_0), before the skeleton and the temperature.

    Args:
        model: A causal language model of transformers.
        prompts: What stands in front of each text, ``(B, P, width)``.
        free: The same without vectors, for P_0; None draws from P.
        skeleton: Keeps the texts in shape; None for none.
        limit: Most tokens.
        end: The token that ends a text.
        seed: Of the draws; torch's global generators are left alone.
        temperature: Divides the scores.
        top_k: Most tokens that are considered.
        top_p: The likeliest of them whose probabilities sum to this are (Holtzman et al., 2020).
        guidance: g; 1 draws from P.
        no_repeat: Runs of so many tokens come at most once in a text; 0 for no such rule. The skeleton goes before.
        begun: The token ids that each text begins with; they are taken instead of drawn.
        told: Called after each token with the token ids so far.

    Returns:
        B lists of at most ``limit`` token ids; one that ended has the end token last.
    """
    generator = torch.Generator(prompts.device).manual_seed(seed)
    texts: list[list[int]] = [[] for _ in range(len(prompts))]
    rows = list(range(len(prompts)))  # which texts the batch holds
    forms = 1 if free is None else 2
    fed: dict[str, Any] = {"inputs_embeds": prompts if free is None else torch.cat([prompts, free])}
    followers: list[dict[tuple[int, ...], list[int]]] = [defaultdict(list) for _ in rows]
    cache = None
    for _ in range(limit):
        output = model(**fed, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        scores = output.logits[:, -1].float().log_softmax(-1)
        push = torch.zeros_like(scores)
        if forms == 2:
            scores, without = scores.chunk(2)
            push = (guidance - 1.0) * (scores - without)
        if no_repeat:
            for place, row in enumerate(rows):
                scores[place, followers[row].get(tuple(texts[row][1 - no_repeat :]), [])] -= _REPEATED
        if skeleton is not None:
            scores = skeleton.limit(scores)
        tokens = _draw(scores / temperature, push / temperature, top_k, top_p, generator)
        if begun is not None:
            for place, row in enumerate(rows):
                if len(texts[row]) < len(begun[row]):
                    tokens[place] = begun[row][len(texts[row])]
        drawn = tokens.tolist()
        if skeleton is not None:
            skeleton.take(drawn)
        for row, token in zip(rows, drawn, strict=True):
            if not texts[row] or texts[row][-1] != end:
                if no_repeat:
                    followers[row][tuple(texts[row][1 - no_repeat :])].append(token)
                texts[row].append(token)
        if told is not None:
            told(texts)
        still = [place for place, row in enumerate(rows) if texts[row][-1] != end]
        if not still:
            break
        if len(still) <= _SHRINK * len(rows):
            kept = torch.tensor([place + form * len(rows) for form in range(forms) for place in still])
            cache.batch_select_indices(kept.to(prompts.device))
            tokens, rows = tokens[still], [rows[place] for place in still]
            if skeleton is not None:
                skeleton.keep(still)
        fed = {"input_ids": tokens.repeat(forms)[:, None]}
    return texts


def _draw(
    scores: torch.Tensor, push: torch.Tensor, top_k: int, top_p: float, generator: torch.Generator
) -> torch.Tensor:
    """One token a row from the nucleus of the scores, after a push, by the Gumbel-max trick."""
    values, places = scores.topk(min(top_k, scores.shape[1]))
    p = values.softmax(-1)
    values = (values + push.gather(1, places)).masked_fill(p.cumsum(-1) - p >= top_p, -math.inf)
    gumbel = -torch.empty_like(values).exponential_(generator=generator).log()
    return places.gather(1, (values + gumbel).argmax(-1, keepdim=True))[:, 0]
