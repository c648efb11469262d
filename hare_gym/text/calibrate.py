"""Fits what measures texts to the built-in corpus.

``python -m hare_gym.text.calibrate`` writes ``measured/minilm.npz``.

Everything is ridge regression. The semantic directions are fitted to units and to whole texts at once, so that a text
whose sections are blended from two domains is placed between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import yaml
from numpy.typing import NDArray

from hare_gym.text.corpus import DOMAINS, LEVELS, SPECIFICITIES, STYLES, TOPICS, Query, load_corpus
from hare_gym.text.encoders import Encoder, Vectors, load_encoder
from hare_gym.text.skills import Skill
from hare_gym.text.space import SECTION_WEIGHTS, SPACE_FILE, THEME, Space, contrasts, standardised, unit_key
from hare_gym.text.units import Units, units_of

Array = NDArray[np.float64]

_ANCHORS_FILE = SPACE_FILE.parent / "anchors.yaml"
# The anchors together weigh as much as this many times the corpus' whole texts.
ANCHOR_WEIGHT = 2.0
PENALTIES = {"domain": 3e-4, "topic": 3e-3, "query": 3e-3, "surface": 0.03}


def fitted_space(encoder: Encoder) -> Space:
    """The space of an encoder, fitted to the built-in corpus.

    Args:
        encoder: Embeds some 5,500 short texts: minutes for a transformer whose vectors are not in the cache.
    """
    skills = load_corpus().skills
    units = [units_of(skill) for skill in skills]
    distinct = sorted({unit for u in units for unit in u.all})
    asked_for = queries()
    embedded = dict(zip(distinct, np.asarray(encoder.encode(distinct), dtype=np.float64), strict=True))
    asked = np.asarray(encoder.encode([query.text for query in asked_for]), dtype=np.float64)
    labels = {kind: [skill.metadata[kind] for skill in skills] for kind in ("domain", "topic")}
    vectors = np.array([embedded[unit] for unit in distinct])
    text_map = np.concatenate(
        [semantic_map(units, labels, embedded, embedded_anchors(encoder)), theme_map(vectors)], axis=1
    )
    surface = np.array([u.surface for u in units])
    scale = np.stack([surface.mean(axis=0), surface.std(axis=0)])
    query_map = _query_map(asked_for, asked)
    return Space(
        encoder.name,
        text_map,
        query_map,
        scale,
        surface_map(surface, scale, skills),
        dict(zip(map(unit_key, distinct), _applied(vectors, text_map), strict=True)),
        dict(zip((unit_key(query.text) for query in asked_for), _applied(asked, query_map), strict=True)),
    )


def _applied(x: Array, matrix: Array) -> Array:
    # what is shipped is shipped in half precision; the same rounding everywhere
    return np.asarray(x @ matrix[:-1] + matrix[-1], dtype=np.float16).astype(np.float64)


def theme_map(vectors: Array) -> Array:
    """Embedding to the principal components of the corpus' units, ``(dim + 1, 24)``."""
    mean = vectors.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov(vectors.T))
    matrix = directions[:, ::-1][:, : THEME.stop - THEME.start]
    return np.vstack([matrix, -mean @ matrix])


def embedded_anchors(encoder: Encoder) -> list[tuple[str, Vectors]]:
    """Domain and embedding, ``(dim,)``, of the phrases that widen what a domain is about."""
    loaded = yaml.safe_load(_ANCHORS_FILE.read_text(encoding="utf-8"))
    domains = [domain for domain in DOMAINS for _ in loaded[domain]]
    vectors = encoder.encode([text for domain in DOMAINS for text in loaded[domain]])
    return list(zip(domains, vectors, strict=True))


def semantic_map(
    units: Sequence[Units],
    labels: Mapping[str, Sequence[str]],
    embedded: Mapping[str, Array],
    anchored: Sequence[tuple[str, Vectors]],
) -> Array:
    """Embedding to domain and topic coordinates, ``(dim + 1, 12)``.

    A ridge regression to one-hot labels, scaled so that a text scores on average one more for its own domain (topic)
    than for another. It is linear: a text with 70% of its weight in one domain and 30% in another is placed so.

    Args:
        units: Of the n skills to fit to.
        labels: Their domains and topics, by ``"domain"`` and ``"topic"``.
        embedded: Embeddings of all their units, ``(dim,)`` each.
        anchored: Domain and embedding of phrases, as `embedded_anchors` gives them.
    """
    rows, weights, owner = [], [], []
    whole = np.array([embedding(u, embedded) for u in units])
    for i, u in enumerate(units):
        for name, weight in SECTION_WEIGHTS.items():
            part = tuple(dict.fromkeys(getattr(u, name)))
            rows += [embedded[unit] for unit in part]
            weights += [weight / len(part)] * len(part)
            owner += [i] * len(part)
    x = np.vstack([whole, rows])
    owners = np.concatenate([np.arange(len(units)), owner])
    w = np.concatenate([np.ones(len(units)), weights])
    blocks = []
    for kind, names in (("domain", DOMAINS), ("topic", TOPICS)):
        y = np.array([names.index(label) for label in labels[kind]])
        target = np.eye(len(names))[y]
        rows_x, rows_y, rows_w = x, target[owners], w
        if kind == "domain":
            label = np.array([names.index(domain) for domain, _ in anchored])
            share = ANCHOR_WEIGHT * len(units) / np.bincount(label, minlength=len(names))[label] / len(names)
            rows_x = np.vstack([x, [vector for _, vector in anchored]])
            rows_y = np.vstack([rows_y, np.eye(len(names))[label]])
            rows_w = np.concatenate([w, share])
        fitted = ridge(rows_x, rows_y, PENALTIES[kind], rows_w)
        scores = whole @ fitted[:-1] + fitted[-1]
        own = scores[np.arange(len(y)), y].mean()
        others = (scores.sum(axis=1).mean() - own) / (len(names) - 1)
        blocks.append(fitted / (own - others) @ contrasts(len(names)))
    return np.concatenate(blocks, axis=1)


def embedding(units: Units, embedded: Mapping[str, Array]) -> Array:
    """The weighted mean of the sections' means, ``(dim,)``; of complete skills only."""
    return np.asarray(
        sum(
            weight * np.mean([embedded[unit] for unit in dict.fromkeys(getattr(units, name))], axis=0)
            for name, weight in SECTION_WEIGHTS.items()
        )
    )


def surface_map(surface: Array, scale: Array, skills: Sequence[Skill]) -> Array:
    """Standardised surface to level and specificity (from -1 to 1) and style coordinates, ``(18, 5)``."""
    z = standardised(surface, scale)
    level = np.array([LEVELS.index(s.metadata["level"]) / 3 for s in skills])
    specificity = np.array([SPECIFICITIES.index(s.metadata["specificity"]) / 2 for s in skills])
    style = np.eye(len(STYLES))[[STYLES.index(s.metadata["style"]) for s in skills]]
    target = np.column_stack([2.0 * level - 1.0, 2.0 * specificity - 1.0, style @ contrasts(len(STYLES))])
    fitted = ridge(z, target, PENALTIES["surface"])
    # what regression shrinks is stretched again, so that the ends of the scale can be reached
    made = z @ fitted[:-1] + fitted[-1]
    gain = np.array([_slope(made[:, k], target[:, k]) for k in range(target.shape[1])])
    return np.asarray(fitted * gain)


def _slope(made: Array, target: Array) -> float:
    return float(1.0 / np.polyfit(target, made, 1)[0])


def ridge(x: Array, y: Array, penalty: float, weights: Array | None = None) -> Array:
    """Weighted ridge regression with a free offset; ``(m + 1, k)``, the last row being the offset."""
    w = np.full(len(x), 1.0 / len(x)) if weights is None else weights / weights.sum()
    mean_x, mean_y = w @ x, w @ y
    centred = (x - mean_x) * w[:, None]
    gram = centred.T @ (x - mean_x)
    matrix = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T @ (y - mean_y))
    return np.vstack([matrix, mean_y - mean_x @ matrix])


def queries() -> tuple[Query, ...]:
    """The built-in queries, topic by topic."""
    return tuple(query for found in load_corpus().queries.values() for query in found)


def _query_map(asked_for: Sequence[Query], asked: Array) -> Array:
    topic = np.eye(len(TOPICS))[[TOPICS.index(query.topic) for query in asked_for]]
    even, one_hot = np.full(len(DOMAINS), 1.0 / len(DOMAINS)), np.eye(len(DOMAINS))
    domain = np.array([one_hot[DOMAINS.index(query.hints[0])] if query.hints else even for query in asked_for])
    blocks = [ridge(asked, target, PENALTIES["query"]) @ contrasts(target.shape[1]) for target in (domain, topic)]
    return np.concatenate(blocks, axis=1)


def main() -> None:
    """Writes the space of all-MiniLM-L6-v2."""
    space = fitted_space(load_encoder("minilm"))
    space.save(SPACE_FILE)
    print(f"{SPACE_FILE}: {SPACE_FILE.stat().st_size:,} bytes, {len(space.units):,} units")


if __name__ == "__main__":
    main()
