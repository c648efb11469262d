"""The Beta noise against scipy, and its two forms against each other."""

import numpy as np
from scipy import stats

from hare_gym.envs.noise import beta, beta_batch


def test_rewards_are_beta_with_the_stated_mean():
    """Kolmogorov-Smirnov against scipy's Beta, for shapes above and below one."""
    rng = np.random.default_rng(2)
    n = 20_000
    for mu, kappa in [(0.5, 10.0), (0.03, 10.0), (0.97, 10.0), (0.3, 2.0), (0.01, 10.0)]:
        z, u = rng.standard_normal((4, n)), rng.random((6, n))
        drawn = beta_batch(np.full(n, mu), kappa, z, u)
        assert stats.kstest(drawn, stats.beta(kappa * mu, kappa * (1 - mu)).cdf).pvalue > 1e-3
        wrong = stats.beta(kappa * mu * 1.15, kappa * (1 - mu * 1.15)).cdf
        assert stats.kstest(drawn, wrong).pvalue < 1e-3 or mu > 0.9
        for i in range(300):
            assert beta(mu, kappa, z[:, i].tolist(), u[:, i].tolist()) == drawn[i]


def test_a_draw_rejected_twice_goes_on_from_its_own_stream():
    z, u = [-9.0, 0.1, -9.0, 0.2], [0.999, 0.1, 0.5, 0.2, 0.3, 0.4]
    first = beta(0.5, 10.0, z, u)
    assert 0.0 < first < 1.0
    assert first == beta(0.5, 10.0, z, u)
    batch = beta_batch(np.full(3, 0.5), 10.0, np.tile(np.array(z)[:, None], 3), np.tile(np.array(u)[:, None], 3))
    assert (batch == first).all()


def test_mu_of_zero_and_one_are_certain():
    z, u = [0.3, -0.2, 0.1, 0.5], [0.5] * 6
    assert beta(1.0, 10.0, z, u) == 1.0
    assert beta(0.0, 10.0, z, u) < 1e-20
