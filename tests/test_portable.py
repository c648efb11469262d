"""The portable functions against the libraries' own, and floats against arrays bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hare_gym import portable


def test_exp_is_the_exponential():
    x = np.linspace(-64.0, 64.0, 50_001)
    assert np.abs(portable.exp(x) / np.exp(x) - 1.0).max() < 1e-11
    near = np.linspace(-8.0, 8.0, 50_001)
    assert np.abs(portable.exp(near) / np.exp(near) - 1.0).max() < 1e-12


def test_sin_is_the_sine():
    x = np.linspace(-1000.0, 1000.0, 200_001)
    assert np.abs(portable.sin(x) - np.sin(x)).max() < 1e-12


def test_log_is_the_logarithm():
    x = np.concatenate([np.geomspace(1e-300, 1e300, 50_001), np.linspace(0.5, 2.0, 10_001)])
    assert np.abs(portable.log(x) - np.log(x)).max() <= 1e-12 * 700
    near_one = np.linspace(0.6, 1.5, 10_001)
    assert np.abs(portable.log(near_one) - np.log(near_one)).max() < 1e-14


@given(st.floats(-60.0, 60.0), st.integers(1, 40))
def test_a_float_and_an_array_of_any_length_give_the_same_bits(x, length):
    assert (portable.exp(np.full(length, x)) == portable.exp(x)).all()
    positive = abs(x) + 1e-9
    assert (portable.log(np.full(length, positive)) == portable.log(positive)).all()
    assert (portable.sin(np.full(length, x)) == portable.sin(np.array([x]))[0]).all()


def test_matvec_adds_in_order_whatever_the_number_of_worlds():
    rng = np.random.default_rng(0)
    matrix, x = rng.standard_normal((5, 7, 33)), rng.standard_normal((7, 33))
    y = portable.matvec(matrix, x)
    np.testing.assert_allclose(y, np.einsum("ijw,jw->iw", matrix, x), rtol=1e-12)
    for w in (0, 17, 32):
        one = portable.matvec(matrix[:, :, w : w + 1].copy(), x[:, w : w + 1].copy())
        assert (one[:, 0] == y[:, w]).all()
        by_hand = [math.fsum([]) for _ in range(5)]
        for i in range(5):
            total = matrix[i, 0, w] * x[0, w]
            for j in range(1, 7):
                total += matrix[i, j, w] * x[j, w]
            by_hand[i] = total
        assert (y[:, w] == by_hand).all()
    start = rng.standard_normal((5, 33))
    np.testing.assert_allclose(portable.matvec(matrix, x, start=start.copy()), start + y, rtol=1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (8, 4), (3, 1)])
def test_orthonormal_columns(shape):
    q = portable.orthonormal_columns(np.random.default_rng(1).standard_normal((*shape, 6)))
    for w in range(6):
        np.testing.assert_allclose(q[:, :, w].T @ q[:, :, w], np.eye(shape[1]), atol=1e-14)
