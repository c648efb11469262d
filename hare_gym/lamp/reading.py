"""Texts as a reader sees them: tokens, content words, style, a vector; and questions out of observations.

The default encoder is stateless: a text is the set of its content words, a word is 256 signs that its hash gives,
and a text's vector is their sum (a random projection of the bag of words; Achlioptas 2003, Weinberger et al. 2009).
Sums of signs are whole numbers, so that its inner products have the same bits in whatever order they are added.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import Observation, TaskSpec, pool_text_of, pool_texts_of, sanitise
from hare_gym.errors import ConfigError
from hare_gym.lamp.lexicon import ASKING, FIRST_PERSON, STOP_WORDS
from hare_gym.lamp.tasks import OLD_TASK_2, TASKS, LampTask, ProfileItem, Question, query_of, references_of

Array = NDArray[np.float64]

HASHED = "hashed"
HASHED_DIM = 256
STYLE = (
    "length",
    "question mark",
    "colon",
    "digit",
    "quote",
    "capitals",
    "first person",
    "exclamation",
    "asks",
    "function words",
    "long words",
    "lower case",
)
"""What `Text.style` counts, each in [0, 1]."""

_TOKEN = re.compile(r"[a-z0-9]+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_QUOTES = frozenset("\"“”'‘’")
_NO_CONTENT = STOP_WORDS.union(string.ascii_lowercase, string.digits)
_LONGEST = 24
# Words whose signs are remembered.
_VOCABULARY = 2**16
# Texts whose analysis is remembered.
_TEXTS = 16_384
# Profiles that are remembered as observations show them.
_PROFILES = 1024


@lru_cache(maxsize=2**15)
def tokens_of(text: str) -> tuple[str, ...]:
    """Lower-cased words and numbers, as ROUGE counts them; remembered, as the same words and phrases come back."""
    return tuple(_TOKEN.findall(text.lower()))


def sentences_of(text: str) -> list[str]:
    """The sentences, by their punctuation; the whole text where it has none."""
    return _SENTENCE.split(text.strip())


class Text:
    """A text as a reader sees it.

    Attributes:
        text: Itself.
        tokens: As ROUGE counts them, in order.
        words: Its content words.
        vector: By the encoder, float64 ``(dim,)``; not of length one.
        inverse: One over its length, or 0 for a vector of zeros.
    """

    __slots__ = ("_pairs", "_style", "inverse", "text", "tokens", "vector", "words")

    def __init__(self, text: str, tokens: tuple[str, ...], words: frozenset[str], vector: Array) -> None:
        self.text, self.tokens, self.words, self.vector = text, tokens, words, vector
        squared = float((vector * vector).sum())
        self.inverse = 1.0 / math.sqrt(squared) if squared > 0.0 else 0.0
        self._style: Array | None = None
        self._pairs: tuple[tuple[str, str], ...] | None = None

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each token with the next."""
        if self._pairs is None:
            self._pairs = tuple(pairwise(self.tokens))
        return self._pairs

    @property
    def style(self) -> Array:
        """By `STYLE`, ``(12,)``."""
        if self._style is None:
            self._style = _style(self.text, self.tokens)
        return self._style


class HashedEncoder:
    """The stateless encoder: nothing is downloaded, nothing is fitted."""

    name = f"{HASHED}@1"
    dim = HASHED_DIM

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._signs = np.empty((1024, self.dim), dtype=np.float32)  # wide enough for sums of so few signs

    def of_words(self, words: Iterable[str]) -> Array:
        """The sum of the words' signs, ``(256,)``, whole numbers; a word that stands twice counts twice."""
        words, rows = tuple(words), self._rows
        try:
            known = [rows[word] for word in words]
        except KeyError:
            if len(rows) + len(words) > _VOCABULARY:  # grown beyond reason: begin anew, with the same signs
                rows.clear()
            known = [rows[word] if word in rows else self._learn(word) for word in words]
        total: Array = self._signs[known].sum(axis=0).astype(np.float64)
        return total

    def _learn(self, word: str) -> int:
        row = len(self._rows)
        if row == len(self._signs):
            self._signs = np.concatenate([self._signs, np.empty_like(self._signs)])
        bits = np.unpackbits(np.frombuffer(hashlib.blake2b(word.encode(), digest_size=32).digest(), np.uint8))
        self._signs[row] = 2.0 * bits - 1.0
        self._rows[word] = row
        return row

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The texts' vectors, float32 ``(n, 256)``, of length one; of a text without content words, zeros."""
        sums = [self.of_words(content_words(tokens_of(text))) for text in texts]
        if not sums:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = np.stack(sums)
        lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        return np.asarray(vectors / np.maximum(lengths, 1.0), dtype=np.float32)


def content_words(tokens: Iterable[str]) -> frozenset[str]:
    """The tokens that carry content: no stop words, nothing of one letter."""
    return frozenset(tokens).difference(_NO_CONTENT)


class Reader:
    """Reads texts, and remembers what it has read.

    Args:
        encoder: ``hashed``, or a name that `hare_gym.text.encoders.load_encoder` takes.

    Raises:
        ConfigError: An encoder that is fitted to texts, or that cannot be loaded.
        UnknownNameError: No such encoder.
    """

    def __init__(self, encoder: str = HASHED) -> None:
        if encoder == "tfidf":
            raise ConfigError(
                "The encoder 'tfidf' is fitted to texts, and questions come one at a time: use 'hashed', 'minilm', "
                "the path of a folder that holds a model, or a model's id on a hub."
            )
        self._hashed = HashedEncoder()
        self.encoder: Any = self._hashed
        if encoder != HASHED:
            from hare_gym.text.encoders import load_encoder

            self.encoder = load_encoder(encoder)
        self.dim: int = self.encoder.dim
        self.name: str = self.encoder.name
        self._texts: OrderedDict[str, Text] = OrderedDict()

    def __call__(self, text: str) -> Text:
        """One text, analysed."""
        found = self._texts.get(text)
        if found is None:
            if len(self._texts) >= _TEXTS:
                self._texts.popitem(last=False)
            found = self._texts[text] = self._analysed(text)
        return found

    def _analysed(self, text: str) -> Text:
        tokens = tokens_of(text)
        words = content_words(tokens)
        if self.encoder is self._hashed:
            vector = self._hashed.of_words(words)
        else:
            vector = self.encoder.encode([text])[0].astype(np.float64)
        return Text(text, tokens, words, vector)


def _style(text: str, tokens: tuple[str, ...]) -> Array:
    n = max(len(tokens), 1)
    pieces = text.split()
    starts = len([piece for piece in pieces if piece[0].isupper()])
    characters = set(text)
    return np.array(
        [
            min(len(tokens), _LONGEST) / _LONGEST,
            "?" in characters,
            ":" in characters,
            not characters.isdisjoint(string.digits),
            not _QUOTES.isdisjoint(characters),
            starts / max(len(pieces), 1),
            not FIRST_PERSON.isdisjoint(tokens),
            "!" in characters,
            bool(tokens) and tokens[0] in ASKING,
            len([token for token in tokens if token in STOP_WORDS]) / n,
            min(sum(map(len, tokens)) / n, 12.0) / 12.0,
            not starts,
        ],
        dtype=np.float64,
    )


# -- questions out of observations ------------------------------------------------------------------------------


def render_item(task: LampTask, item: ProfileItem) -> str:
    """A profile item as lines ``field: text``; a text's own lines are joined.

    The date is first, where there is one, and then the answer, so that a long text is what is cut.
    """
    lines = [] if item.date is None else [f"date: {item.date}"]
    names = sorted(task.fields, key=lambda name: name != task.answered)
    lines += [f"{name}: {' '.join(item.fields.get(name, '').split())}" for name in names]
    return "\n".join(lines)


def parse_item(task: LampTask, text: str, id: str = "") -> ProfileItem:
    """Reads what `render_item` wrote (a cut text as far as it goes)."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(": ")
        found[name.rstrip(":")] = value
    date = found.pop("date", None)
    return ProfileItem(id, {name: found.get(name, "") for name in task.fields}, date)


def task_name(task: LampTask) -> str:
    """How a `TaskSpec` names a task, at the end of its ``reward_version``."""
    return f"{task.id} {task.name}"


def task_of_spec(spec: TaskSpec) -> LampTask:
    """The LaMP task that an environment plays.

    Raises:
        ConfigError: It plays none.
    """
    for task in (*TASKS.values(), OLD_TASK_2):
        if spec.reward_version.endswith(task_name(task)):
            return task
    raise ConfigError(f"{spec.id} is no LaMP task: this needs HareLaMP1-v0 to HareLaMP7-v0.")


def pool_text_of_profile(task: LampTask, profile: Sequence[ProfileItem], length: int) -> str:
    """A profile as an observation's ``pool_text``."""
    return pool_text_of([render_item(task, item) for item in profile], length)


def answered_item(task: LampTask, question: Question) -> ProfileItem:
    """What an answered question is in the profile of later ones; of task 1, the title that was cited."""
    output, asked = question.output or "", query_of(task, question.input)
    if task.number == 1:
        references = references_of(question.input)
        chosen = "" if references is None else references[output.strip() == "[2]"]
        fields = {"title": chosen, "abstract": ""}
    else:
        fields = dict.fromkeys(task.fields, "") | {task.asked: asked} | {task.answered: output}
    return ProfileItem(question.id, fields)


@lru_cache(maxsize=4096)
def _profile_of(task: LampTask, texts: tuple[str, ...]) -> tuple[ProfileItem, ...]:
    items = (parse_item(task, text, str(k)) for k, text in enumerate(texts))
    return tuple(item for item in items if any(item.fields.values()))


def question_of(task: LampTask, observation: Observation) -> Question:
    """The question of a round in ``write``, as far as an agent may see it; equal profiles are one object.

    Raises:
        ContractError: The observation has no ``pool_text``.
    """
    profile = _profile_of(task, pool_texts_of(observation))
    return Question("", observation["query_text"], profile, str(int(observation["user"])))


def as_seen(task: LampTask, question: Question, length: int) -> Question:
    """A question as `question_of` gives it: in the characters of observations, cut to ``length``, without output."""
    items = question.profile
    found = _seen.get((id(items), length))
    if found is None or found[0] is not items:
        if len(_seen) >= _PROFILES:
            _seen.popitem(last=False)
        seen = _profile_of(task, tuple([_rendered(task, item, length) for item in items]))
        found = _seen[id(items), length] = items, seen
    return Question(question.id, sanitise(question.input, length), found[1], question.user, None)


# Told apart as objects, as an item of a file serves many rounds, and a profile of a world.
_seen: OrderedDict[tuple[int, int], tuple[tuple[ProfileItem, ...], tuple[ProfileItem, ...]]] = OrderedDict()
_items: OrderedDict[tuple[int, int], tuple[ProfileItem, str]] = OrderedDict()


def _rendered(task: LampTask, item: ProfileItem, length: int) -> str:
    """`render_item`, sanitised."""
    found = _items.get((id(item), length))
    if found is None or found[0] is not item:
        if len(_items) >= _TEXTS:
            _items.popitem(last=False)
        found = _items[id(item), length] = item, pool_text_of([render_item(task, item)], length)
    return found[1]
