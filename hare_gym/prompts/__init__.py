"""Prompts and the contexts in which they are shown: what `HarePrompts-v0` and agents on it share.

A prompt is a short text that invites a visitor to go on. What is known of a visit, and nothing of the visitor, is a
`PromptContext`; `encode_context` makes the observation's ``query`` of it, and `decode_context` takes it out again::

    context = decode_context(observation["query"])
    context.lens, context.topic, context.entropy, context.depth, context.hour
    # ('skeptic', 'climate', 0.83, 0, 18.4)

Layout of ``query``, float64 ``(QUERY_DIM,)``:

===========  =================================================================================
places       meaning
===========  =================================================================================
0 to 3       the lens, one-hot over `LENSES`
4 to 9       the topic cluster of what is being read, one-hot over `TOPICS`
10           entropy, 0 (settled) to 1 (lost)
11           depth: prompts shown in this session before, divided by `DEPTH_SCALE`
12           the hour of the day, 0 to 24, divided by 24
13 to 15     the bucket of the entropy, one-hot: low (< 0.3), medium, high (> 0.7)
16 to 18     the bucket of the depth, one-hot: shallow (< 3), medium, deep (>= 8)
19 to 22     the time of day, one-hot: morning (from 6), afternoon (12), evening (18), night (22)
===========  =================================================================================

An item's vector, float64 ``(CONTENT_DIM,)``, is what an editor says of a prompt: its topic, one-hot over `TOPICS`,
and its affinity to each of `LENSES`, divided by 100. `cards_of` reads a task's pool as `PromptCard`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import ArrayLike, NDArray

from hare_gym.contract import TaskSpec
from hare_gym.errors import DataError

Array = NDArray[np.float64]

LENSES = ("skeptic", "builder", "historian", "storyteller")
TOPICS = ("ai-safety", "climate", "ethics", "mind", "economics", "biology")
LOW_ENTROPY, HIGH_ENTROPY = 0.3, 0.7
MEDIUM_DEPTH, DEEP_DEPTH = 3, 8
TIMES = {"morning": 6, "afternoon": 12, "evening": 18, "night": 22}
DEPTH_SCALE = 20.0

_LENS, _TOPIC = slice(0, 4), slice(4, 10)
_ENTROPY, _DEPTH, _HOUR = 10, 11, 12
_BUCKETS, _DEPTHS, _TIMES = slice(13, 16), slice(16, 19), slice(19, 23)
QUERY_DIM = 23
CONTENT_DIM = len(TOPICS) + len(LENSES)
_SLOTS = np.array([*TIMES.values()], dtype=np.float64)
_ONE_OF_3, _ONE_OF_4, _ONE_OF_6 = np.eye(3), np.eye(4), np.eye(6)


@dataclass(frozen=True)
class PromptContext:
    """What is known of a visit.

    Attributes:
        lens: The visitor's way of looking, one of `LENSES`.
        topic: The topic cluster of what is being read, one of `TOPICS`.
        entropy: How unsettled the visitor is, 0 to 1.
        depth: Slates shown in this session before.
        hour: The hour of the day, from 0 up to 24.
    """

    lens: str
    topic: str
    entropy: float
    depth: int
    hour: float

    @property
    def bucket(self) -> str:
        """``low``, ``medium`` or ``high`` entropy."""
        return ("low", "medium", "high")[(self.entropy >= LOW_ENTROPY) + (self.entropy > HIGH_ENTROPY)]

    @property
    def stage(self) -> str:
        """``shallow``, ``medium`` or ``deep``: how far the session has come."""
        return ("shallow", "medium", "deep")[(self.depth >= MEDIUM_DEPTH) + (self.depth >= DEEP_DEPTH)]

    @property
    def time(self) -> str:
        """``morning``, ``afternoon``, ``evening`` or ``night``."""
        return [*TIMES][int(time_slots(np.array(self.hour)))]


@dataclass(frozen=True)
class PromptCard:
    """What is known of a prompt: its place in the pool, its topic, affinity to each lens (0 to 100), and text."""

    index: int
    topic: str
    affinity: dict[str, float]
    text: str


def time_slots(hour: Any) -> NDArray[np.int64]:
    """The index in `TIMES` of hours of the day; before the first it is still the last."""
    slots: NDArray[np.int64] = _SLOTS.searchsorted(hour, side="right") - 1 & 3
    return slots


def encode_contexts(lens: Any, topic: Any, entropy: Any, depth: Any, hour: Any) -> Array:
    """Contexts as queries, ``(W, QUERY_DIM)``: indices of lenses and topics, and the numbers, each ``(W,)``."""
    parts = [
        _ONE_OF_4[lens],
        _ONE_OF_6[topic],
        np.stack([entropy, depth / DEPTH_SCALE, hour / 24.0], axis=1),
        _ONE_OF_3[np.add(entropy >= LOW_ENTROPY, entropy > HIGH_ENTROPY, dtype=np.int64)],
        _ONE_OF_3[np.add(depth >= MEDIUM_DEPTH, depth >= DEEP_DEPTH, dtype=np.int64)],
        _ONE_OF_4[time_slots(hour)],
    ]
    return np.concatenate(parts, axis=1)


def encode_context(context: PromptContext) -> Array:
    """One context as a query, ``(QUERY_DIM,)``."""
    lens, topic = LENSES.index(context.lens), TOPICS.index(context.topic)
    numbers = (context.entropy, context.depth, context.hour)
    query: Array = encode_contexts(*(np.array([value]) for value in (lens, topic, *numbers)))[0]
    return query


def decode_context(query: ArrayLike) -> PromptContext:
    """The context out of a query of `HarePrompts-v0`.

    Raises:
        DataError: It has another shape.
    """
    q = np.asarray(query, dtype=np.float64)
    if q.shape != (QUERY_DIM,):
        raise DataError(f"A query of prompts has shape ({QUERY_DIM},), not {q.shape}: is it another task's?")
    return PromptContext(
        LENSES[int(q[_LENS].argmax())],
        TOPICS[int(q[_TOPIC].argmax())],
        float(q[_ENTROPY]),
        round(float(q[_DEPTH]) * DEPTH_SCALE),
        float(q[_HOUR]) * 24.0,
    )


def cards_of(spec: TaskSpec) -> list[PromptCard]:
    """The prompts of a task.

    Raises:
        DataError: The task's pool is not one of prompts.
    """
    if spec.pool is None or spec.pool.shape[1] != CONTENT_DIM or spec.pool_texts is None:
        raise DataError(f"{spec.id} has no pool of prompts, whose vectors have {CONTENT_DIM} coordinates and texts.")
    return [
        PromptCard(
            i,
            TOPICS[int(row[: len(TOPICS)].argmax())],
            dict(zip(LENSES, (100.0 * row[len(TOPICS) :]).round(6).tolist(), strict=True)),
            text,
        )
        for i, (row, text) in enumerate(zip(spec.pool, spec.pool_texts, strict=True))
    ]


@dataclass(frozen=True)
class Catalogue:
    """N prompts: what editors say (topic, affinity), and what they meant (effect, quality).

    Attributes:
        texts: The prompts' words.
        topics: Indices in `TOPICS`, int64 ``(N,)``.
        affinity: To each lens, in [0, 1], ``(N, len(LENSES))``.
        effect: The intended change of entropy, ``(N,)``.
        quality: In [0, 1], ``(N,)``.
    """

    texts: tuple[str, ...]
    topics: NDArray[np.int64]
    affinity: Array
    effect: Array
    quality: Array

    @property
    def vectors(self) -> Array:
        """The items' vectors, ``(N, CONTENT_DIM)``."""
        return np.concatenate([np.eye(len(TOPICS))[self.topics], self.affinity], axis=1)


@cache
def catalogue(size: int) -> Catalogue:
    """The first ``size`` prompts, topics in turn: 48 in words, then synthetic ones, the same in every world."""
    path = Path(__file__).with_name("catalogue.yaml")
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = [(t, written[topic][i]) for i in range(len(written[TOPICS[0]])) for t, topic in enumerate(TOPICS)][:size]
    rng = np.random.Generator(np.random.PCG64(20260101))
    for i in range(len(rows), size):
        topic = i % len(TOPICS)
        made = {
            "affinity": np.rint(50.0 * (rng.random(len(LENSES)) + rng.random(len(LENSES)))).tolist(),
            "effect": 0.5 * rng.random() - 0.25,
            "quality": 0.35 + 0.5 * rng.random(),
            "text": f"Question {i + 1}, on {TOPICS[topic]}",
        }
        rows.append((topic, made))
    return Catalogue(
        tuple(row["text"] for _, row in rows),
        np.array([topic for topic, _ in rows]),
        np.array([row["affinity"] for _, row in rows]) / 100.0,
        np.array([row["effect"] for _, row in rows]),
        np.array([row["quality"] for _, row in rows]),
    )
