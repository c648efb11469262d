"""The ridge posteriors against batch ridge regression on the whole design."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_agents.linear import REFACTOR_EVERY, ArrowRidge, Belief, BilinearModel, Ridge, inverse, with_one
from hare_gym.errors import DataError

RNG = np.random.default_rng(7)


def close(actual, expected, tolerance=1e-8):
    """Equal to a relative error of ``tolerance`` in norm."""
    return np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


def arrow_data(rounds, k, p, groups, rng):
    """Observations of groups in random order; group numbers are spread out and negative ones occur."""
    names = rng.choice(np.arange(-50, 1000), size=groups, replace=False)
    return (
        rng.choice(names, size=rounds),
        rng.standard_normal((rounds, k)),
        rng.standard_normal((rounds, p)),
        rng.random(rounds),
    )


def batch_posterior(data, names, ridge, private_ridge):
    """Mean and covariance of [theta_0, theta of each of ``names``] from the one-hot design."""
    u, Z, W, r = data
    k, p = Z.shape[1], W.shape[1]
    design = np.zeros((len(r), k + p * len(names)))
    design[:, :k] = Z
    for slot, name in enumerate(names):
        design[u == name, k + slot * p : k + (slot + 1) * p] = W[u == name]
    prior = np.r_[np.full(k, ridge), np.full(p * len(names), private_ridge)]
    A = np.diag(prior) + design.T @ design
    return np.linalg.solve(A, design.T @ r), np.linalg.inv(A)


def learned(data, ridge=1.0, private_ridge=1.0):
    u, Z, W, r = data
    model = ArrowRidge(Z.shape[1], W.shape[1], ridge, private_ridge)
    for row in zip(u.tolist(), Z, W, r.tolist(), strict=True):
        model.update(*row)
    return model


def assert_is_batch_posterior(model, data, names, ridge, private_ridge, tolerance=1e-8):
    k, p = model.shared_dim, model.private_dim
    theta, Sigma = batch_posterior(data, names, ridge, private_ridge)
    assert close(model.shared.theta, theta[:k], tolerance)
    assert close(model.shared.A_inv, Sigma[:k, :k], tolerance)
    for slot, name in enumerate(names):
        own = slice(k + slot * p, k + (slot + 1) * p)
        assert np.linalg.norm(model.mean(name) - theta[own]) <= tolerance * np.linalg.norm(theta)
        assert close(model.covariance(name), Sigma[own, own], tolerance)
        difference = model.cross_covariance(name) - Sigma[own, :k]
        assert np.linalg.norm(difference) <= tolerance * np.linalg.norm(Sigma)


@pytest.mark.parametrize("rounds", [0, 49, 50, 51, 999, 1000, 3217])
def test_ridge_is_batch_ridge(rounds):
    X, r = RNG.standard_normal((rounds, 6)), RNG.random(rounds)
    model = Ridge(6, 0.5)
    for x, reward in zip(X, r, strict=True):
        model.update(x, reward)
    A = 0.5 * np.eye(6) + X.T @ X
    assert close(model.A, A)
    assert close(model.A_inv, np.linalg.inv(A))
    assert close(model.b, X.T @ r)
    assert close(model.theta, np.linalg.solve(A, X.T @ r))


def test_arrow_is_batch_ridge_after_thousands_of_updates():
    data = arrow_data(4300, k=7, p=3, groups=3, rng=RNG)  # each group is refactored too
    model = learned(data, 0.7, 2.5)
    assert min(np.unique(data[0], return_counts=True)[1]) > REFACTOR_EVERY
    never_seen = 5000
    names = [*np.unique(data[0]).tolist(), never_seen]
    assert_is_batch_posterior(model, data, names, 0.7, 2.5)
    assert never_seen not in model.groups
    assert not model.mean(never_seen).any()


@settings(max_examples=30, deadline=None)
@given(
    rounds=st.integers(0, 120),
    k=st.integers(1, 6),
    p=st.integers(1, 4),
    groups=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    ridge=st.floats(0.1, 10),
    private_ridge=st.floats(0.1, 10),
)
def test_arrow_is_batch_ridge_for_any_shape(rounds, k, p, groups, seed, ridge, private_ridge):
    data = arrow_data(rounds, k, p, groups, np.random.default_rng(seed))
    names = np.unique(data[0]).tolist()
    assert_is_batch_posterior(learned(data, ridge, private_ridge), data, names, ridge, private_ridge, 1e-7)


def test_projection_is_the_blocks_of_sigma():
    data = arrow_data(500, k=5, p=3, groups=4, rng=RNG)
    model = learned(data)
    names = np.unique(data[0]).tolist()
    theta, Sigma = batch_posterior(data, names, 1.0, 1.0)
    F_z, F_w = RNG.standard_normal((5, 4)), RNG.standard_normal((3, 4))
    F = np.zeros((len(theta), 4))
    F[:5], F[8:11] = F_z, F_w
    mean, covariance = model.project(names[1], F_z, F_w)
    assert close(mean, F.T @ theta)
    assert close(covariance, F.T @ Sigma @ F)


def test_predict_is_project_group_by_group():
    data = arrow_data(300, k=5, p=3, groups=4, rng=RNG)
    model = learned(data)
    names = [*np.unique(data[0]).tolist(), 5000]
    Z, w = RNG.standard_normal((5, 5)), RNG.standard_normal(3)
    mean, variance = model.predict(Z, w, names)
    for i, name in enumerate(names):
        expected_mean, expected_variance = model.project(name, Z[i][:, None], w[:, None])
        assert mean[i] == pytest.approx(expected_mean[0], rel=1e-9)
        assert variance[i] == pytest.approx(expected_variance[0, 0], rel=1e-9)


def test_near_collinear_features_stay_exact():
    rng = np.random.default_rng(3)
    u = rng.integers(0, 2, 3500)
    direction = rng.standard_normal(6)
    Z = direction + 1e-3 * rng.standard_normal((3500, 6))
    W = np.ones(2) + 1e-3 * rng.standard_normal((3500, 2))
    data = (u, Z, W, rng.random(3500))
    model = learned(data)
    _, Sigma = batch_posterior(data, [0, 1], 1.0, 1.0)
    assert np.linalg.cond(np.linalg.inv(Sigma)) > 1e4
    assert_is_batch_posterior(model, data, [0, 1], 1.0, 1.0, 1e-7)


def test_refactoring_removes_accumulated_error():
    model = Ridge(4)
    X = RNG.standard_normal((REFACTOR_EVERY, 4))
    for x in X[:-1]:
        model.update(x, 0.5)
    model.A_inv *= 1.0 + 1e-3  # as if rounding had built up
    model.theta += 1e-3
    model.update(X[-1], 0.5)
    A = np.eye(4) + X.T @ X
    assert close(model.A_inv, np.linalg.inv(A), 1e-12)
    assert close(model.theta, np.linalg.solve(A, X.sum(axis=0) * 0.5), 1e-12)
    assert np.array_equal(model.A_inv, model.A_inv.T)


def test_a_matrix_that_is_not_positive_definite_is_refused():
    with pytest.raises(DataError, match="no longer positive definite"):
        inverse(-np.eye(3))


def dense_features(x, user, y, users):
    """phi as the paper writes it: [1, y, x⊗y, onehot(user)⊗y]."""
    return np.concatenate([[1.0], y, np.outer(x, y).ravel(), np.outer(np.eye(users)[user], y).ravel()])


@pytest.mark.parametrize("widths", [True, False])
def test_bilinear_model_is_ridge_on_phi(widths):
    q, d, users, rounds = 4, 3, 5, 400
    rng = np.random.default_rng(11)
    model, reference = BilinearModel(q, d, widths=widths), Ridge(1 + d + q * d + users * d)
    Y = rng.standard_normal((30, d))
    for _ in range(rounds):
        x, user, y, r = rng.standard_normal(q), int(rng.integers(users - 1)), Y[rng.integers(30)], rng.random()
        belief = model.belief(x, user)
        if rng.random() < 0.1:
            phi = np.stack([dense_features(x, user, item, users) for item in Y])
            assert np.allclose(belief.mean(with_one(Y)), phi @ reference.theta, rtol=0, atol=1e-10)
            if widths:
                widths_of_phi = np.sqrt(np.einsum("ni,ij,nj->n", phi, reference.A_inv, phi))
                assert np.allclose(belief.width(with_one(Y)), widths_of_phi, rtol=1e-9, atol=0)
        model.update(x, user, y, r)
        reference.update(dense_features(x, user, y, users), r)


def test_beliefs_of_a_batch_are_those_of_its_users():
    rng = np.random.default_rng(2)
    model = BilinearModel(4, 3)
    X, users, Y = rng.standard_normal((40, 4)), rng.integers(0, 6, 40), rng.standard_normal((40, 3))
    model.update_batch(X, users, Y, rng.random(40))
    batch = model.beliefs(X[:7], np.r_[users[:6], 99])
    for i, user in enumerate([*users[:6].tolist(), 99]):
        single = model.belief(X[i], user)
        assert close(batch.m[i], single.m, 1e-12)
        assert close(batch.V[i], single.V, 1e-12)


def test_update_batch_is_the_updates_in_order():
    rng = np.random.default_rng(2)
    X, users, Y, r = (
        rng.standard_normal((60, 4)),
        rng.integers(0, 6, 60),
        rng.standard_normal((60, 3)),
        rng.random(60),
    )
    batch, single = BilinearModel(4, 3), BilinearModel(4, 3)
    batch.update_batch(X, users, Y, r)
    for row in zip(X, users.tolist(), Y, r.tolist(), strict=True):
        single.update(*row)
    for name, value in batch.state().items():
        assert np.allclose(value, single.state()[name], rtol=1e-11, atol=1e-13), name


@pytest.mark.parametrize(
    "make", [lambda: ArrowRidge(4, 2), lambda: BilinearModel(1, 2), lambda: BilinearModel(1, 2, 2)]
)
def test_state_goes_round_bit_for_bit(make):
    rng = np.random.default_rng(5)
    model = make()

    def rows(n):
        dims = (1, 2) if isinstance(model, BilinearModel) else (4, 2)
        for _ in range(n):
            a, b = (rng.standard_normal(dim) for dim in dims)
            user, r = int(rng.integers(30)), float(rng.random())
            yield (a, user, b, r) if isinstance(model, BilinearModel) else (user, a, b, r)

    for row in rows(1037):
        model.update(*row)
    other = make()
    other.load_state(model.state())
    for row in rows(1037):  # over the next refactoring
        model.update(*row)
        other.update(*row)
    ours, theirs = model.state(), other.state()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert ours[name].tobytes() == theirs[name].tobytes(), name


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_and_rewards_that_are_not_finite_are_refused_and_nothing_is_learned(bad):
    features = np.array([1.0, 2.0, bad])
    good = np.ones(3)
    text = f"Feature 2 is {bad}: features must be finite numbers."
    reward_text = f"The reward is {bad}: rewards must be finite numbers."
    ridge, arrow = Ridge(3), ArrowRidge(3, 3)
    ridge.update(good, 1.0)
    arrow.update(0, good, good, 1.0)
    before = ridge.state() | arrow.state()
    for call, expected in (
        (lambda: ridge.update(features, 1.0), text),
        (lambda: ridge.update(good, bad), reward_text),
        (lambda: arrow.update(0, features, good, 1.0), text),
        (lambda: arrow.update(1, good, features, 1.0), text.replace("2", "5")),
        (lambda: arrow.update(1, good, good, bad), reward_text),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == expected
    after = ridge.state() | arrow.state()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_features_whose_squares_overflow_are_refused():
    with pytest.raises(DataError) as caught:
        Ridge(2).update(np.array([1e200, 0.0]), 1.0)
    assert str(caught.value) == (
        "The features are so large that their squares overflow: scale them to a length near 1."
    )


def test_a_query_that_is_not_finite_is_refused_and_the_model_lives_on():
    model = BilinearModel(2, 2)
    model.update(np.ones(2), 0, np.ones(2), 1.0)
    expected = model.belief(np.ones(2), 0)
    with pytest.raises(DataError, match=r"^The query holds NaN or infinity: features must be finite numbers\.$"):
        model.belief(np.array([np.nan, 1.0]), 0)
    with pytest.raises(DataError, match=r"^A query holds NaN or infinity: features must be finite numbers\.$"):
        model.beliefs(np.array([[np.nan, 1.0], [1.0, 1.0]]), np.array([0, 1]))
    again = model.belief(np.ones(2), 0)
    assert np.array_equal(again.m, expected.m)
    assert np.array_equal(again.V, expected.V)


def test_states_that_do_not_fit_are_refused():
    state = ArrowRidge(3, 2).state()
    for name, array, expected in (
        (
            "A_u_inv",
            state["A_u_inv"].astype(np.float32),
            "State array 'A_u_inv' is float32, not float64: posteriors are kept in float64 only, because float32 "
            "loses their small variances. Save and load them without converting.",
        ),
        (
            "H",
            np.zeros((0, 2, 9)),
            "State array 'H' has shape (0, 2, 9), not (0, 2, 4): it belongs to a task of other dimensions.",
        ),
        ("shared_theta", np.array([0, np.nan, 0]), "State array 'theta' holds NaN or infinity."),
        ("B_u", None, "The state has no array 'B_u': it was saved by another agent or version."),
    ):
        broken = {key: value for key, value in (state | {name: array}).items() if value is not None}
        with pytest.raises(DataError) as caught:
            ArrowRidge(3, 2).load_state(broken)
        assert str(caught.value) == expected
    with pytest.raises(DataError, match="'theta' is float32, not float64"):
        Ridge(2).load_state({**Ridge(2).state(), "theta": np.zeros(2, np.float32)})


def test_belief_is_never_nan_where_rounding_makes_a_variance_negative():
    belief = Belief(np.zeros(2), np.array([[1.0, -1.0], [-1.0, 1.0 - 1e-17]]) - 1e-16)
    assert np.isfinite(belief.width(with_one(np.ones((3, 1))))).all()
