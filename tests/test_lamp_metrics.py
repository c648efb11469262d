"""LaMP's metrics: against the published evaluator's own figures, scikit-learn, textbook references, and by hand."""

import importlib.util
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from hare_gym.errors import DataError, MissingPackageError
from hare_gym.lamp import metrics
from hare_gym.lamp.metrics import evaluate, score
from hare_gym.lamp.tasks import LONG_TASKS, MOVIE_TAGS, OLD_TASK_2, TASKS

HAS_NLTK = importlib.util.find_spec("nltk") is not None


def numbered(values):
    return {str(k): value for k, value in enumerate(values)}


# Made by the published evaluator itself (LaMP-Benchmark/LaMP at 38c9d4d, with evaluate 0.4.6, scikit-learn 1.5.2).
PUBLISHED = {
    "labels are stripped": (
        TASKS[1],
        ["[1]", "[2]", "[1]", "[2]"],
        ["[1]", " [2]\n", "[2]", "1"],
        {"accuracy": 0.5, "f1": 0.5833333333333333},
    ),
    "case counts, unknown is wrong, f1 is over all labels": (
        TASKS[2],
        ["comedy", "action", "classic", "romance", "comedy", "true story"],
        ["Comedy", "action", " classic ", "unknown", "romance", "true story"],
        {"accuracy": 0.5, "f1": 0.2},
    ),
    "ratings that are no numbers": (
        TASKS[3],
        ["1", "2", "3", "4", "5", "3"],
        ["5", "two", "five", "x", "", "3"],
        {"MAE": 2.6666666666666665, "RMSE": 3.0},
    ),
    "whole ratings": (TASKS[3], ["1", "2", "3"], ["2", "2", "3"], {"MAE": 1 / 3, "RMSE": 0.5773502691896257}),
    "texts": (
        TASKS[5],
        ["a b", ""],
        ["a b", ""],
        {"rouge-1": 0.5, "rouge-L": 0.5},
    ),
}
PUBLISHED_ODD = {
    "what is in no list is right where the gold is in none": (
        TASKS[2],
        ["politics", "action"],
        ["nothing", "action"],
        {"accuracy": 1.0, "f1": 0.06666666666666667},
    ),
    "nothing is clipped": (
        TASKS[3],
        ["1", "2", "3"],
        ["7", "-2", "3"],
        {"MAE": 3.3333333333333335, "RMSE": 4.163331998932265},
    ),
    "single precision": (
        TASKS[3],
        ["1", "2", "3"],
        ["2.3", "2.7", "3.1"],
        {"MAE": 0.6999999682108561, "RMSE": 0.8544003596492042},
    ),
    "an underscore in a number": (TASKS[3], ["1", "2", "3"], ["1_0", "2", "3"], {"MAE": 3.0, "RMSE": math.sqrt(27)}),
    "a gold rating outside": (TASKS[3], ["9", "2"], ["x", "2"], {"MAE": 4.0, "RMSE": 5.656854249492381}),
}


@pytest.mark.parametrize("case", PUBLISHED)
@pytest.mark.parametrize("oddities", [False, True])
def test_the_published_evaluator_gives_the_same(case, oddities):
    task, golds, predictions, published = PUBLISHED[case]
    ours = evaluate(task, numbered(golds), numbered(predictions), oddities=oddities)
    assert ours == pytest.approx(published, abs=1e-9)


@pytest.mark.parametrize("case", PUBLISHED_ODD)
def test_the_published_evaluator_gives_the_same_where_it_is_odd(case):
    task, golds, predictions, published = PUBLISHED_ODD[case]
    assert evaluate(task, numbered(golds), numbered(predictions), oddities=True) == pytest.approx(published, abs=1e-9)


def test_what_is_odd_is_off_by_default():
    golds, predictions = numbered(["1", "2", "3"]), numbered(["7", "-2", "3"])
    assert evaluate(TASKS[3], golds, predictions) == {"MAE": 5 / 3, "RMSE": pytest.approx(math.sqrt(17 / 3))}
    fractions = numbered(["2.3", "2.7", "3.1"])
    assert evaluate(TASKS[3], golds, fractions)["MAE"] == pytest.approx(0.7, abs=1e-15)
    with pytest.raises(DataError, match=r"output 'politics' of question 0 is none of its labels: sci-fi, .*\(old\)"):
        evaluate(TASKS[2], numbered(["politics"]), numbered(["nothing"]))


@pytest.mark.parametrize("oddities", [False, True])
@pytest.mark.parametrize("rating", ["nan", "inf", "-Infinity"])
def test_ratings_at_which_the_published_evaluator_stops(rating, oddities):
    # it takes them for numbers, as float() does, and hands them to scikit-learn's mean_absolute_error
    with pytest.raises(ValueError, match="Input contains"):
        mean_absolute_error([1.0, 2.0], [1.0, float(rating)])
    with pytest.raises(DataError, match=f"prediction '{rating}' of question 1 is no rating; give a number"):
        evaluate(TASKS[3], numbered(["1", "2"]), numbered(["1", rating]), oddities=oddities)


def test_a_gold_rating_that_is_no_number():
    with pytest.raises(DataError, match="gold rating 'bad' of question 0 is no number from 1 to 5"):
        evaluate(TASKS[3], {"0": "bad"}, {"0": "1"}, oddities=True)
    with pytest.raises(DataError, match="gold rating 'bad' is no number"):
        score(TASKS[3], "bad", "1")


@pytest.mark.parametrize(
    ("golds", "predictions", "message"),
    [
        ("abcdef", "abx", "4 without a prediction: c, d, e, ...; 1 without a gold: x."),
        ("ab", "a", "ids. 1 without a prediction: b."),
        ("a", "ab", "ids. 1 without a gold: b."),
    ],
)
def test_ids_that_do_not_match(golds, predictions, message):
    with pytest.raises(DataError, match="predictions and golds must have the same ids") as caught:
        evaluate(TASKS[1], dict.fromkeys(golds, "[1]"), dict.fromkeys(predictions, "[1]"))
    assert str(caught.value).endswith(message)


def test_no_golds():
    with pytest.raises(DataError, match="LaMP_4: there are no golds"):
        evaluate(TASKS[4], {}, {})


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([TASKS[1], TASKS[2], OLD_TASK_2]).flatmap(
        lambda task: st.tuples(
            st.just(task),
            st.lists(
                st.tuples(st.sampled_from(task.labels), st.sampled_from([*task.labels, "x", f" {task.labels[0]}\n"])),
                min_size=1,
                max_size=40,
            ),
        )
    )
)
def test_accuracy_and_f1_are_those_of_scikit_learn(drawn):
    task, pairs = drawn
    golds, predictions = zip(*pairs, strict=True)
    ours = evaluate(task, numbered(golds), numbered(predictions))
    stripped = [prediction.strip() for prediction in predictions]
    assert ours["accuracy"] == pytest.approx(accuracy_score(golds, stripped), abs=1e-9)
    f1 = f1_score(golds, stripped, labels=list(task.labels), average="macro", zero_division=0)
    assert ours["f1"] == pytest.approx(f1, abs=1e-9)


def slow_rouge(gold, prediction):
    """ROUGE-1 and ROUGE-L from their definitions: multisets of words, and the table of common subsequences."""
    a, b = (re.findall("[a-z0-9]+", text.lower()) for text in (gold, prediction))
    common = sum(min(a.count(word), b.count(word)) for word in set(a))
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return [2 * k / (len(a) + len(b)) if k else 0.0 for k in (common, int(table[-1, -1]))]


texts = st.lists(
    st.sampled_from(["the", "The", "a", "cat's", "COVID-19", "über", "İ", "3.5", "_x_", "—", "is?", "mat"]),
    max_size=15,
).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_rouge_is_that_of_the_textbook(gold, prediction):
    expected = slow_rouge(gold, prediction)
    assert [metrics.rouge_1(gold, prediction), metrics.rouge_l(gold, prediction)] == pytest.approx(expected, abs=1e-9)
    figures = evaluate(TASKS[4], {"a": gold, "b": "one"}, {"a": prediction, "b": "one"})
    assert figures == pytest.approx({"rouge-1": (expected[0] + 1) / 2, "rouge-L": (expected[1] + 1) / 2}, abs=1e-9)
    assert score(TASKS[4], gold, prediction) == pytest.approx(sum(expected) / 2, abs=1e-9)


def test_rouge_agrees_with_the_published_scorer():
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rougeL"])
    rng = np.random.default_rng(0)
    vocabulary = ["the", "Cat's", "dog", "COVID-19", "über", "İstanbul", "3.5", "_x_", "—", "is?", "U.S."]
    for _ in range(500):
        gold, prediction = (" ".join(rng.choice(vocabulary, rng.integers(15))) for _ in range(2))
        published = scorer.score(gold, prediction)
        assert metrics.rouge_1(gold, prediction) == pytest.approx(published["rouge1"].fmeasure, abs=1e-9)
        assert metrics.rouge_l(gold, prediction) == pytest.approx(published["rougeL"].fmeasure, abs=1e-9)


@pytest.mark.parametrize(
    ("number", "gold", "prediction", "reward"),
    [
        (1, "[2]", " [2]\n", 1.0),
        (1, "[2]", "2", 0.0),
        (2, "comedy", "Comedy", 0.0),
        (2, "comedy", "no label", 0.0),
        (3, "4", "4", 1.0),
        (3, "5", "1", 0.0),
        (3, "2", "4.5", 0.375),
        (3, "4", "9", 0.75),
        (3, "2", "-7", 0.75),
        (3, "3", "three", 0.0),
        (3, "3", "", 0.0),
        (3, "3", "nan", 0.0),
        (3, "3", "inf", 0.0),
        (5, "Deep Nets at Work", "deep nets!", 2 / 3),
        (5, "one two three", "two three one", (1 + 2 / 3) / 2),
        (7, "anything", "", 0.0),
        (7, "", "anything", 0.0),
    ],
)
def test_what_one_answer_earns(number, gold, prediction, reward):
    assert score(TASKS[number], gold, prediction) == pytest.approx(reward, abs=1e-12)


@pytest.mark.parametrize("number", TASKS)
@given(gold=st.data(), prediction=st.text(max_size=30))
@settings(max_examples=40, deadline=None)
def test_rewards_lie_in_the_unit_interval_and_the_gold_earns_most(number, gold, prediction):
    task = TASKS[number]
    answer = gold.draw(st.sampled_from(task.labels) if task.labels else st.from_regex("[a-z]{1,5}( [a-z]{1,5}){0,6}"))
    assert 0.0 <= score(task, answer, prediction) <= 1.0
    assert score(task, answer, answer) == 1.0


def test_the_labels_are_those_of_the_published_evaluator():
    assert len(set(MOVIE_TAGS)) == 15
    assert len(set(OLD_TASK_2.labels)) == 15
    assert {"food & drink", "style & beauty"} <= set(OLD_TASK_2.labels)


@pytest.mark.skipif(not HAS_NLTK, reason="needs NLTK")
@pytest.mark.parametrize(
    ("gold", "prediction", "expected"),
    [
        # all six words in one chunk: 1 - 0.5 (1/6)^3
        ("the cat sat on the mat", "the cat sat on the mat", 1 - 0.5 / 6**3),
        # one match of three and four words, by its stem, in one chunk of one: Fmean of P = 1/4, R = 1/3, halved
        ("the cats sat", "a cat was sitting", 0.5 * (1 / 12) / (0.9 / 4 + 0.1 / 3)),
        ("a b", "c d", 0.0),
        ("", "a", 0.0),
    ],
)
def test_meteor_by_hand(gold, prediction, expected):
    assert metrics.meteor(gold, prediction, synonyms=False) == pytest.approx(expected, abs=1e-12)


@pytest.mark.skipif(not HAS_NLTK, reason="needs NLTK")
def test_meteor_says_whether_it_knows_synonyms():
    figures = evaluate(LONG_TASKS["topic"], {"1": "the cat sat"}, {"1": "the cats sat"}, with_meteor=True)
    assert set(figures) == {
        "rouge-1",
        "rouge-L",
        "meteor" if metrics.has_wordnet() else "meteor-without-synonyms",
    }
    if not metrics.has_wordnet():
        with pytest.raises(MissingPackageError, match=r"needs WordNet: python -m nltk\.downloader wordnet"):
            metrics.meteor("a", "a")


@pytest.mark.skipif(HAS_NLTK, reason="NLTK is here")
def test_meteor_needs_nltk():
    with pytest.raises(MissingPackageError, match=r"METEOR needs NLTK: pip install 'hare-gym\[lamp\]'"):
        evaluate(LONG_TASKS["topic"], {"1": "a"}, {"1": "a"}, with_meteor=True)
    assert set(evaluate(LONG_TASKS["topic"], {"1": "a"}, {"1": "a"})) == {"rouge-1", "rouge-L"}
