"""LaMP's official metrics: what one answer earns, and the figures of a file of predictions.

The published evaluator (LaMP-Benchmark/LaMP, ``eval/evaluation.py``) is re-implemented from its behaviour, so that
the same predictions give the same figures. What it does that nobody would ask for is behind ``oddities=True``:

- Ratings are rounded to single precision, and what lies outside 1 to 5 counts as it stands (``"7"`` for a 1 errs by
  6). Without the flag it is taken for the nearer end.
- A gold label that is in no list counts as answered right by any prediction that is in no list either, which gives an
  accuracy of 1 where the golds of the old task 2 are judged by the new labels. Without the flag it is an error.
- Of several predictions (or golds) of one id the last one counts. Without the flag they are an error.

In both: labels are compared after ``strip`` and with their case, and an unknown one is wrong; macro-F1 averages over
*all* labels of the task, those that occur nowhere with 0; a rating that is no number counts as the end farther from
the gold, 5 where both are as far. Both refuse ``"nan"`` and ``"inf"``, at which the published evaluator stops: it
takes them for numbers, and scikit-learn's mean_absolute_error, to which it hands them, raises ValueError.

ROUGE is not stemmed and counts runs of a-z and 0-9 in lower case. The published evaluator reports the median of an
unseeded bootstrap, which differs from call to call; here it is the plain mean, of which that median is an estimate.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hare_gym.errors import DataError, MissingPackageError
from hare_gym.lamp.reading import tokens_of
from hare_gym.lamp.tasks import LampTask

_LOW, _HIGH = 1.0, 5.0


def score(task: LampTask, gold: str, prediction: str) -> float:
    """What an answer earns: the reward of the environments, in [0, 1].

    ``accuracy``: 1 for the gold label, else 0. ``rating``: 1 - error/4, the error without its sign; a prediction
    outside 1 to 5 is taken for the nearer end, and what is no finite number earns 0. ``rouge``: the mean of ROUGE-1
    and ROUGE-L.

    Args:
        task: Whose metric it is.
        gold: The answer of the file.
        prediction: The answer given.

    Raises:
        DataError: A gold rating that is no number.
    """
    if task.metric == "accuracy":
        return float(prediction.strip() == gold.strip())
    if task.metric == "rating":
        y = _gold_rating(gold)
        rating = _number(prediction)
        if rating is None or not math.isfinite(rating):
            return 0.0
        return 1.0 - abs(_within(rating) - _within(y)) / (_HIGH - _LOW)
    return _Rouge(gold).mean(prediction)


def scores(task: LampTask, gold: str, predictions: Sequence[str]) -> list[float]:
    """`score` of several answers to one question."""
    if task.metric != "rouge":
        return [score(task, gold, prediction) for prediction in predictions]
    rouge = _Rouge(gold)
    return [rouge.mean(prediction) for prediction in predictions]


def evaluate(
    task: LampTask,
    golds: Mapping[str, str],
    predictions: Mapping[str, str],
    *,
    oddities: bool = False,
    with_meteor: bool = False,
) -> dict[str, float]:
    """The official figures of a set of predictions, under the names that the published evaluator gives them.

    Args:
        task: Whose metrics they are.
        golds: The answers of the file by the ids of their questions.
        predictions: The answers given, for the same ids.
        oddities: Whether to do what the published evaluator does where that is odd; see the module's text.
        with_meteor: Whether to add `meteor` to ROUGE, as LongLaMP does; under the name ``meteor-without-synonyms``
            where WordNet is not at hand.

    Returns:
        ``accuracy`` and ``f1`` (macro), in [0, 1], higher is better; or ``MAE`` and ``RMSE``, in stars, lower is
        better; or ``rouge-1`` and ``rouge-L``, in [0, 1], higher is better.

    Raises:
        DataError: No golds, other ids among the predictions, a gold that is none of the task's labels, or a rating of
            ``nan`` or ``inf``.
        MissingPackageError: METEOR without NLTK.
    """
    if not golds:
        raise DataError(f"{task.id}: there are no golds to evaluate by.")
    if golds.keys() != predictions.keys():
        raise DataError(
            f"{task.id}: predictions and golds must have the same ids. "
            f"{differing(golds, predictions, 'without a prediction', 'without a gold')}"
        )
    ids = list(golds)
    if not oddities:
        for id in ids:
            check_gold(task, id, golds[id])
    pairs = [(golds[id].strip(), predictions[id].strip()) for id in ids]
    if task.metric == "accuracy":
        return _classified(task.labels, pairs)
    if task.metric == "rating":
        return _rated(ids, pairs, oddities)
    each = [_Rouge(gold)(prediction) for gold, prediction in pairs]
    figures = {"rouge-1": _mean([one for one, _ in each]), "rouge-L": _mean([longest for _, longest in each])}
    if with_meteor:
        synonyms = has_wordnet()
        name = "meteor" if synonyms else "meteor-without-synonyms"
        figures[name] = _mean([meteor(gold, prediction, synonyms=synonyms) for gold, prediction in pairs])
    return figures


def check_gold(task: LampTask, id: str, gold: str) -> None:
    """Refuses a gold that is none of its task's labels.

    Raises:
        DataError: It is none of them.
    """
    if task.labels and gold.strip() not in task.labels:
        also = " The labels of task 2 are of two kinds: movie tags (new) and news categories (old)."
        raise DataError(
            f"{task.id}: the output {gold!r} of question {id} is none of its labels: {', '.join(task.labels)}."
            + (also if task.number == 2 else "")
        )


def differing(left: Mapping[str, object], right: Mapping[str, object], only_left: str, only_right: str) -> str:
    """A sentence on the ids that only one of two mappings has: how many, and the first few of them."""
    parts = []
    for one, other, words_ in ((left, right, only_left), (right, left, only_right)):
        alone = [id for id in one if id not in other]
        if alone:
            parts.append(f"{len(alone)} {words_}: {', '.join(alone[:3])}{', ...' if len(alone) > 3 else ''}")
    return "; ".join(parts) + "."


def rouge_1(gold: str, prediction: str) -> float:
    """F-measure of the words that two texts share, in [0, 1]; a word counts as often as it is in both.

    Source: Lin (2004), "ROUGE: A Package for Automatic Evaluation of Summaries"; 0 where a text has no word.
    """
    return _Rouge(gold)(prediction)[0]


def rouge_l(gold: str, prediction: str) -> float:
    """F-measure of the longest common subsequence of words, in [0, 1]; 0 where a text has no word.

    Source: Lin (2004), with beta = 1.
    """
    return _Rouge(gold)(prediction)[1]


def meteor(gold: str, prediction: str, *, synonyms: bool = True) -> float:
    """METEOR of two texts, in [0, 1], as NLTK computes it: alpha = 0.9, beta = 3, gamma = 0.5.

    Words are matched as they stand, then by their stems, then as synonyms. They are cut by NLTK's word tokenizer
    without its sentence splitter, which needs data of its own, so that a full stop inside a text stays with the word
    before it.

    Source: Banerjee and Lavie (2005), "METEOR: An Automatic Metric for MT Evaluation".

    Args:
        gold: The answer of the file.
        prediction: The answer given.
        synonyms: Whether to match synonyms by WordNet, as the published evaluation of LongLaMP does.

    Raises:
        MissingPackageError: NLTK is not installed, or WordNet is asked for and not there.
    """
    tokens = _nltk("nltk.tokenize").NLTKWordTokenizer().tokenize
    single = _nltk("nltk.translate.meteor_score").single_meteor_score
    if not synonyms:
        return float(single(tokens(gold), tokens(prediction), wordnet=_NoSynonyms()))
    if not has_wordnet():
        raise MissingPackageError(
            "METEOR with synonyms needs WordNet: python -m nltk.downloader wordnet. Or ask for synonyms=False, and "
            "say so beside the figure."
        )
    return float(single(tokens(gold), tokens(prediction)))


def has_wordnet() -> bool:
    """Whether NLTK and its copy of WordNet are on this machine.

    Raises:
        MissingPackageError: NLTK is not installed.
    """
    try:
        _nltk("nltk.corpus").wordnet.ensure_loaded()
    except LookupError:
        return False
    return True


def _nltk(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingPackageError("METEOR needs NLTK: pip install 'hare-gym[lamp]'.") from None


class _NoSynonyms:
    def synsets(self, word: str) -> list[object]:
        return []


class _Rouge:
    """ROUGE-1 and ROUGE-L against one gold answer."""

    def __init__(self, gold: str) -> None:
        self._words = tokens_of(gold)
        self._counts = Counter(self._words)
        self._places: dict[str, int] = {}
        for i, word in enumerate(self._words):
            self._places[word] = self._places.get(word, 0) | 1 << i

    def __call__(self, prediction: str) -> tuple[float, float]:
        """Both F-measures."""
        words = tokens_of(prediction)
        if self._places.keys().isdisjoint(words):
            return 0.0, 0.0
        shared = [word for word in words if word in self._places]
        m, n, different = len(self._words), len(words), set(shared)
        common = len(shared)
        if len(different) < common:
            common = sum([min(self._counts[word], shared.count(word)) for word in different])
        longest = self._longest_common_subsequence(shared) if common > 1 else 1
        return _f(common, m, n), _f(longest, m, n)

    def mean(self, prediction: str) -> float:
        """The mean of the two."""
        one, longest = self(prediction)
        return 0.5 * (one + longest)

    def _longest_common_subsequence(self, shared: Sequence[str]) -> int:
        """Its length, by the bit-parallel recurrence of Hyyrö (2004): one step a word, on integers of a bit a word.

        Words that the gold answer does not have leave the row as it is.
        """
        row = ones = (1 << len(self._words)) - 1
        for word in shared:
            matched = row & self._places[word]
            row = ((row + matched) | (row - matched)) & ones
        return len(self._words) - row.bit_count()


def _f(common: int, of_a: int, of_b: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / of_b, common / of_a
    return 2.0 * precision * recall / (precision + recall)


def _classified(labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    known = {label: label for label in labels}
    mapped = [(known.get(gold), known.get(prediction)) for gold, prediction in pairs]
    right = Counter(gold for gold, prediction in mapped if gold == prediction)
    golds = Counter(gold for gold, _ in mapped)
    predicted = Counter(prediction for _, prediction in mapped)
    each = [2.0 * right[label] / max(golds[label] + predicted[label], 1) for label in labels]
    return {"accuracy": right.total() / len(mapped), "f1": _mean(each)}


def _rated(ids: Sequence[str], pairs: Sequence[tuple[str, str]], oddities: bool) -> dict[str, float]:
    errors = []
    for id, (gold, prediction) in zip(ids, pairs, strict=True):
        y = _gold_rating(gold, f" of question {id}")
        rating = _number(prediction)
        if rating is None:
            rating = _LOW if abs(_LOW - y) > abs(_HIGH - y) else _HIGH
        if not math.isfinite(rating):
            raise DataError(
                f"The prediction {prediction!r} of question {id} is no rating; give a number from 1 to 5. The "
                "published evaluator stops at it, too."
            )
        errors.append(float(np.float32(rating)) - float(np.float32(y)) if oddities else _within(rating) - _within(y))
    return {
        "MAE": _mean([abs(error) for error in errors]),
        "RMSE": math.sqrt(_mean([error * error for error in errors])),
    }


def _gold_rating(gold: str, whose: str = "") -> float:
    y = _number(gold)
    if y is None or not math.isfinite(y):
        raise DataError(f"The gold rating {gold!r}{whose} is no number from 1 to 5.")
    return y


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _within(rating: float) -> float:
    return min(max(rating, _LOW), _HIGH)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
