"""Rewards teach a decoder while it is used: `OnlineLearner`.

The loss is L = -A log P_T(text | z, u), REINFORCE (Williams, 1992). P_T is the decoder at the temperature at which it
draws: its score has mean zero under the draws, that of P has not, and what is left over moves the model without any
reward. The advantage A of a text is its reward less the mean of the others for the same z and u (Kool et al., 2019,
"Buy 4 REINFORCE samples, get a baseline for free!"); where a batch has needs with one text only, less a ridge
regression of the latest rewards on the vectors. A leash holds the decoder where it was on real texts, and what makes
texts invalid, unlikely or all alike is rolled back.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.language_model import ConditionedDecoder
from hare_agents.decoders.training import Pair
from hare_gym.config import configure
from hare_gym.errors import ConfigError, DataError
from hare_gym.text.skills import validate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OnlineConfig:
    """Knobs of an `OnlineLearner`.

    Attributes:
        scope: ``prefix`` moves the soft prefix only, ``all`` the model (or its LoRA) as well.
        lr: Step size of AdamW.
        kl: Weight of KL(P || P_0) a token on the decoder's own texts, to the decoder as it was.
        replay: Weight of the replay: a loss on texts it was trained on.
        replay_batch: Texts in it; half of them without the user's state.
        replayed: What that loss is: the causal one on the ``texts``, which trains on them again; or KL(P_0 || P) a
            token to the ``model`` as it was, which holds it where it is on real texts.
        clip: Largest norm of a gradient.
        memory: Latest rewards, to which the baseline is fitted.
        ridge: Weight of the penalty of that fit, in rewards.
        check_every: Updates between checks.
        window: Latest texts that a check looks at.
        min_valid: Least share of valid texts among them.
        max_perplexity: Most that the held-out perplexity may grow, as a factor.
        min_distinct: Least share of distinct word triples, as a factor of what it was at the first check.
        seed: Of the replay.
    """

    scope: str = field(default="all", metadata={"choices": ("prefix", "all")})
    lr: float = field(default=1e-3, metadata={"above": 0})
    kl: float = field(default=0.0, metadata={"low": 0})
    replay: float = field(default=1.0, metadata={"low": 0})
    replay_batch: int = field(default=16, metadata={"low": 1})
    replayed: str = field(default="model", metadata={"choices": ("texts", "model")})
    clip: float = field(default=0.5, metadata={"above": 0})
    memory: int = field(default=256, metadata={"low": 2})
    ridge: float = field(default=10.0, metadata={"above": 0})
    check_every: int = field(default=10, metadata={"low": 1})
    window: int = field(default=64, metadata={"low": 1})
    min_valid: float = field(default=0.95, metadata={"low": 0, "high": 1})
    max_perplexity: float = field(default=1.1, metadata={"low": 1})
    min_distinct: float = field(default=0.7, metadata={"low": 0, "high": 1})
    seed: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True)
class Health:
    """What a check found.

    Attributes:
        valid: Share of valid skills among the latest texts.
        perplexity: Of the held-out texts, for their own vectors.
        distinct: Share of distinct word triples in the latest texts.
        kept: False if the decoder was rolled back.
    """

    valid: float
    perplexity: float
    distinct: float
    kept: bool = True


class OnlineLearner:
    """Updates a decoder by the rewards of what it wrote.

    Args:
        decoder: Changed in place.
        rehearsed: What it was trained on.
        held_out: Pairs it was not trained on, for the check of perplexity.
        knobs: Of `OnlineConfig`.

    Raises:
        UnknownNameError: No such knob.
        ConfigError: A knob out of range, or nothing to rehearse or to check with.

    Attributes:
        updates: How many there were.
        history: The checks so far.
        rollbacks: How many of them took the decoder back.
    """

    def __init__(
        self, decoder: ConditionedDecoder, rehearsed: Sequence[Pair], held_out: Sequence[Pair], **knobs: Any
    ) -> None:
        self.config = configure(OnlineConfig, knobs, "online learning")
        if not rehearsed or not held_out:
            raise ConfigError(
                "Online learning needs pairs to rehearse and held-out pairs to check with: give both, or a decoder "
                "can lose its format unseen."
            )
        self.decoder = decoder
        self._rehearsed, self._held_out = list(rehearsed), list(held_out)
        self._rows = decoder.rows_of([pair.text for pair in rehearsed])
        self._rng = np.random.default_rng(self.config.seed)
        self._rewards, self._contexts = np.empty(0), np.empty((0, 2 * decoder.content_dim))
        self._texts: deque[str] = deque(maxlen=self.config.window)
        self._reference = copy.deepcopy(decoder)
        self._lr = self.config.lr
        self.updates, self.rollbacks, self.history = 0, 0, list[Health]()
        self._perplexity = self.held_out_perplexity()
        self._distinct: float | None = None
        self._keep()

    def update(self, z: Array, u: Array, texts: Sequence[str], rewards: Sequence[float] | Array) -> Health | None:
        """One step on a batch of written texts. Several for the same z and u make a better baseline than one each.

        Args:
            z: Contents that were asked for, ``(B, content_dim)``.
            u: User states, ``(B, content_dim)``.
            texts: What the decoder wrote, B texts.
            rewards: In [0, 1], B of them.

        Returns:
            What the check found, if this update was followed by one.

        Raises:
            DataError: Different numbers of each, or a reward that is not finite.
        """
        import torch

        r = np.asarray(rewards, dtype=np.float64)
        if not len(texts) == len(r) == len(z) == len(u) or not len(texts):
            raise DataError(f"{len(z)} contents, {len(u)} users, {len(texts)} texts, {len(r)} rewards: not one each.")
        if not np.isfinite(r).all():
            raise DataError("A reward is not finite.")
        self._texts.extend(texts)
        advantage = self._advantages(z, u, r)

        rows = self.decoder.rows_of(texts)
        words = float(np.mean([len(row) for row in rows]))
        self._optimiser.zero_grad()
        # a few texts of like length at a time: large tensors of logits cost more than the sums in them
        for part in _parts(rows):
            ids, mask, logits = self.decoder.logits([rows[i] for i in part], z[part], u[part])
            drawn = -torch.nn.functional.cross_entropy(
                (logits / self.decoder.config.temperature).flatten(0, 1), ids.flatten(), reduction="none"
            ).view_as(ids)
            # over the mean length, not its own: that would make what is good short and what is bad long
            each = (drawn * mask).sum(1) / words
            loss = -(self.decoder._tensor(advantage[part], dtype=torch.float32) * each).sum()
            if self.config.kl:
                with torch.no_grad():
                    before = self._reference.logits([rows[i] for i in part], z[part], u[part])[2]
                loss = loss + self.config.kl * (_kl(logits, before) * mask).sum() / words
            (loss / len(rows)).backward()  # type: ignore[no-untyped-call]
        if self.config.replay:
            self._replay()
        torch.nn.utils.clip_grad_norm_(self._moved(), self.config.clip)
        self._optimiser.step()
        self.updates += 1
        return self.check() if self.updates % self.config.check_every == 0 else None

    def _replay(self) -> None:
        """Adds the gradient of the loss a token on some of the texts that the decoder was trained on."""
        import torch

        picked = self._rng.choice(len(self._rows), min(self.config.replay_batch, len(self._rows)), replace=False)
        unknown = np.full(self.decoder.content_dim, np.nan)
        rows, pairs = [self._rows[i] for i in picked], [self._rehearsed[i] for i in picked]
        known = self._rng.random(len(pairs)) < 0.5  # as in training
        Z = np.stack([pair.z for pair in pairs])
        U = np.stack(
            [pair.u if told and pair.u is not None else unknown for pair, told in zip(pairs, known, strict=True)]
        )
        for part in _parts(rows):
            ids, mask, logits = self.decoder.logits([rows[i] for i in part], Z[part], U[part])
            if self.config.replayed == "texts":
                losses = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), ids.flatten(), reduction="none"
                ).view_as(ids)
            else:
                with torch.no_grad():
                    before = self._reference.logits([rows[i] for i in part], Z[part], U[part])[2]
                losses = _kl(before, logits)
            loss = self.config.replay * (losses * mask).sum() / sum(map(len, rows))
            loss.backward()  # type: ignore[no-untyped-call]

    def _advantages(self, z: Array, u: Array, r: Array) -> Array:
        """How much better than expected of texts for these vectors, in deviations, ``(B,)``."""
        group, size = np.unique(np.concatenate([z, u], axis=1), axis=0, return_inverse=True, return_counts=True)[1:]
        group = group.reshape(-1)  # NumPy 2.0 gives it another shape
        if size.min() > 1:
            left = (r - np.bincount(group, r)[group] / size[group]) * (size / (size - 1))[group]
            return np.asarray(left / max(float(left.std()), 1e-3))
        kept = slice(-max(self.config.memory, len(r)), None)
        context = np.nan_to_num(np.concatenate([z, u], axis=1))
        y = self._rewards = np.concatenate([self._rewards, r])[kept]
        X = self._contexts = np.concatenate([self._contexts, context])[kept]
        X, y = (X - X.mean(0)) / np.maximum(X.std(0), 1e-6), y - y.mean()
        left = y - X @ np.linalg.solve(X.T @ X + self.config.ridge * np.eye(X.shape[1]), X.T @ y)
        return np.asarray(left[-len(r) :] / max(float(left.std()), 1e-3))

    def check(self) -> Health:
        """Looks at the latest texts and the held-out perplexity; takes the decoder back if they are out of bounds."""
        texts = list(self._texts)
        valid = float(np.mean([not any(v.severity == "error" for v in validate(text)) for text in texts]))
        varied, perplexity = distinct(texts), self.held_out_perplexity()
        self._distinct = varied if self._distinct is None else self._distinct
        kept = (
            valid >= self.config.min_valid
            and perplexity <= self.config.max_perplexity * self._perplexity
            and varied >= self.config.min_distinct * self._distinct
        )
        if kept:
            self._keep()
        else:
            self._take_back()
        self.history.append(Health(valid, perplexity, varied, kept))
        return self.history[-1]

    def _moved(self) -> list[Any]:
        if self.config.scope == "all":
            return self.decoder.parameters()
        return list(self.decoder.prefix.parameters())

    def _keep(self) -> None:
        self._kept = [value.detach().clone() for value in self._moved()]
        if self.updates == 0:
            self._restart()

    def _restart(self) -> None:
        import torch

        self._optimiser = torch.optim.AdamW(self._moved(), lr=self._lr, weight_decay=0.0)

    def _take_back(self) -> None:
        import torch

        with torch.no_grad():
            for value, kept in zip(self._moved(), self._kept, strict=True):
                value.copy_(kept)
        self._texts.clear()  # they were written by what has just been undone
        self._lr /= 2
        self.rollbacks += 1
        self._restart()

    def held_out_perplexity(self) -> float:
        """Perplexity of the held-out texts for their own contents."""
        Z = np.stack([pair.z for pair in self._held_out])
        return self.decoder.perplexity([pair.text for pair in self._held_out], Z).perplexity


def _parts(rows: Sequence[Sequence[int]], size: int = 8) -> list[NDArray[np.intp]]:
    """Places of rows of like length, a few at a time."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    return [order[at : at + size] for at in range(0, len(order), size)]


def _kl(p: Any, q: Any) -> Any:
    """KL(P || Q) at each place of logits ``(B, T, vocabulary)``, ``(B, T)``."""
    shape = p.shape[:2]
    p, q = p.flatten(0, 1).log_softmax(-1), q.flatten(0, 1).log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).view(shape)


def distinct(texts: Sequence[str], n: int = 3) -> float:
    """Share of distinct word n-grams in texts (Li et al., 2016); 1 if no two are the same.

    Args:
        texts: At least one.
        n: Words in a gram.
    """
    grams = [tuple(words[i : i + n]) for text in texts for words in [text.split()] for i in range(len(words) - n + 1)]
    return len(set(grams)) / max(len(grams), 1)
