"""The noise of the synthetic environments: Beta rewards that replay to the same bits, from numbers drawn beforehand.

A round's four normals and six uniforms are drawn whatever the action will be, so that the luck of round t is the same
for everyone who is compared on a seed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable

Array = NDArray[np.float64]

# Where mu is 0 or 1 the Beta reward would have a shape of 0.
_SMALLEST_SHAPE = 1e-12


def stream(seed: int | list[int]) -> np.random.Generator:
    """The quickest of NumPy's generators: drawing is a seventh of a round."""
    return np.random.Generator(np.random.SFC64(seed))


def _gamma(shape: float, z: list[float], u: list[float], w: float) -> float:
    """A Gamma(shape, 1) variate from two normals z and uniforms u, w (Marsaglia and Tsang 2000).

    Exact but for variates below 1e-27, which are raised to about that.
    """
    small = shape < 1.0
    d = (shape + 1.0 if small else shape) - 1.0 / 3.0
    root = math.sqrt(9.0 * d)
    draws = zip(z, u, strict=True)
    rng: np.random.Generator | None = None
    while True:
        pair = next(draws, None)
        if pair is None:
            # both draws were rejected, about one time in a thousand: go on from a stream of the round's own
            rng = rng or stream([int(value * 2.0**53) for value in u])
            pair = (rng.standard_normal(), rng.random())
        x, uniform = pair
        v = 1.0 + x / root
        if v <= 0.0:
            continue
        v *= v * v
        x2 = x * x
        if uniform < 1.0 - 0.0331 * (x2 * x2):
            break
        if portable.log(uniform) < 0.5 * x2 + d * (1.0 - v + portable.log(v)):
            break
    g = d * v
    return g * portable.exp(max(portable.log(w) / shape, -64.0)) if small else g


def beta(mu: float, kappa: float, z: list[float], u: list[float]) -> float:
    """A Beta(kappa mu, kappa (1 - mu)) variate, whose mean is mu, from four normals and six uniforms.

    Args:
        mu: The mean, in [0, 1].
        kappa: The concentration; the variance is mu(1 - mu)/(kappa + 1).
        z: Four standard normals.
        u: Six uniforms on [0, 1).
    """
    a = _gamma(max(kappa * mu, _SMALLEST_SHAPE), z[::2], u[:4:2], u[4])
    b = _gamma(max(kappa * (1.0 - mu), _SMALLEST_SHAPE), z[1::2], u[1:4:2], u[5])
    return a / (a + b)


def beta_batch(mu: Array, kappa: float, z: Array, u: Array) -> Array:
    """:func:`beta` of each world, in few and long array operations: both draws of the loop are judged at once.

    Args:
        mu: ``(W,)``.
        kappa: As for :func:`beta`.
        z: ``(4, W)``.
        u: ``(6, W)``.

    Returns:
        ``(W,)``, each with the bits that :func:`beta` gives.
    """
    W = len(mu)
    shape = np.maximum(np.concatenate([kappa * mu, kappa * (1.0 - mu)]), _SMALLEST_SHAPE)
    small = np.flatnonzero(shape < 1.0)
    d = shape - 1.0 / 3.0
    d[small] = shape[small] + 1.0 - 1.0 / 3.0
    x = z[:2].reshape(-1)
    x2 = x * x
    uniform = u[:2].reshape(-1)
    v = 1.0 + x / np.sqrt(9.0 * d)
    v *= v * v
    g = d * v
    unsure = np.flatnonzero(uniform >= 1.0 - 0.0331 * (x2 * x2))
    n, d_unsure = len(unsure), np.tile(d[unsure], 2)
    x = np.concatenate([x[unsure], z[2:].reshape(-1)[unsure]])
    v = 1.0 + x / np.sqrt(9.0 * d_unsure)
    v *= v * v
    uniform = np.concatenate([uniform[unsure], u[2:4].reshape(-1)[unsure]])
    # the logarithm of 1e-300 rejects the draws of a v that is not positive
    logs = portable.log(np.concatenate([np.maximum(v, 1e-300), uniform, u[4:].reshape(-1)[small]]))
    accepted = logs[2 * n : 4 * n] < 0.5 * (x * x) + d_unsure * (1.0 - v + logs[: 2 * n])
    g[unsure] = (d_unsure * v)[np.where(accepted[:n], 0, n) + np.arange(n)]
    g[small] *= portable.exp(np.maximum(logs[4 * n :] / shape[small], -64.0))
    reward: Array = g[:W] / (g[:W] + g[W:])
    for i in np.unique(unsure[~(accepted[:n] | accepted[n:])] % W).tolist():
        reward[i] = beta(float(mu[i]), kappa, z[:, i].tolist(), u[:, i].tolist())
    return reward
