"""How retrieval from a profile judges answers: labels by the votes of items, texts by the manner of their answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.habits import TRAITS, Profile
from hare_gym.lamp.lexicon import BLAME, CUES, NEGATIONS, PRAISE
from hare_gym.lamp.reading import Reader, content_words, tokens_of
from hare_gym.lamp.tasks import LampTask, Question, query_of, references_of

Array = NDArray[np.float64]

_K1, _B, _EPSILON = 1.5, 0.75, 0.25
_MIDDLE_RATING = 3.0
# The product of the first two traits says nothing that they do not.
_COUNTED = [k for k, name in enumerate(TRAITS) if name != "frame and place"]


def supports(
    read: Reader, source: str, texts: Sequence[str], manner: Sequence[str], traits: Array | None, likeness: float
) -> Array:
    """How well each text answers: what it says of its source, in the manner of other answers, ``(n,)``.

    |words of both| / √(1 + |its words| |the source's|), plus ``likeness`` times the sum of its traits but for the
    product, less the mean squared difference of its style from theirs (`hare_gym.lamp.reading.STYLE`).

    Args:
        read: Reads texts.
        source: What they are about.
        texts: n of them.
        manner: Other answers; where there are none, only what a text says counts.
        traits: By `Manner.traits` of those.
        likeness: How much the manner counts.
    """
    own, words = [read(text) for text in texts], read(source).words
    scores = np.array([len(words & text.words) / math.sqrt(1.0 + len(text.words) * len(words)) for text in own])
    if traits is None or not manner:
        return scores
    usual = np.mean([read(text).style for text in manner], axis=0)
    away = np.mean((np.stack([text.style for text in own]) - usual) ** 2, axis=1)
    return np.asarray(scores + likeness * (traits[:, _COUNTED].sum(axis=1) - away))


def votes(task: LampTask, question: Question, profile: Profile, chosen: Sequence[int], cues: float) -> Array:
    """How well each label answers, ``(L,)``, by items of the profile, the first ones of which count most.

    - Ratings: less the distance from the mean of the items' scores plus ``cues`` times by how much more the input
      praises than they do; from what the input says, where there are no items.
    - Citation: the words that a reference shares with the items, each by its rarity in the profile.
    - Tags and categories: the label's share of the items plus ``cues`` times its share of the input's hints.

    Args:
        task: One with labels.
        question: What is asked.
        profile: Whose items they are.
        chosen: Their places.
        cues: How much the input's own words count.
    """
    source = query_of(task, question.input)
    if task.number == 1:
        return _references(question, profile, chosen)
    weights = 1.0 / np.arange(1, len(chosen) + 1)
    weights /= weights.sum()
    if task.metric == "rating":
        value = stars(source, profile, chosen, weights, cues)
        return -np.abs(np.array([float(label) for label in task.labels]) - value)
    found = {label: cues * share for label, share in hints(task, source).items()}
    for i, weight in zip(chosen, weights, strict=True):
        label = profile.answered[i].strip()
        if label in found:
            found[label] += weight
    return np.array(list(found.values()))


def stars(source: str, profile: Profile, chosen: Sequence[int], weights: Array, cues: float) -> float:
    """The rating that items with weights of sum one speak for."""
    if not len(chosen):
        return _MIDDLE_RATING + 2.0 * praise_in(source)
    scores = np.array([_rating(profile.answered[i]) for i in chosen])
    praise = praise_in(source) - np.array([praise_in(profile.asked[i]) for i in chosen]) @ weights
    return float(scores @ weights) + cues * float(praise)


def _references(question: Question, profile: Profile, chosen: Sequence[int]) -> Array:
    references = references_of(question.input)
    if references is None:
        return np.zeros(2)
    seen = Counter(word for own in profile.words for word in own)
    known: dict[str, float] = {}
    for place, i in enumerate(chosen):
        for word in profile.words[i]:
            rarity = math.log(1.0 + len(profile.items) / seen[word])
            known[word] = known.get(word, 0.0) + rarity / (1 + place)
    support = []
    for reference in references:
        words = content_words(tokens_of(reference))
        # exact, so that it does not depend on the order of a set
        support.append(math.fsum(known.get(word, 0.0) for word in words) / math.sqrt(1.0 + len(words)))
    return np.array(support)


def _rating(score: str) -> float:
    try:
        value = float(score)
    except ValueError:
        return _MIDDLE_RATING
    return min(max(value, 1.0), 5.0) if math.isfinite(value) else _MIDDLE_RATING


def praise_in(text: str) -> float:
    """By how much a text praises rather than blames, in (-1, 1): (p - b) / (p + b + 1) of its words of either kind.

    A word behind a negation counts as the other kind.
    """
    praise = blame = 0
    words = tokens_of(text)
    for before, word in zip(["", *words], words, strict=False):
        if word in PRAISE or word in BLAME:
            if (word in PRAISE) != (before in NEGATIONS):
                praise += 1
            else:
                blame += 1
    return (praise - blame) / (praise + blame + 1)


def hints(task: LampTask, text: str) -> dict[str, float]:
    """For each label the share of a text's words that hint at it, among all hints; zeros where there are none."""
    words = set(tokens_of(text))
    counts = {
        label: len(words & (CUES.get(label, frozenset()) | content_words(tokens_of(label)))) for label in task.labels
    }
    total = max(sum(counts.values()), 1)
    return {label: count / total for label, count in counts.items()}


class Okapi:
    """An index of some texts for BM25; see `BM25` for the formula."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(text.split()) for text in texts]
        N = len(texts)
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        mean = float(lengths.mean()) if N else 0.0
        self.norm = _K1 * (1.0 - _B + _B * lengths / max(mean, 1e-12))
        self.places: dict[str, list[tuple[int, int]]] = {}
        for i, count in enumerate(counts):
            for word, times in count.items():
                self.places.setdefault(word, []).append((i, times))
        raw = {
            word: math.log(N - len(found) + 0.5) - math.log(len(found) + 0.5) for word, found in self.places.items()
        }
        floor = _EPSILON * math.fsum(raw.values()) / max(len(raw), 1)
        self.idf = {word: value if value >= 0.0 else floor for word, value in raw.items()}

    def scores(self, query: str) -> Array:
        """One a text, ``(N,)``; a word that is asked for twice counts twice."""
        found = np.zeros(len(self.norm))
        for word in query.split():
            for i, times in self.places.get(word, ()):
                found[i] += self.idf[word] * times * (_K1 + 1.0) / (times + self.norm[i])
        return found


def bm25_scores(profile: Profile, query: str) -> Array:
    """The items' scores for a query, ``(n,)``; the profile keeps its index."""
    if profile.index is None:
        profile.index = Okapi(profile.documents)
    index: Okapi = profile.index
    return index.scores(query)
