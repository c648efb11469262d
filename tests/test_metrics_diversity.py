"""Divergence between users, against itself sampled again, against the users' distance; intra-list diversity."""

import math

import numpy as np
import pytest

from hare_evaluation.metrics import diversity
from hare_gym.errors import DataError
from hare_gym.text.users import Users


def texts(rng, Q=3, U=6, d=5):
    return rng.standard_normal((Q, U, d))


def test_the_same_text_for_everybody_has_divergence_0_exactly():
    E = np.repeat(texts(np.random.default_rng(0), U=1), 6, axis=1)
    assert diversity.divergence(E) == 0.0
    assert math.isnan(diversity.distance_correlation(E, np.ones((6, 6))))


def test_divergence_by_hand():
    e = np.eye(3)
    # distances 1, 1 and 0 for the first query, 2, 0 and 2 for the second
    E = np.array([[e[0], e[1], e[1]], [e[0], -e[0], e[0]]])
    assert diversity.divergence(E) == pytest.approx(((1 + 1 + 0) / 3 + (2 + 0 + 2) / 3) / 2)


def test_distances_are_one_minus_the_cosine_whatever_the_length():
    v = np.random.default_rng(1).standard_normal((4, 7))
    cosines = (v @ v.T) / np.outer(np.linalg.norm(v, axis=1), np.linalg.norm(v, axis=1))
    assert diversity.cosine_distances(v * [[1], [2], [3], [4]]) == pytest.approx(1.0 - cosines, abs=1e-12)


def test_resampled_divergence_is_of_one_user_with_themselves():
    e = np.eye(2)
    E, again = np.array([[e[0], e[1]]]), np.array([[e[0], e[0]]])
    assert diversity.resampled_divergence(E, E) == 0.0
    assert diversity.resampled_divergence(E, again) == pytest.approx(0.5)
    with pytest.raises(DataError, match="same users and queries"):
        diversity.resampled_divergence(E, again[:, :1])


def test_a_random_writer_diverges_as_much_from_itself():
    rng = np.random.default_rng(2)
    E, again = texts(rng, Q=30, U=20), texts(rng, Q=30, U=20)
    assert diversity.divergence(E) == pytest.approx(diversity.resampled_divergence(E, again), abs=0.06)


def test_texts_that_follow_the_users_correlate_with_them():
    rng = np.random.default_rng(3)
    users = Users.draw(rng, 12)
    apart = diversity.user_distances(users)
    own = np.stack([np.concatenate([users.domains, users.styles], axis=1)] * 2)
    strangers = rng.standard_normal((2, 12, 9))
    assert diversity.distance_correlation(own, apart) > 0.2
    assert abs(diversity.distance_correlation(strangers, apart)) < 0.4


def test_user_distances_are_a_distance_in_0_to_1():
    apart = diversity.user_distances(Users.draw(np.random.default_rng(4), 9))
    assert (apart == apart.T).all() and (np.diag(apart) == 0).all()
    assert apart.min() >= 0 and apart.max() <= 1
    one = Users(
        *(
            np.array([a, b])
            for a, b in zip(
                (np.eye(8)[0], 0.0, 0.0, np.eye(4)[0]), (np.eye(8)[1], 1.0, 0.5, np.eye(4)[1]), strict=True
            )
        )
    )
    assert diversity.user_distances(one)[0, 1] == pytest.approx((1 + 1 + 1 + 0.5) / 4)


def test_intra_list_diversity_is_within_a_user():
    e = np.eye(2)
    E = np.array([[e[0], e[0]], [e[1], e[0]]])  # the first user gets two kinds of text, the second one
    assert diversity.intra_list_diversity(E) == pytest.approx(0.5)


def test_one_user_has_no_pairs():
    with pytest.raises(DataError, match="at least two"):
        diversity.divergence(np.ones((2, 1, 3)))
