"""What an agent would have earned, estimated from somebody else's log.

In event t the log shows item a_t with propensity p_t and reward r_t in [0, 1]; the agent, knowing the context x_t
and what it learned before, would have shown item a with chance pi_t(a). With w_t = pi_t(a_t)/p_t, q(x, a) a model of
the reward and d_t = sum_a pi_t(a) q(x_t, a), the estimates of its value V are

- ``replay``: the mean reward of the events in which the agent's choice is the log's (Li et al. 2011);
- ``ips``: mean of w r (inverse propensity score);
- ``snips``: sum of w r over sum of w (self-normalised);
- ``dm``: mean of d (direct method);
- ``dr``: mean of d + w (r - q(x, a)) (doubly robust; Dudik et al. 2011).

IPS and DR are unbiased if the propensities are right. Replay is if the log is uniform besides. SNIPS is biased by
O(1/n), DM by whatever its model gets wrong.

**What an interval is about.** A learning agent's policy changes from event to event, so V is the mean over the events
of v_t, the value of the policy held at event t given everything before: what the agent's choices at these contexts
would have earned on average. For an agent that does not learn it is simply its value.

**Why these intervals.** Every term used below has the form Z_t with E[Z_t | past, x_t] = v_t(x_t). Bet a constant
fraction: for kappa > 0 the product of (1 + kappa Z_t)/(1 + kappa v_t) is a nonnegative martingale as long as every
1 + kappa Z_t is nonnegative, whatever the dependence between rounds. As log is concave,
sum log(1 + kappa v_t) <= n log(1 + kappa V), even where V is random. So for a grid of bets fixed beforehand

    P( mean_j prod_t (1 + kappa_j Z_t) / (1 + kappa_j V)^n >= 1/alpha ) <= alpha          (Ville's inequality)

and the smallest V that is not rejected is a lower confidence bound, for finite n, at any stopping time. This is the
betting approach of Waudby-Smith and Ramdas (2024, "Estimating means of bounded random variables by betting") with
constant bets in place of their adaptive ones, which are proven for equal v_t only. A round in which a bet could make
its factor negative is sat out (factor 1, which keeps the inequality because v_t >= 0). The upper bound is 1 minus the
lower bound of 1 - V, with rewards 1 - r and model 1 - q.

The terms of an inverse propensity estimate have no known upper limit when propensities vary, and the intervals never
need one: for the lower bound w r >= 0, and for the upper one w (1 - r) >= 0, whose mean is 1 - v_t because the mean
weight is 1 (as in Karampatziakis et al. 2021, "Off-policy confidence sequences"). Where the log has one propensity p
the weights are at most 1/p, and bets that use this join the grid. Unlike a normal or bootstrap interval, these keep
their width when no click was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtri
from threadpoolctl import threadpool_limits

from hare_gym.envs.replay import LoggedData
from hare_gym.errors import ConfigError, DataError

Array = NDArray[np.float64]

LEVEL = 0.95

# Bets of 3^j times sqrt(2 log(1/alpha)/n), the best one for terms of variance 1. A bet off by sqrt(3) widens an
# interval by at most 16%, and j from -4 to 7 suits standard deviations from 0.0005 to 81.
_BETS = 3.0 ** np.arange(-4, 8)

# The reward model is fitted on the first 1/16, 1/8, 1/4 and 1/2 of the log, each time for the events after.
_FIRST_FIT = 16
_FEWEST_EVENTS = 50
_FEWEST_OF_A_KIND = 5
_INTERACTIONS = 6


@dataclass(frozen=True)
class Estimate:
    """One estimate of a policy's value, with two intervals.

    Attributes:
        value: The estimate; ``None`` where nothing can be said (replay without a match). IPS and DR are not cut to
            [0, 1], which would bias them.
        low: Lower end of the betting interval, in [0, 1]. It holds for any sample size and for learning agents.
        high: Its upper end.
        normal_low: Lower end of the normal approximation, for comparison: narrower, and too narrow when rewards
            are rare or weights large (of zero width when no reward was seen).
        normal_high: Its upper end.
        n: Events that the estimate rests on.
        method: How the interval was made, and what it does not cover.
    """

    value: float | None
    low: float
    high: float
    normal_low: float | None
    normal_high: float | None
    n: int
    method: str


def estimates_for_run(
    log: LoggedData, actions: NDArray[np.int64], probabilities: Array | None
) -> dict[str, dict[str, Any]]:
    """What the runner records of a session on logged data.

    Args:
        log: The session's events.
        actions: The item that the agent chose in each, ``(n,)``.
        probabilities: The chance of each item under the agent, ``(n, N)``, or ``None`` where it does not tell.

    Returns:
        For each estimate its :class:`Estimate` as a dict that JSON can hold; under ``logger``, the mean reward of
        the log itself, for comparison.
    """
    found = estimate(log, actions=actions, probabilities=probabilities, q_hat=reward_model(log))
    alpha = (1.0 - LEVEL) / 2.0
    found["logger"] = _summary(log.rewards, *_bounded_mean(log.rewards, alpha), alpha, "betting")
    return {name: asdict(one) for name, one in found.items()}


def estimate(
    log: LoggedData,
    *,
    actions: NDArray[np.int64] | None = None,
    probabilities: Array | None = None,
    q_hat: Array | None = None,
    level: float = LEVEL,
    clip: float = math.inf,
) -> dict[str, Estimate]:
    """Estimates the value of a policy from a log.

    Args:
        log: The logged events.
        actions: The items that the policy chose, ``(n,)``, drawn without looking at the log's. Replay needs them.
        probabilities: The chance of each item under the policy, ``(n, N)``. Without them the chosen item counts as
            certain, which is unbiased too and noisier.
        q_hat: A model's rewards in [0, 1], ``(n, N)``, for the direct and doubly-robust estimates; row t must not
            depend on the log's action or reward in t or after. Rows of NaN stand for no model yet: DR is IPS there
            and DM leaves them out. ``None`` leaves both estimates out.
        level: The intervals' coverage.
        clip: Weights are cut to this. It lowers the variance of IPS and SNIPS and of DR's correction, and biases
            the *values*: IPS downwards by mean (w - clip)+ r. The betting intervals of IPS and DR still cover.

    Returns:
        By name, in the order of the module's list; ``replay`` only with ``actions``.

    Raises:
        DataError: Arrays of the wrong shape or with impossible values.
        ConfigError: A level or a clip outside its range.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must be between 0 and 1, not {level!r}.")
    if not clip > 0.0:
        raise ConfigError(f"clip must be greater than 0, not {clip!r}.")
    n, events = len(log), np.arange(len(log))
    actions = None if actions is None else _checked_actions(actions, log)
    if probabilities is not None:
        probabilities = _checked_probabilities(probabilities, log)
        chances = probabilities[events, log.actions]
    elif actions is not None:
        chances = (actions == log.actions).astype(np.float64)
    else:
        raise DataError("An estimate needs the policy's actions or its probabilities.")
    alpha = (1.0 - level) / 2.0
    w, r = chances / log.propensities, log.rewards
    cut = np.minimum(w, clip)
    largest = math.inf if log.constant_propensity is None else 1.0 / log.constant_propensity
    found: dict[str, Estimate] = {}

    if actions is not None:
        found["replay"] = _replay(log, actions, alpha)

    zero, one = np.zeros(n), np.ones(n)
    low = _lower_bound(_bets(zero, zero, zero, r, w, cut, largest), alpha)
    high = 1.0 - _lower_bound(_bets(one, one, one, 1.0 - r, w, cut, largest), alpha)
    clipped = "" if math.isinf(clip) else f"; value biased downwards by clipping weights at {clip:g}"
    found["ips"] = _summary(cut * r, low, high, alpha, f"betting{clipped}")
    found["snips"] = _snips(cut, r, low, high, _baseline_bounds(r, w, largest, alpha), alpha, clipped)

    if q_hat is not None:
        q_hat = _checked_model(q_hat, log)
        known = ~np.isnan(q_hat[:, 0])
        q_hat = np.where(known[:, None], q_hat, 0.0)
        q = q_hat[events, log.actions]
        if probabilities is not None:
            d = np.einsum("ij,ij->i", probabilities, q_hat)
        else:
            assert actions is not None
            d = q_hat[events, actions]
        found["dm"] = _direct(d[known], alpha)
        low = _lower_bound(_bets(d, q, q_hat.max(axis=1), r, w, cut, largest), alpha)
        mirrored = _bets(1.0 - d, 1.0 - q, 1.0 - q_hat.min(axis=1), 1.0 - r, w, cut, largest)
        high = 1.0 - _lower_bound(mirrored, alpha)
        clipped = "" if math.isinf(clip) else f"; value biased by the model's error where weights exceed {clip:g}"
        found["dr"] = _summary(d + cut * (r - q), low, high, alpha, f"betting{clipped}")
    return found


# -- the estimates -------------------------------------------------------------------------------------------


def _summary(terms: Array, low: float, high: float, alpha: float, method: str) -> Estimate:
    """The mean of ``terms``, a betting interval (widened to hold the mean if it does not), and the normal one."""
    n = len(terms)
    value = float(terms.mean())
    half = _z(alpha) * float(terms.std(ddof=1)) / math.sqrt(n) if n > 1 else 1.0
    return Estimate(
        value,
        min(low, _inside(value)),
        max(high, _inside(value)),
        _inside(value - half),
        _inside(value + half),
        n,
        method,
    )


def _replay(log: LoggedData, actions: NDArray[np.int64], alpha: float) -> Estimate:
    """The matched events' mean reward. A match says nothing of the reward if every item had the same chance."""
    matched = log.rewards[actions == log.actions]
    method = "betting" if log.is_uniform else "betting; biased, because the logging policy was not uniform"
    if not len(matched):
        return Estimate(None, 0.0, 1.0, None, None, 0, f"{method}; the policy never chose what the log shows")
    low, high = _bounded_mean(matched, alpha)
    return _summary(matched, low, high, alpha, method)


def _direct(d: Array, alpha: float) -> Estimate:
    """The mean prediction. Its interval is about the contexts drawn; a wrong model is not in it."""
    method = "betting; the model's error is not covered"
    if not len(d):
        return Estimate(None, 0.0, 1.0, None, None, 0, f"{method}; too few events for a model")
    low, high = _bounded_mean(d, alpha)
    return _summary(d, low, high, alpha, method)


def _snips(
    w: Array, r: Array, low: float, high: float, bounds: tuple[float, float] | None, alpha: float, clipped: str
) -> Estimate:
    """The weighted mean. Its betting interval is one for V itself, which holds whatever estimate stands in it.

    Where the largest weight is known it is made of bets on c + w (r - c) for baselines c, which profit from the known
    mean of the weights as SNIPS does; otherwise it is the interval of IPS. The normal interval is the delta method's.
    """
    n, total = len(w), float(w.sum())
    low, high = bounds or (low, high)
    if total == 0.0:
        return Estimate(None, low, high, None, None, n, "betting; every weight is zero")
    value = float((w * r).sum() / total)
    half = _z(alpha) * math.sqrt(float((w * w * (r - value) ** 2).sum())) / total
    ends = _inside(value - half), _inside(value + half)
    return Estimate(value, min(low, value), max(high, value), *ends, n, f"betting; value biased by O(1/n){clipped}")


def _z(alpha: float) -> float:
    return float(-ndtri(alpha))


def _inside(value: float) -> float:
    return min(1.0, max(0.0, value))


# -- the intervals -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Bet:
    """Terms Z_t >= worst_t with conditional mean v_t; ``worst`` is known before the log's action is.

    Bets above ``limit`` are cut to it: where the terms' least value is the same in every round, a larger bet would
    sit out every round.
    """

    terms: Array
    worst: Array | float
    limit: float = math.inf


def _bets(d: Array, q: Array, q_max: Array, r: Array, w: Array, cut: Array, largest: float) -> list[_Bet]:
    """Bets on the doubly-robust terms d + w (r - q); with q = 0 they are those of IPS.

    Adding q_max (w - 1), whose mean is 0, leaves nothing that could be negative but d - q_max, however large w is
    (cutting w only lowers the term, so the bound stays one). If w has a largest value, the terms as they are have
    a least one too.
    """
    bets = [_Bet(d - q_max + cut * (r - q + q_max), d - q_max)]
    if largest < math.inf and q_max.any():
        bets.append(_Bet(d + w * (r - q), d - largest * q_max, 1.0 / largest))
    return bets


def _baseline_bounds(r: Array, w: Array, largest: float, alpha: float) -> tuple[float, float] | None:
    """Bounds from bets on c + w (r - c), c = 0, 1/4, ..., 1, the doubly-robust terms of constant models."""
    if largest == math.inf:
        return None
    ends = []
    for reward in (r, 1.0 - r):
        bets = [_Bet(c + w * (reward - c), c * (1.0 - largest), 1.0 / (c * largest)) for c in (0.25, 0.5, 0.75, 1.0)]
        ends.append(_lower_bound([_Bet(w * reward, 0.0), *bets], alpha))
    return ends[0], 1.0 - ends[1]


def _bounded_mean(values: Array, alpha: float) -> tuple[float, float]:
    """Bounds for the mean of values in [0, 1]."""
    return _lower_bound([_Bet(values, 0.0)], alpha), 1.0 - _lower_bound([_Bet(1.0 - values, 0.0)], alpha)


def _lower_bound(bets: Sequence[_Bet], alpha: float) -> float:
    """The smallest mean in [0, 1] that the mixture of bets does not reject; see the module's head."""
    n = len(bets[0].terms)
    wanted = math.sqrt(2.0 * math.log(1.0 / alpha) / n) * _BETS
    kappa = np.array([np.minimum(wanted, bet.limit) for bet in bets])
    gains = np.empty(kappa.shape)
    for i, bet in enumerate(bets):
        for j, k in enumerate(kappa[i]):
            factor = np.where(1.0 + k * bet.worst >= 0.0, k * bet.terms, 0.0)
            with np.errstate(divide="ignore"):  # a factor of 0 is a lost bet, -inf
                gains[i, j] = np.log1p(np.maximum(factor, -1.0)).sum()
    threshold = math.log(gains.size / alpha)

    def excess(mean: float) -> float:
        return float(np.logaddexp.reduce((gains - n * np.log1p(kappa * mean)).ravel())) - threshold

    if excess(0.0) <= 0.0:
        return 0.0
    if excess(1.0) >= 0.0:
        return 1.0
    return float(brentq(excess, 0.0, 1.0, xtol=1e-9))


# -- the reward model ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def reward_model(log: LoggedData) -> Array:
    """Predicted rewards of every item in every event, ``(n, N)``, each made from earlier events only.

    A logistic regression where rewards are 0 and 1, else a ridge regression cut to [0, 1], on the context, the item's
    vector, which item it is, and the products of the leading principal components of both. It is fitted on the first
    1/16, 1/8, 1/4 and 1/2 of the log, each fit for the events up to the next. Cross-fitting over folds would use
    every event twice, but it would let later rewards into the terms of an agent that has learned from earlier ones,
    and the doubly-robust interval would no longer be proven. Rows before the first fit are NaN.

    The result is kept per log and read-only, so that many agents share one fit.
    """
    n = len(log)
    q_hat = np.full((n, log.num_items), np.nan)
    start = max(_FEWEST_EVENTS, n // _FIRST_FIT)
    with threadpool_limits(1):  # the number of threads would show in the last bits
        while start < n:
            end = min(2 * start, n)
            q_hat[start:end] = _predictions(log, start, end)
            start = end
    q_hat.setflags(write=False)
    return q_hat


def _predictions(log: LoggedData, start: int, end: int) -> Array:
    """Rewards of all items in the events from ``start`` to ``end``, learned from those before ``start``."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression, Ridge

    x, rewards, shown = log.contexts[:start], log.rewards[:start], log.actions[:start]
    binary = bool(np.isin(rewards, (0.0, 1.0)).all())
    if binary and min(rewards.sum(), start - rewards.sum()) < _FEWEST_OF_A_KIND:
        return np.full((end - start, log.num_items), (rewards.sum() + 0.5) / (start + 1.0))
    identity = np.eye(log.num_items)
    y = identity if np.array_equal(log.pool, identity) else np.hstack([log.pool, identity])
    context_parts = PCA(min(_INTERACTIONS, *x.shape), svd_solver="full").fit(x)
    y_low = PCA(min(_INTERACTIONS, *log.pool.shape), svd_solver="full").fit_transform(log.pool)
    x_low = context_parts.transform(x)
    products = (x_low[:, :, None] * y_low[shown][:, None, :]).reshape(start, -1)
    model = LogisticRegression(max_iter=300) if binary else Ridge(alpha=1.0)
    model.fit(np.hstack([x, y[shown], products]), rewards)

    weights, bias = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
    of_x, of_y, of_products = np.split(weights, np.cumsum([x.shape[1], y.shape[1]]))
    later = log.contexts[start:end]
    bilinear = context_parts.transform(later) @ of_products.reshape(x_low.shape[1], -1) @ y_low.T
    scores = bias + (later @ of_x)[:, None] + (y @ of_y)[None, :] + bilinear
    return np.asarray(expit(scores) if binary else np.clip(scores, 0.0, 1.0))


# -- checks --------------------------------------------------------------------------------------------------


def _checked_actions(actions: Any, log: LoggedData) -> NDArray[np.int64]:
    array = np.asarray(actions)
    if array.shape != (len(log),) or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"actions must be {len(log)} integers, one for each event, not {array.dtype} of shape {array.shape}."
        )
    if array.min() < 0 or array.max() >= log.num_items:
        row = int(((array < 0) | (array >= log.num_items)).argmax())
        raise DataError(f"actions must be from 0 to {log.num_items - 1}; event {row} has {array[row]}.")
    return array.astype(np.int64)


def _checked_probabilities(probabilities: Any, log: LoggedData) -> Array:
    array = _checked_matrix("probabilities", probabilities, log)
    bad = ~((array >= 0.0).all(axis=1) & (np.abs(array.sum(axis=1) - 1.0) < 1e-6))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"probabilities must be at least 0 and sum to 1 in each row; row {row} sums to {array[row].sum():.6g} "
            f"and its least is {array[row].min():.6g}."
        )
    return array


def _checked_model(q_hat: Any, log: LoggedData) -> Array:
    array = _checked_matrix("q_hat", q_hat, log)
    missing = np.isnan(array)
    bad = (missing.any(axis=1) & ~missing.all(axis=1)) | (array < 0.0).any(axis=1) | (array > 1.0).any(axis=1)
    if bad.any():
        raise DataError(f"q_hat must be in [0, 1], or a row all NaN; row {int(bad.argmax())} is not.")
    return array


def _checked_matrix(name: str, values: Any, log: LoggedData) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(log), log.num_items):
        raise DataError(f"{name} must have shape ({len(log)}, {log.num_items}), not {array.shape}.")
    return array
