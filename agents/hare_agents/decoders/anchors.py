"""Where the soft prefix of a pretrained model begins: at the words that each direction of the content makes likelier.

A prefix that begins at random is noise to a pretrained model, which learns to write without it long before it learns
to read it: after 3 passes over the corpus SmolLM2 had the domain right in 8 of 32 texts. Words it reads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError

if TYPE_CHECKING:
    from hare_agents.decoders.language_model import ConditionedDecoder

Array = NDArray[np.float64]

# Tokens that may speak for a direction, how strongly they do, and what is left of the random beginning.
_WORDS, _GAIN, _NOISE = 2000, 6.0, 0.2
_RIDGE, _MOST, _RARE = 0.1, 2.0, 1e-3


def anchor(decoder: ConditionedDecoder, texts: Sequence[str], Z: Array, opening: int = 96) -> None:
    """Sets the first weights of the prefix; the decoder must not have been trained before.

    Every virtual token begins as b + G D x, for the standardised content x: D is the sum of the vectors of the words
    that a ridge regression from x expects more often, each in deviations of its count, less those of the words it
    expects less often; b stays as it was drawn. Two hidden units carry each number of x, as gelu(a) - gelu(-a) = a.

    Args:
        decoder: An untrained decoder.
        texts: SKILL.md files, n of them.
        Z: Their contents, ``(n, content_dim)``.
        opening: How many tokens of each text are counted: what a text is about shows early.

    Raises:
        ConfigError: The prefix has too few hidden units to carry x.
    """
    import torch

    d, W = decoder.content_dim, decoder._embed.weight.shape[1]
    to_hidden, to_tokens = decoder.prefix[0], decoder.prefix[2]
    if decoder.config.hidden < 2 * d:
        raise ConfigError(
            f"A prefix that begins at words needs hidden of at least {2 * d}, not {decoder.config.hidden}."
        )
    decoder.standardise(Z)
    X = (Z - decoder.z_mean) / decoder.z_std
    E = decoder._embed.weight.detach().float().cpu().numpy().astype(np.float64)
    counts = np.zeros((len(texts), len(E)))
    for i, row in enumerate(decoder.rows_of(texts)):
        np.add.at(counts[i], row[:opening], 1.0)
    counts = np.minimum(counts, _MOST)  # a word that a text repeats says no more than twice what it says once
    excess = (counts - counts.mean(0)) / np.sqrt(counts.mean(0) + _RARE)
    B = np.linalg.solve(X.T @ X + _RIDGE * len(X) * np.eye(d), X.T @ excess)
    words = np.argsort(-np.abs(B).max(0), kind="stable")[:_WORDS]
    D = B[:, words] @ (E[words] - E.mean(0))
    D *= _GAIN * E.std() / max(float((X @ D).std()), 1e-12)  # (d, W), in sizes of the model's own token vectors

    each = torch.arange(d)
    with torch.no_grad():
        to_hidden.weight[: 2 * d] = 0
        to_hidden.bias[: 2 * d] = 0
        to_hidden.weight[each, each] = 1
        to_hidden.weight[d + each, each] = -1
        out = to_tokens.weight.view(decoder.config.virtual_tokens, W, -1)
        out *= _NOISE
        towards = torch.tensor(D.T, dtype=out.dtype, device=out.device)
        out[:, :, :d] = towards
        out[:, :, d : 2 * d] = -towards
