"""Learning slopes, recovery of hidden attributes, entropy trajectories, and what vectors tell a language model."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hare_evaluation.metrics import learning
from hare_evaluation.metrics.likelihood import conditioning
from hare_gym.errors import DataError


def test_the_slope_is_that_of_the_logarithm_of_visits():
    users = np.tile([0, 1], 20)
    visit = np.repeat(np.arange(1, 21), 2)
    rewards = np.where(users == 0, 0.2 + 0.1 * np.log(visit), 0.5)
    assert learning.learning_slope(users, rewards) == pytest.approx(0.05)
    assert math.isnan(learning.learning_slope([0, 1, 0], [0.1, 0.2, 0.3]))


def test_the_curve_is_the_mean_by_visit_as_far_as_all_came():
    assert learning.learning_curve([0, 1, 1, 0, 1], [0.0, 1.0, 0.4, 0.2, 0.9]) == pytest.approx([0.5, 0.3])
    with pytest.raises(DataError, match="a user and a reward"):
        learning.learning_curve([], [])


def sessions(rng, noise, S=5, U=20, d=6):
    W = rng.standard_normal((d, 2))
    states = [rng.standard_normal((U, d)) for _ in range(S)]
    return states, [x @ W + noise * rng.standard_normal((U, 2)) for x in states]


def test_recovery_finds_what_is_linear_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    states, attributes = sessions(rng, 0.0)
    assert learning.recovery(states, attributes).min() > 0.99
    strangers = [rng.standard_normal((20, 2)) for _ in range(5)]
    assert learning.recovery(states, strangers).mean() < 0.1


def test_recovery_falls_with_noise_and_reads_vectors_of_one_number():
    rng = np.random.default_rng(1)
    states, attributes = sessions(rng, 2.0)
    found = learning.recovery(states, attributes)
    assert found.shape == (5,) and 0.3 < found.mean() < 0.9
    assert learning.recovery(states, [a[:, 0] for a in attributes]).shape == (5,)


def r2(X, Y, held_X, held_Y, ridge):
    guess = make_pipeline(StandardScaler(), Ridge(ridge)).fit(X, Y).predict(held_X)
    return 1.0 - np.sum((held_Y - guess) ** 2) / np.sum((held_Y - Y.mean(axis=0)) ** 2)


def test_recovery_is_that_of_scikit_learn():
    """Nested leaving-out of whole sessions, with scikit-learn's ridge: no session is fitted on, nor chosen on."""
    states, attributes = sessions(np.random.default_rng(2), 3.0, S=4, U=8, d=5)
    expected = []
    for s in range(4):
        rest = [i for i in range(4) if i != s]
        groups = np.repeat(rest, 8)
        X, Y = (np.concatenate([parts[i] for i in rest]) for parts in (states, attributes))
        scores = [
            np.mean([r2(X[groups != g], Y[groups != g], X[groups == g], Y[groups == g], ridge) for g in rest])
            for ridge in learning.RIDGES
        ]
        best = learning.RIDGES[int(np.argmax(scores))]
        expected.append(r2(X, Y, states[s], attributes[s], best))
    assert learning.recovery(states, attributes) == pytest.approx(np.array(expected))


def test_recovery_needs_two_sessions_and_a_row_for_each_user():
    assert np.isnan(learning.recovery([np.ones((3, 2))], [np.ones(3)])).all()
    with pytest.raises(DataError, match="for each of its users"):
        learning.recovery([np.ones((3, 2)), np.ones((3, 2))], [np.ones(3), np.ones(2)])


def test_the_entropy_trajectory_keeps_what_was_told():
    record = {"rounds": [1, 2, 3], "diagnostics": {"attention_entropy": [2.0, None, 1.0]}}
    rounds, values = learning.entropy_trajectory(record)
    assert rounds.tolist() == [1, 3] and values.tolist() == [2.0, 1.0]
    assert learning.entropy_trajectory({"rounds": [1], "diagnostics": {}})[0].size == 0


@dataclass
class Found:
    nats: np.ndarray
    length: int = 10

    @property
    def perplexity(self):
        return math.exp(self.nats.sum() / (self.length * len(self.nats)))

    @property
    def bits_per_byte(self):
        return float(self.nats.mean() / math.log(2) / 50)


class Labels:
    """A model that knows a text's label exactly from z, and guesses among K without."""

    K = 4

    def perplexity(self, texts, z=None, u=None):
        labels = np.array([int(text) for text in texts])
        right = np.zeros(len(texts), dtype=bool) if z is None else z[:, 0] == labels
        surprise = math.log(self.K) if z is None else 8.0
        return Found(5.0 + np.where(right, 0.0, surprise))


def test_vectors_that_tell_the_label_gain_its_entropy():
    labels = np.arange(40) % 4
    found = conditioning(
        Labels(), [str(k) for k in labels], labels[:, None].astype(float), None, np.random.default_rng(0)
    )
    assert found.information == pytest.approx(2.0)
    assert found.conditioned < found.unconditioned < found.shuffled
    assert found.bits_per_byte < found.bits_per_byte_unconditioned < found.bits_per_byte_shuffled


def test_shuffling_leaves_no_text_its_own_vectors():
    texts = [str(k) for k in range(8)]
    found = conditioning(Labels(), texts, np.arange(8.0)[:, None], None, np.random.default_rng(1))
    assert found.shuffled == pytest.approx(math.exp(13.0 / 10))


def test_conditioning_needs_two_texts():
    with pytest.raises(DataError, match="at least two texts"):
        conditioning(Labels(), ["1"], np.ones((1, 1)), None, np.random.default_rng(0))
