"""BLEU, ROUGE-L, BERTScore by sentences, self-BLEU and novelty, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from hare_evaluation.metrics import overlap
from hare_gym.errors import DataError

words = st.lists(st.sampled_from("abcd"), max_size=24)


def slow_lcs(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    return int(table[-1, -1])


@settings(max_examples=200, deadline=None)
@given(words, words)
def test_the_common_subsequence_is_that_of_the_textbook(a, b):
    assert overlap.longest_common_subsequence(a, b) == slow_lcs(a, b)


def test_rouge_l_of_lins_example():
    # Lin 2004, section 3: S1 "police killed the gunman"; S2 and S3 share 3 and 2 words with it in order
    reference = "police killed the gunman"
    assert overlap.rouge_l("police kill the gunman", reference).f1 == pytest.approx(3 / 4)
    assert overlap.rouge_l("the gunman kill police", reference).f1 == pytest.approx(2 / 4)


def test_rouge_l_tells_precision_from_recall():
    found = overlap.rouge_l("write the test first", "Write the test, then run the test.")
    assert (found.precision, found.recall) == (3 / 4, 3 / 7)
    assert found.f1 == pytest.approx(2 * (3 / 4) * (3 / 7) / (3 / 4 + 3 / 7))


@pytest.mark.parametrize(("a", "b"), [("", "a"), ("a", ""), ("...", "?!"), ("a", "b")])
def test_rouge_l_without_a_common_word_is_0(a, b):
    assert overlap.rouge_l(a, b).f1 == 0.0


def test_bleu_of_the_same_text_is_1_and_of_another_is_less():
    text = "Write the failing test first, then the code that makes it pass."
    assert overlap.bleu_4([text], [text]) == 1.0
    other = "Write the failing test first, then run it once more."
    assert 0.0 < overlap.bleu_4([other], [text]) < 0.7


def test_bleu_by_hand():
    # 5 of 6 words, 3 of 5 pairs, 1 of 4 triples, and no four words: smoothed to 1/2 of a match among 3
    expected = math.exp(sum(math.log(p) for p in (5 / 6, 3 / 5, 1 / 4, 1 / 6)) / 4)
    assert overlap.bleu_4(["the cat sat on a mat"], ["the cat sat in a mat"]) == pytest.approx(expected)


def test_bleu_needs_a_reference_for_each_text():
    with pytest.raises(DataError, match="there are 2 texts and 1 references"):
        overlap.bleu_4(["a", "b"], ["a"])


def test_self_bleu_is_1_for_copies_and_lower_for_variety():
    same = ["run the tests before every commit"] * 3
    varied = [
        "run the tests before every commit",
        "ask the pupils what they remember",
        "ship on Friday if it is green",
    ]
    assert overlap.self_bleu(same) == 1.0
    mixed = [same[0], same[0], varied[1]]
    assert overlap.self_bleu(varied) < overlap.self_bleu(mixed) < 1.0
    with pytest.raises(DataError, match="there is 1"):
        overlap.self_bleu(["a"])


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(" ".join), min_size=2, max_size=5))
def test_self_bleu_is_that_of_sacrebleu_s_own_loop(texts):
    bleu = BLEU(effective_order=True)
    scores = [bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts)]
    assert overlap.self_bleu(texts) == pytest.approx(np.mean(scores) / 100.0, abs=1e-12)


def test_bert_score_by_sentences_matches_greedily():
    e = np.eye(3)
    found = overlap.sentence_bert_score([e[0], e[1], e[2]], [2 * e[0]])
    assert (found.precision, found.recall) == (pytest.approx(1 / 3), pytest.approx(1.0))
    assert found.f1 == pytest.approx(0.5)
    assert overlap.sentence_bert_score(e[:1], -e[:1]).f1 == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(words.map(" ".join), min_size=1, max_size=4), st.lists(words.map(" ".join), min_size=1, max_size=6))
def test_the_nearest_is_found_as_if_every_pair_were_looked_at(texts, pool):
    expected = [max(overlap.rouge_l(text, other).f1 for other in pool) for text in texts]
    assert overlap.nearest(texts, pool) == pytest.approx(expected, abs=1e-12)


def test_novelty_counts_what_is_not_near():
    pool = ["one two three four", "five six seven eight"]
    near = overlap.nearest(["one two three four", "one two three nine", "six of one"], pool)
    assert near == pytest.approx([1.0, 0.75, 2 / 7])
    assert overlap.novelty(near) == pytest.approx(1 / 3)
    assert overlap.novelty(near, near=0.8) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="needs a pool"):
        overlap.nearest(["a"], [])
