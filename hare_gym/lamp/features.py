"""What any reader can compute of an answer from the question, the profile and the answer: the vectors of a LaMP pool.

No gold answer and no hidden user comes in. The vectors are made so that a model that is linear in (1, y, x⊗y, user⊗y)
can learn what people do on the whole and what sets one of them apart:

- **Ratings** (task 3): the answer's distance, and squared distance, from the profile's mean, from the vote of like
  reviews, from what the words' sentiment says, and from that sentiment as this profile's own scores read it.
- **Tags** (task 2): how often, how lately and for how like questions the profile has the label; hints in the words.
- **Citations** (task 1): what one reference has in common with the title and the profile, less what the other has.
- **Texts** (tasks 4 to 7): style, likeness to the style and the openings of the profile's answers, and from where in
  the source the words come.

All vectors lie in the unit ball, in a fixed order of the coordinates that `Features.names` tells.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.lamp.lexicon import BLAME, CUES, NEGATIONS, PRAISE
from hare_gym.lamp.reading import HASHED, STYLE, Reader, Text, sentences_of, tokens_of
from hare_gym.lamp.tasks import LampTask, ProfileItem, Question, query_of, references_of

Array = NDArray[np.float64]

FEATURES_VERSION = "1"
QUERY_DIM = 16
# What a later item of the profile counts more than the one before it.
_FADING = 0.8
# Items whose profiles' analysis is remembered.
_ITEMS = 16_384
_TOPICS = 8
# What brings vectors of coordinates in [-1, 1] into the unit ball, nearly always by itself.
_SCALE = {"reference": 0.65, "tag": 0.45, "rating": 0.36, "text": 0.33}


class Features:
    """The vectors of a task's questions, profile items and answers.

    ::

        features = Features(TASKS[4])
        y = features(question, ["A Bridge Too Far", "Why Bridges Fail"])     # (2, features.dim)
        x = features.query(question)                                         # (features.query_dim,)

    What it has read it remembers, so one object should serve many rounds. Profiles are told apart as objects: give
    the same tuple for the same profile (`hare_gym.lamp.reading.question_of` does).

    Args:
        task: Which task.
        encoder: ``hashed``, which needs no model, or a name that `hare_gym.text.encoders.load_encoder` takes.

    Attributes:
        names: What each coordinate of an answer's vector is.
        dim: How many there are.
        query_dim: Length of a question's and of a profile item's vector.

    Raises:
        ConfigError: An encoder that is fitted to texts, or that cannot be loaded.
        UnknownNameError: No such encoder.
    """

    query_dim = QUERY_DIM

    def __init__(self, task: LampTask, encoder: str = HASHED) -> None:
        self.task = task
        self.reader = Reader(encoder)
        kind = {"rating": "rating", "rouge": "text", "accuracy": "reference" if task.number == 1 else "tag"}[
            task.metric
        ]
        self.names: tuple[str, ...] = (*task.labels, *_NAMES[kind])
        self._scale = _SCALE[kind]
        self.dim = len(self.names)
        self._index = {label: k for k, label in enumerate(task.labels)}
        self._profiles: OrderedDict[int, _Profile] = OrderedDict()
        self._held = 0
        # signs that fold the encoder's vector to a query's: exact for sums of signs, as near as any for others
        rng = np.random.default_rng(16)
        self._fold = 2.0 * rng.integers(0, 2, (self.reader.dim, self.query_dim)) - 1.0
        self._topic = 2.0 * rng.integers(0, 2, (self.reader.dim, _TOPICS)) - 1.0

    @property
    def name(self) -> str:
        """The encoder's name and the features' version, for a `TaskSpec`."""
        return f"{self.reader.name}/lamp-features@{FEATURES_VERSION}"

    # -- vectors ------------------------------------------------------------------------------------------------

    def __call__(self, question: Question, answers: Sequence[str]) -> Array:
        """The answers' vectors, float64 ``(n, dim)``, each in the unit ball; a label outside the set gives zeros."""
        if not len(answers):
            return np.zeros((0, self.dim))
        if not self.task.labels:
            return self._texts(question, answers)
        if self.task.metric == "rating":
            table = self._ratings(question)
        else:
            table = self._references(question) if self.task.number == 1 else self._tags(question)
        table = self._scale * np.concatenate([np.eye(len(table)), table], axis=1)
        places = [self._index.get(answer.strip(), -1) for answer in answers]
        return _into_ball(np.concatenate([table, np.zeros((1, self.dim))])[places])

    def query(self, question: Question) -> Array:
        """The vector of what is asked, ``(query_dim,)``, of length one (zeros for a text without content words)."""
        return self._folded(self.reader(query_of(self.task, question.input)).vector)

    def profile(self, question: Question) -> Array:
        """The vectors of the profile's items, ``(P, query_dim)``: those of the texts that retrieval looks at."""
        return self._folded(self._profile(question.profile).vectors)

    def similarities(self, question: Question) -> Array:
        """Cosines of what is asked with the profile's items, ``(P,)``, by the whole vectors of the encoder."""
        return self._profile(question.profile).similarities(self.reader(query_of(self.task, question.input)))

    def _folded(self, vectors: Array) -> Array:
        short = vectors @ self._fold
        lengths = np.sqrt((short * short).sum(axis=-1, keepdims=True))
        folded: Array = short / np.where(lengths > 0.0, lengths, 1.0)
        return folded

    def _profile(self, items: tuple[ProfileItem, ...]) -> _Profile:
        found = self._profiles.get(id(items))
        if found is None or found.items is not items:
            found = self._profiles[id(items)] = _Profile(items, self.task, self.reader)
            self._held += len(items) + 1
            while self._held > _ITEMS and len(self._profiles) > 1:
                self._held -= len(self._profiles.popitem(last=False)[1].items) + 1
        return found

    # -- labels -------------------------------------------------------------------------------------------------

    def _tags(self, question: Question) -> Array:
        """``(L, 11)``."""
        labels, profile = self.task.labels, self._profile(question.profile)
        asked = self.reader(query_of(self.task, question.input))
        found = np.zeros((len(labels), len(_TAG)))
        hints = np.array([len(asked.words & CUES.get(label, frozenset())) for label in labels], dtype=np.float64)
        tokens = set(asked.tokens)
        found[:, 5] = np.minimum(hints, 4.0) / 4.0
        found[:, 6] = (hints == hints.max()) & (hints > 0.0)
        found[:, 7] = [tokens.issuperset(tokens_of(label)) for label in labels]
        if profile.items:
            counts = profile.counts
            similar = np.maximum(profile.similarities(asked), 0.0)
            weights = similar * similar
            votes = profile.summed(weights)
            found[:, 0] = counts / len(profile.items)
            found[:, 1] = votes / max(float(weights.sum()), 1e-12)
            found[:, 2] = (profile.of_label * similar[:, None]).max(axis=0)
            found[:, 3] = profile.lately
            found[:, 4] = counts == counts.max()
            found[:, 8] = (votes == votes.max()) & (votes > 0.0)
            found[:, 9] = counts > 0.0
            found[:, 10] = found[:, 0] * found[:, 5]
        return found

    def _ratings(self, question: Question) -> Array:
        """``(5, 16)``."""
        profile = self._profile(question.profile)
        asked = self.reader(query_of(self.task, question.input))
        feeling = _feeling(asked)
        by_words = 3.0 + 2.0 * feeling
        mean = vote = own = latest = by_words
        found = np.zeros((5, len(_RATING)))
        if len(profile.scores):
            weights = np.maximum(profile.similarities(asked)[profile.rated], 0.0) ** 2 + 1e-3
            mean = float(profile.scores.mean())
            vote = float((weights * profile.scores).sum() / weights.sum())
            own = min(max(mean + profile.slope * (feeling - profile.feeling), 1.0), 5.0)
            latest = float(profile.scores[-3:].mean())
            found[:, 12] = profile.counts / len(profile.items)
            found[:, 13] = (profile.of_label[profile.rated] * weights[:, None]).sum(axis=0) / weights.sum()
        y = np.arange(1.0, 6.0)
        z = (y - 3.0) / 2.0
        found[:, 0] = z
        found[:, 1] = z * z
        for k, centre in enumerate((mean, vote, own, by_words)):
            found[:, 2 + k] = np.abs(y - centre) / 4.0
            found[:, 6 + k] = (y - centre) / 4.0
        found[:, 10] = ((y - own) / 4.0) ** 2
        found[:, 11] = ((y - by_words) / 4.0) ** 2
        found[:, 14] = (y - latest) / 4.0
        found[:, 15] = z * asked.style[STYLE.index("exclamation")]
        return found

    def _references(self, question: Question) -> Array:
        """``(2, 10 + 8)``, the second row being the first with the other sign."""
        found = np.zeros((2, len(_REFERENCE)))
        references = references_of(question.input)
        if references is None:
            return found
        title = self.reader(question.input.partition('"')[2].partition('"')[0])
        profile = self._profile(question.profile)
        first, second = (self._reference(self.reader(text), title, profile) for text in references)
        found[0] = 0.5 * (first - second)
        found[1] = -found[0]
        return found

    def _reference(self, reference: Text, title: Text, profile: _Profile) -> Array:
        similar = np.sort(profile.similarities(reference))[::-1] if profile.items else np.zeros(1)
        words = max(len(reference.words), 1)
        folded = reference.vector @ self._topic
        length = float(np.sqrt((folded * folded).sum()))
        style = reference.style
        return np.array(
            [
                2.0 * _cosine(reference, title),
                len(reference.words & title.words) / words,
                2.0 * (np.add.reduce(similar) / len(similar)),
                similar[0],
                2.0 * (np.add.reduce(similar[:3]) / min(len(similar), 3)),
                sum(min(profile.words.get(word, 0), 3) for word in reference.words) / (3.0 * words),
                sum(word in profile.words for word in reference.words) / words,
                style[STYLE.index("length")],
                style[STYLE.index("colon")] + style[STYLE.index("question mark")],
                style[STYLE.index("function words")],
                *(folded / length if length > 0.0 else folded),
            ]
        )

    # -- free texts ---------------------------------------------------------------------------------------------

    def _texts(self, question: Question, answers: Sequence[str]) -> Array:
        """``(n, 32)``."""
        profile = self._profile(question.profile)
        source = _Source(self.reader(query_of(self.task, question.input)))
        of_answers = profile.of_answers(tuple(answers))
        found = np.zeros((len(answers), self.dim))
        k = _OF_ANSWERS
        found[:, :k] = of_answers.table
        found[:, k] = (of_answers.vectors @ source.text.vector) * of_answers.inverses * source.text.inverse
        found[:, k + 1 : k + 9] = source.compare(of_answers.where).T
        if of_answers.borrowed is not None:
            similar = np.zeros(len(profile.items) + 1)
            similar[:-1] = profile.similarities(source.text)
            found[:, k + 9] = similar[of_answers.borrowed]
        found[:, k + 10 :] = np.abs(found[:, k + 3 : k + 6] - profile.usual_places)
        return _into_ball(self._scale * found)


_TAG = (
    "share of the profile",
    "share of like items",
    "most like item",
    "share of late items",
    "most frequent",
    "hints",
    "most hinted at",
    "named",
    "most voted",
    "in the profile",
    "share times hints",
)
_RATING = (
    "z",
    "z squared",
    "distance from the mean",
    "distance from the vote",
    "distance from the own reading",
    "distance from the words",
    "above the mean",
    "above the vote",
    "above the own reading",
    "above the words",
    "squared distance from the own reading",
    "squared distance from the words",
    "share of the profile",
    "share of like items",
    "above the latest",
    "z times exclamation",
)
_REFERENCE = (
    "likeness to the title",
    "words of the title",
    "mean likeness to the profile",
    "likeness to the nearest item",
    "likeness to the nearest three",
    "weight of its words in the profile",
    "share of its words in the profile",
    "length",
    "marks",
    "function words",
    *(f"topic {k}" for k in range(_TOPICS)),
)
_TEXT = (
    *STYLE,
    "longer than usual",
    "squared",
    "likeness in style",
    "usual first word",
    "usual first two words",
    "usual last word",
    "nearest answer of the profile",
    # from here on it depends on the question
    "likeness to the source",
    "precision",
    "coverage",
    "from the first sentence",
    "from the last sentence",
    "place",
    "word pairs of the source",
    "words of the profile's answers",
    "new words",
    "likeness of the borrowed item",
    "first sentence, unlike the profile",
    "last sentence, unlike the profile",
    "place, unlike the profile",
)

_NAMES = {"reference": _REFERENCE, "tag": _TAG, "rating": _RATING, "text": _TEXT}
_OF_ANSWERS = _TEXT.index("likeness to the source")


class _Answers(NamedTuple):
    """Answers, and what of their vectors the question has no part in.

    Attributes:
        vectors: The encoder's, ``(n, D)``.
        inverses: One over their lengths.
        table: The first columns, ``(n, 19)``.
        borrowed: Which item of the profile each is from, -1 for none; None where all are new.
        where: Their words and pairs of words.
    """

    vectors: Array
    inverses: Array
    table: Array
    borrowed: list[int] | None
    where: _Index


class _Index:
    """In which of n texts each token is, and each pair of tokens, so that all are compared with a source at once.

    Attributes:
        tokens: Of each its texts, as often as it is in them.
        pairs: The same.
        sizes: What the columns of `_Source.compare` are counted by, ``(8, n)``.
        usual: In how many of the profile's answers each token is.
        known: Of each text the sum of that over its tokens, and how many are in none of those answers.
    """

    def __init__(self, texts: Sequence[Text], vocabulary: Mapping[str, int], items: int) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.pairs: dict[tuple[str, str], list[int]] = {}
        for k, text in enumerate(texts):
            for token in text.tokens:
                self.tokens.setdefault(token, []).append(k)
            for pair in text.pairs:
                self.pairs.setdefault(pair, []).append(k)
        tokens = np.array([max(len(text.tokens), 1) for text in texts])
        words = [max(len(text.words), 1) for text in texts]
        self.sizes = np.ones((8, len(texts)))
        self.sizes[[0, 5, 6, 7]] = words, np.maximum(tokens - 1, 1), items * tokens, tokens
        self.usual = {token: vocabulary.get(token, 0) for token in self.tokens}
        counts = [[self.usual[token] for token in text.tokens] for text in texts]
        # a text without tokens counts as one new one
        self.known = [(sum(own), own.count(0) if own else 1) for own in counts]


class _Profile:
    """A profile, analysed. What only some tasks look at is computed when it is first asked for."""

    def __init__(self, items: tuple[ProfileItem, ...], task: LampTask, reader: Reader) -> None:
        self.items, self.task, self.reader = items, task, reader
        if task.number == 1:  # a title with its abstract stands for what the author has written about
            asked = [f"{item.fields.get('title', '')} {item.fields.get('abstract', '')}" for item in items]
        else:
            asked = [item.fields.get(task.asked, "") for item in items]
        self.asked = [reader(text) for text in asked]
        self.vectors = np.stack([text.vector for text in self.asked]) if items else np.zeros((0, reader.dim))
        self._inverses = np.array([text.inverse for text in self.asked])
        self._last: tuple[tuple[str, ...], _Answers] | None = None

    def similarities(self, text: Text) -> Array:
        """Cosines of a text with the items, ``(P,)``."""
        found: Array = (self.vectors @ text.vector) * self._inverses * text.inverse
        return found

    # -- labels -------------------------------------------------------------------------------------------------

    @cached_property
    def of_label(self) -> Array:
        """Which item has which label, ``(P, L)`` of 0 and 1."""
        labels = self.task.labels
        given = [item.fields.get(self.task.answered, "").strip() for item in self.items]
        return np.array([[one == label for label in labels] for one in given], dtype=np.float64).reshape(
            -1, len(labels)
        )

    @cached_property
    def counts(self) -> Array:
        """Items by label, ``(L,)``."""
        return np.asarray(self.of_label.sum(axis=0))

    def summed(self, weights: Array) -> Array:
        """Sums of the items' weights ``(P,)`` by label, ``(L,)``; not by BLAS, whose order of adding is its own."""
        return np.asarray((self.of_label * weights[:, None]).sum(axis=0))

    @cached_property
    def lately(self) -> Array:
        """Share of each label where later items count more, ``(L,)``."""
        weights = np.cumprod(np.full(len(self.items), _FADING))[::-1]
        return np.asarray(self.summed(weights) / weights.sum())

    @cached_property
    def rated(self) -> NDArray[np.bool_]:
        """Which items have a score from 1 to 5, ``(P,)``."""
        return np.asarray(self.of_label.any(axis=1))

    @cached_property
    def scores(self) -> Array:
        """Their scores."""
        return np.asarray((self.of_label @ np.arange(1.0, 6.0))[self.rated])

    @cached_property
    def _feelings(self) -> Array:
        return np.array([_feeling(text) for text, rated in zip(self.asked, self.rated, strict=True) if rated])

    @cached_property
    def feeling(self) -> float:
        """Mean sentiment of the rated items."""
        return float(self._feelings.mean())

    @cached_property
    def slope(self) -> float:
        """By how much a score rises with the sentiment of the words: least squares, drawn towards 2 by some items."""
        x = self._feelings - self.feeling
        shrink = 1.0
        return float(((x * (self.scores - self.scores.mean())).sum() + 2.0 * shrink) / ((x * x).sum() + shrink))

    @cached_property
    def words(self) -> Counter[str]:
        """In how many items each content word stands."""
        return Counter(word for text in self.asked for word in text.words)

    # -- free texts ---------------------------------------------------------------------------------------------

    @cached_property
    def answers(self) -> list[Text]:
        """The answers of the items."""
        return [self.reader(item.fields.get(self.task.answered, "")) for item in self.items]

    @cached_property
    def _place_of(self) -> dict[str, int]:
        """Which item an answer is from."""
        return {text.text: k for k, text in enumerate(self.answers)}

    @cached_property
    def style_mean(self) -> Array:
        """Mean style of the answers, ``(12,)``; a middling one for an empty profile."""
        if not self.items:
            return np.full(len(STYLE), 0.35)
        mean: Array = np.stack([text.style for text in self.answers]).mean(axis=0)
        return mean

    @cached_property
    def style_spread(self) -> Array:
        """How much it varies, at least 0.15, ``(12,)``."""
        if len(self.items) < 2:
            return np.full(len(STYLE), 0.5)
        styles = np.stack([text.style for text in self.answers])
        deviation = styles - self.style_mean
        spread: Array = np.maximum(np.sqrt((deviation * deviation).mean(axis=0)), 0.15)
        return spread

    @cached_property
    def _openings(self) -> tuple[Counter[str], Counter[tuple[str, ...]], Counter[str]]:
        whole = [text.tokens for text in self.answers if text.tokens]
        return (
            Counter(tokens[0] for tokens in whole),
            Counter(tokens[:2] for tokens in whole),
            Counter(tokens[-1] for tokens in whole),
        )

    @cached_property
    def _vocabulary(self) -> Counter[str]:
        return Counter(token for text in self.answers for token in set(text.tokens))

    def of_answers(self, answers: tuple[str, ...]) -> _Answers:
        """What only answers and profile decide; the last answers are remembered, which are often the next again."""
        if self._last is not None and self._last[0] == answers:
            return self._last[1]
        texts = [self.reader(answer) for answer in answers]
        vectors = np.stack([text.vector for text in texts])
        inverses = np.array([text.inverse for text in texts])
        k = len(STYLE)
        table = np.zeros((len(texts), _OF_ANSWERS))
        style = table[:, :k]
        np.stack([text.style for text in texts], out=style)
        away = np.clip((style[:, 0] - self.style_mean[0]) * 2.4, -1.0, 1.0)
        table[:, k] = away
        table[:, k + 1] = away * away
        deviation = (style - self.style_mean) / self.style_spread
        table[:, k + 2] = portable.exp(-np.minimum((deviation * deviation).sum(axis=1) / (2.0 * k), 60.0))
        table[:, k + 3 : k + 6] = [self._usual_words(text.tokens) for text in texts]
        table[:, k + 6] = self._nearest(vectors, inverses)
        borrowed = [self._place_of.get(answer, -1) for answer in answers]
        index = _Index(texts, self._vocabulary, max(len(self.items), 1))
        found = _Answers(vectors, inverses, table, borrowed if max(borrowed) >= 0 else None, index)
        self._last = answers, found
        return found

    def _usual_words(self, tokens: tuple[str, ...]) -> tuple[float, float, float]:
        """Shares of the profile's answers that have the first word, the first two, the last."""
        n = len(self.items)
        if not tokens or not n:
            return 0.0, 0.0, 0.0
        first, two, last = self._openings
        return first[tokens[0]] / n, two[tokens[:2]] / n, last[tokens[-1]] / n

    def _nearest(self, vectors: Array, inverses: Array) -> Array:
        """Cosine of each text with the nearest answer of another wording, ``(n,)``."""
        if not self.items:
            return np.zeros(len(vectors))
        own = np.stack([text.vector for text in self.answers])
        cosines = (vectors @ own.T) * inverses[:, None] * np.array([text.inverse for text in self.answers])
        found: Array = np.where(cosines > 1.0 - 1e-9, 0.0, cosines).max(axis=1)
        return np.maximum(found, 0.0)

    @cached_property
    def usual_places(self) -> Array:
        """How much of an answer is usually from the first sentence and the last, and from where on the whole."""
        found = [
            _Source(asked).compare(_Index([answer], {}, 1))[2:5]
            for asked, answer in zip(self.asked, self.answers, strict=True)
            if asked.words
        ]
        return np.array(found)[:, :, 0].mean(axis=0) if found else np.full(3, 0.5)


class _Source:
    """The text that an answer is about, and where its words stand."""

    def __init__(self, text: Text) -> None:
        self.text = text
        sentences = sentences_of(text.text)
        self._first, self._last = (text.words.intersection(tokens_of(sentences[k])) for k in (0, -1))
        self._at: dict[str, int] = {}  # in the order of where each token stands first
        for k, token in enumerate(text.tokens):
            self._at.setdefault(token, k)

    def compare(self, index: _Index) -> Array:
        """Eight columns for n answers, ``(8, n)``.

        Precision, coverage, shares from the first and the last sentence, place in [0, 1], shared word pairs. Of the
        tokens that are not in the source: how usual they are in the profile's answers, and how many are in none of
        those; both over all tokens.
        """
        n, end, words = len(index.known), max(len(self.text.tokens) - 1, 1), self.text.words
        shared, first, last, pairs = ([0] * n for _ in range(4))
        places = [0.0] * n
        usual, new = (list(found) for found in zip(*index.known, strict=True))
        for token, k in self._at.items():
            having = index.tokens.get(token)
            if having is None:
                continue
            known = index.usual[token]
            for i in having:
                usual[i] -= known
                new[i] -= not known
            if token in words:
                at, in_first, in_last = k / end, token in self._first, token in self._last
                for i in dict.fromkeys(having):
                    shared[i] += 1
                    first[i] += in_first
                    last[i] += in_last
                    places[i] += at
        for pair in set(pairwise(self.text.tokens)).intersection(index.pairs):
            for i in index.pairs[pair]:
                pairs[i] += 1
        found = np.array([shared, shared, first, last, places, pairs, usual, new], dtype=np.float64)
        none = found[0] == 0.0
        found[2:5] /= found[0] + none
        found[4, none] = 0.5
        found[1] *= 3.0
        found /= index.sizes
        found[1] = np.minimum(found[1] / max(len(words), 1), 1.0)
        return found


def _feeling(text: Text) -> float:
    """Sentiment of a text in [-1, 1]: praise less blame over both and one, a negation turning the next two words."""
    praise = blame = 0
    turned = 0
    for token in text.tokens:
        if token in NEGATIONS:
            turned = 3
        elif token in PRAISE or token in BLAME:
            if (token in PRAISE) != (turned > 0):
                praise += 1
            else:
                blame += 1
        turned -= turned > 0
    return (praise - blame) / (praise + blame + 1.0)


def _cosine(one: Text, two: Text) -> float:
    return float((one.vector * two.vector).sum()) * one.inverse * two.inverse


def _into_ball(vectors: Array) -> Array:
    """Rows, those longer than one drawn back to the sphere."""
    lengths = np.sqrt(np.add.reduce(vectors * vectors, axis=1, keepdims=True))
    return np.asarray(vectors / np.maximum(lengths, 1.0))
