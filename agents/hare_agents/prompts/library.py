"""The prompts themselves, their base relevance, and the distance between their topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from hare_agents.prompts.config import (
    FEATURES,
    Feature,
    Name,
    RelevanceSection,
    Section,
    read_yaml,
    validated,
)
from hare_gym.errors import ConfigError, DataError, unknown_name

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WHOLE = 100.0


class Prompt(Section):
    """One prompt, as an editor writes it down.

    Attributes:
        id: Its name in every record.
        text: What the visitor reads.
        topic: Its topic cluster.
        affinity: From 0 to 100 by ``lens:<name>`` or ``topic:<name>`` of the context.
        targets: The buckets that it is meant for, by feature; a feature that is left out does not matter.
    """

    id: Name
    text: str = ""
    topic: Name = "any"
    affinity: dict[
        Annotated[str, Field(pattern=r"^(lens|topic):[a-z0-9][a-z0-9-]{0,63}$")],
        Annotated[float, Field(ge=0, le=100)],
    ] = Field(default_factory=dict)
    targets: dict[Feature, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)


class _File(Section):
    prompts: list[Prompt]
    topics: dict[Name, list[float]] = Field(default_factory=dict)


class Library:
    """Prompts in the order of their ids, as arrays. Row i of every array is the prompt ``ids[i]``.

    Args:
        prompts: The prompts; their ids are distinct.
        topics: A vector for each topic, by which distances are cosine distances. Without, two topics are 1 apart.

    Raises:
        ConfigError: Two prompts with one id, or vectors of unequal length, of length 0, or missing for a topic.
    """

    def __init__(self, prompts: Iterable[Prompt], topics: Mapping[str, Sequence[float]] | None = None) -> None:
        self.prompts = tuple(sorted(prompts, key=lambda prompt: prompt.id))
        self.ids = tuple(prompt.id for prompt in self.prompts)
        self.rows = {id: i for i, id in enumerate(self.ids)}
        if len(self.rows) < len(self.ids):
            twice = next(a for a, b in zip(self.ids, self.ids[1:], strict=False) if a == b)
            raise ConfigError(f"Two prompts have the id {twice!r}. Give each its own.")
        self.topic_names = tuple(sorted({prompt.topic for prompt in self.prompts}))
        place = {name: i for i, name in enumerate(self.topic_names)}
        self.topic_of = np.array([place[prompt.topic] for prompt in self.prompts], dtype=np.intp)
        self.distances = _distances(self.topic_names, topics or {})
        self._affinity = _columns(
            (name, i, value) for i, p in enumerate(self.prompts) for name, value in p.affinity.items()
        )
        self._targets = _columns(
            (f"{feature}:{value}", i, 1.0)
            for i, p in enumerate(self.prompts)
            for feature, values in p.targets.items()
            for value in values
        )
        self._targeted = _columns((feature, i, 1.0) for i, p in enumerate(self.prompts) for feature in p.targets)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def load(cls, path: str | Path) -> Library:
        """Reads a YAML file with ``prompts`` (a list) and, where they are known, ``topics`` (vectors by name).

        Raises:
            ConfigError: The file cannot be read, or a field is missing, of the wrong type or out of range.
            UnknownNameError: A field that does not exist.
        """
        read = validated(_File, read_yaml(path), str(path))
        return cls(read.prompts, read.topics)

    def row(self, id: str) -> int:
        """The row of a prompt.

        Raises:
            UnknownNameError: There is no such prompt.
        """
        try:
            return self.rows[id]
        except (KeyError, TypeError):
            raise unknown_name("prompt", str(id)[:200], self.ids) from None

    def text(self, id: str) -> str:
        """What a visitor reads; raises as :meth:`row` does."""
        return self.prompts[self.row(id)].text

    def relevance(self, section: RelevanceSection, buckets: Mapping[Feature, str]) -> Array:
        """Base relevance in a context, 0 to 100, ``(N,)``.

        The mean of the affinities to its lens and to its topic, times ``off_target`` for each target that it misses.
        """
        base = np.full(len(self), 2.0 * section.default_affinity)
        for name in (f"lens:{buckets['lens']}", f"topic:{buckets['topic']}"):
            rows, values = self._affinity.get(name, _NOTHING)
            base[rows] += values - section.default_affinity
        base *= 0.5
        for feature in FEATURES:
            if feature in self._targeted:
                missed = np.zeros(len(self), dtype=bool)
                missed[self._targeted[feature][0]] = True
                missed[self._targets.get(f"{feature}:{buckets[feature]}", _NOTHING)[0]] = False
                base[missed] *= section.off_target
        return base


def checked_relevance(base: Any, count: int) -> Array:
    """Somebody's own base relevance, ``(N,)``.

    Raises:
        DataError: Another shape, a number that is not finite, or one outside 0 to 100.
    """
    given: Array = np.asarray(base, dtype=np.float64)
    if given.shape != (count,):
        raise DataError(f"base has shape {given.shape}, but there are {count} prompts. Give one number for each.")
    if not ((given >= 0.0) & (given <= _WHOLE)).all():
        raise DataError("base must hold finite numbers from 0 to 100. Scale it before it is given.")
    return given


_Column = tuple[NDArray[np.intp], Array]
_NOTHING: _Column = (np.zeros(0, dtype=np.intp), np.zeros(0))


def _columns(entries: Iterable[tuple[str, int, float]]) -> dict[str, _Column]:
    """Sparse columns by name: the rows that say something, and what."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for name, row, value in entries:
        rows, values = found.setdefault(name, ([], []))
        rows.append(row)
        values.append(value)
    return {name: (np.array(rows, dtype=np.intp), np.array(values)) for name, (rows, values) in found.items()}


def _distances(names: Sequence[str], topics: Mapping[str, Sequence[float]]) -> Array:
    """Distances between topics, ``(topics, topics)``."""
    if not topics:
        return 1.0 - np.eye(len(names))
    for name in names:
        if name not in topics:
            raise ConfigError(f"Topic {name!r} of a prompt has no vector. Give one for every topic, or for none.")
    try:
        vectors: Array = np.array([topics[name] for name in names], dtype=np.float64)
    except ValueError:
        raise ConfigError("The vectors of the topics have unequal lengths. Give them all the same.") from None
    lengths = np.sqrt(np.vecdot(vectors, vectors))[:, None]
    if not np.isfinite(vectors).all() or not (lengths > 0.0).all():
        raise ConfigError("A topic's vector is zero or not finite. Give each a direction.")
    vectors /= lengths
    distances: Array = 1.0 - vectors @ vectors.T
    np.fill_diagonal(distances, 0.0)
    return np.maximum(distances, 0.0)
