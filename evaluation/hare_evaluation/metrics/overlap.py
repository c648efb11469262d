"""How much of one text is in others: BLEU-4, ROUGE-L, BERTScore by sentences, self-BLEU, novelty.

All are pure functions; `hare_evaluation.definitions` says what each of them cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hare_gym.errors import DataError

Array = NDArray[np.float64]

NEAR = 0.7
"""A text whose ROUGE-L with some text of the pool is at least this is near the pool, and not new."""

_WORD = re.compile(r"[a-z0-9]+")
_ORDERS = 4


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and their harmonic mean, each in [0, 1]."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """2PR/(P + R); 0 where both are 0."""
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total else 0.0


def words(text: str) -> list[str]:
    """The words of a text, as ROUGE counts them: runs of a-z and 0-9 in lower case, without stemming."""
    return _WORD.findall(text.lower())


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest sequence of words that is in both, in order and with gaps.

    Source: the bit-parallel recurrence of Hyyrö 2004, "Bit-parallel LCS-length computation revisited"; one step a
    word of ``b`` on integers of as many bits as ``a`` has words.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    all_ones = (1 << len(a)) - 1
    row = all_ones
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_ones
    return len(a) - row.bit_count()


def rouge_l(text: str, reference: str) -> Overlap:
    """ROUGE-L: the longest common subsequence over the words of the text, and over those of the reference.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", with beta = 1 for F. Two texts without
    a word have 0.
    """
    return _rouge_l(words(text), words(reference))


def _rouge_l(a: list[str], b: list[str]) -> Overlap:
    if not a or not b:
        return Overlap(0.0, 0.0)
    common = longest_common_subsequence(a, b)
    return Overlap(common / len(a), common / len(b))


def bleu_4(texts: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU with n-grams up to 4 of texts against one reference each, in [0, 1].

    Source: Papineni et al. 2002 as sacrebleu computes it (Post 2018): tokens of ``13a``, case kept, exponential
    smoothing.

    Raises:
        DataError: No texts, or another number of references.
    """
    from sacrebleu.metrics.bleu import BLEU

    if not texts or len(texts) != len(references):
        raise DataError(
            f"BLEU needs one reference for each text: there are {len(texts)} texts and {len(references)} references."
        )
    return min(1.0, float(BLEU().corpus_score([*texts], [[*references]]).score) / 100.0)


def self_bleu(texts: Sequence[str]) -> float:
    """The mean over texts of BLEU-4 with all the others as references, in [0, 1]; higher is less diverse.

    Source: Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models"; BLEU as in `bleu_4`, by
    sentence and with the orders that a text is long enough for.

    Raises:
        DataError: Fewer than two texts.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.helpers import extract_all_word_ngrams
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    if len(texts) < 2:
        raise DataError(f"Self-BLEU compares texts with one another; there {'is 1' if texts else 'are none'}.")
    tokenize = Tokenizer13a()  # type: ignore[no-untyped-call]
    # once for each text, where sacrebleu's own loop over references would count them for every other text again
    counted = [extract_all_word_ngrams(tokenize(text.rstrip()), 1, _ORDERS) for text in texts]
    most: dict[tuple[str, ...], tuple[int, int]] = {}  # the two largest counts that an n-gram has in any text
    for ngrams, _ in counted:
        for ngram, count in ngrams.items():
            first, second = most.get(ngram, (0, 0))
            most[ngram] = (count, first) if count > first else (first, max(second, count))
    scores = []
    for i, (ngrams, length) in enumerate(counted):
        correct, total = [0] * _ORDERS, [0] * _ORDERS
        for ngram, count in ngrams.items():
            first, second = most[ngram]
            total[len(ngram) - 1] += count
            correct[len(ngram) - 1] += min(count, second if count == first else first)
        others = [other for j, (_, other) in enumerate(counted) if j != i]
        closest = min(others, key=lambda other: (abs(other - length), other))
        score = BLEU.compute_bleu(correct, total, length, closest, smooth_method="exp", effective_order=True)
        scores.append(score.score / 100.0)
    return min(1.0, float(np.mean(scores)))


def sentence_bert_score(units: ArrayLike, reference_units: ArrayLike) -> Overlap:
    """BERTScore with sentences in place of tokens: each is matched with the most similar one of the other text.

    P is the mean over the text's sentences of the largest cosine with one of the reference's, R the other way round;
    negative cosines count 0. Without weights by rarity and without rescaling. This is not the published BERTScore,
    which matches tokens in context; it is what an encoder of sentences was trained to compare.

    Source: after Zhang et al. 2020, "BERTScore: Evaluating Text Generation with BERT".

    Args:
        units: Embeddings of the text's sentences, ``(n, d)``.
        reference_units: Of the reference's, ``(m, d)``.
    """
    a, b = unit_rows(units), unit_rows(reference_units)
    if not len(a) or not len(b):
        return Overlap(0.0, 0.0)
    cosines = np.clip(a @ b.T, 0.0, 1.0)
    return Overlap(float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean()))


def nearest(texts: Sequence[str], pool: Sequence[str]) -> Array:
    """The largest ROUGE-L (F1) of each text with any text of the pool, ``(n,)``.

    A common subsequence has at most the words that both texts have, so only texts of the pool that share enough words
    are looked at.

    Raises:
        DataError: The pool is empty.
    """
    if not pool:
        raise DataError("Nearness to the pool needs a pool with at least one text.")
    known = [words(text) for text in dict.fromkeys(pool)]
    column = {word: k for k, word in enumerate(dict.fromkeys(word for other in known for word in other))}
    counts = np.zeros((len(known), len(column)), dtype=np.int32)
    for row, other in zip(counts, known, strict=True):
        np.add.at(row, [column[word] for word in other], 1)
    lengths = np.array([len(other) for other in known])
    found: dict[str, float] = {}
    for text in dict.fromkeys(texts):
        own = words(text)
        columns, times = np.unique([column[word] for word in own if word in column], return_counts=True)
        shared = np.minimum(counts[:, columns.astype(np.intp)], times).sum(axis=1)
        bounds = 2.0 * shared / np.maximum(lengths + len(own), 1)
        best = 0.0
        for k in np.argsort(-bounds, kind="stable"):
            if bounds[k] <= best:
                break
            best = max(best, _rouge_l(own, known[k]).f1)
        found[text] = best
    return np.array([found[text] for text in texts])


def novelty(nearness: ArrayLike, near: float = NEAR) -> float:
    """The share of texts that are not near any text of the pool.

    Args:
        nearness: From `nearest`, ``(n,)``.
        near: From where on a text is near.
    """
    return float((np.asarray(nearness, dtype=np.float64) < near).mean())


def unit_rows(vectors: ArrayLike) -> Array:
    """Rows of length one; a row of zeros stays."""
    v = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12))
