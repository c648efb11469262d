"""Attention heads whose W_Q, W_K and features are learned by gradient, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.linear import Array, take_array

_BETA_1, _BETA_2 = 0.9, 0.99
# Rounds after which Adam's step has halved.
_HALF = 4000.0
# Predictions are taken as at least this far from 0 and 1 when errors are weighed by the reward's variance.
_MARGIN = 0.02


class LearnedHeads:
    """M attention heads on top of the Bayesian one's query q_0, vectorised over M.

    ::

        h = tanh(W_1 [x, e, 1])            hidden features of query and user, (H,)
        f = h * (W_2 e)                    the user's factor gates them
        q = gamma q_0 + W_Q [h, f, 1]      (d,), then q / |q|
        k = W_K y                          the content's key
        s = q · k,  r = a sigmoid(c_0 + c_1 s) with a, c_1 > 0: a monotone link from attention to reward

    and trained by Adam on the negative quasi-binomial log-likelihood, whose weights 1 / (r (1 - r)) are those of a
    reward in [0, 1]. Each head has its own start and its own draws from memory (bootstrapped heads, Osband et al.
    2016), so that they disagree where little is known.

    Args:
        query_dim: Length of x, q.
        content_dim: Length of y, d.
        rank: Length of e, r.
        hidden: Length of h, H.
        heads: M.
        rng: For the start.
    """

    def __init__(
        self, query_dim: int, content_dim: int, rank: int, hidden: int, heads: int, rng: np.random.Generator
    ):
        d, H = content_dim, hidden
        self.count, self.hidden = heads, hidden
        self.shapes = {
            "W_1": (query_dim + rank + 1, H),
            "W_2": (rank, H),
            "W_Q": (2 * H + 1, d),
            "W_K": (d, d),
            "gamma": (1, 1),
            "link": (3, 1),
        }
        size = sum(rows * columns for rows, columns in self.shapes.values())
        self._flat: Array = np.zeros((heads, size))
        self._gradient: Array = np.zeros((heads, size))
        self._moments: Array = np.zeros((2, heads, size))
        self._decays: Array = np.zeros((heads, size))
        self.steps = 0
        self.scale = 1.0
        self.p = self._views(self._flat)
        self._g = self._views(self._gradient)
        W_1, W_2, W_Q = self.p["W_1"], self.p["W_2"], self.p["W_Q"]
        W_1[:, :query_dim] = 2.0 / query_dim**0.5 * rng.standard_normal((heads, query_dim, H))
        W_1[:, -1] = rng.standard_normal((heads, H))
        W_2[:] = rank**-0.5 * rng.standard_normal(W_2.shape)
        W_Q[:, :-1] = 0.1 / H**0.5 * rng.standard_normal((heads, 2 * H, d))
        self.p["W_K"][:] = np.eye(d)
        self.p["gamma"][:] = 1.0
        self.p["link"][:, :, 0] = [-2.0, np.log(4.0), np.log(1.2)]
        decays = self._views(self._decays)
        decays["W_1"][:, :-1] = decays["W_2"][:] = decays["W_Q"][:, :-1] = 1.0
        self._read_link()

    def _views(self, flat: Array) -> dict[str, Array]:
        views, start = {}, 0
        for name, (rows, columns) in self.shapes.items():
            end = start + rows * columns
            views[name] = flat[:, start:end].reshape(self.count, rows, columns)
            start = end
        return views

    def _forward(self, x: Array, e: Array, q_0: Array) -> tuple[Array, ...]:
        """[x, e, 1], W_2 e, [h, f, 1], q and |q|, each ``(M, B, ...)``; x, e, q_0 are ``(M or 1, B, ...)``."""
        p, H = self.p, self.hidden
        a, b = x.shape[-1], e.shape[-1]
        xe1 = np.empty((*x.shape[:2], a + b + 1))
        xe1[..., :a], xe1[..., a : a + b], xe1[..., -1] = x, e, 1.0
        hf1 = np.empty((self.count, x.shape[1], 2 * H + 1))
        h = np.tanh(xe1 @ p["W_1"], out=hf1[..., :H])
        gates = e @ p["W_2"]
        np.multiply(h, gates, out=hf1[..., H:-1])
        hf1[..., -1] = 1.0
        q = hf1 @ p["W_Q"]
        q += p["gamma"] * q_0
        return xe1, gates, hf1, q, np.sqrt(np.vecdot(q, q))[..., None] + 1e-12

    def queries(self, x: Array, e: Array, q_0: Array) -> Array:
        """The heads' queries where contents live, W_Kᵀ q / |q|, so that s = query · y; ``(M, d)``."""
        *_, q, length = self._forward(x[None, None], e[None, None], (q_0 * self.scale)[None, None])
        return np.asarray(((q / length) @ self.p["W_K"])[:, 0])

    def _read_link(self) -> None:
        c_0, c_1, a = self.p["link"].swapaxes(0, 1)
        self._intercept, self._slope, self._top = c_0, np.exp(c_1), np.exp(a)

    def link(self, s: Array) -> Array:
        """Expected rewards of attention scores, ``(M, N)`` both."""
        return np.asarray(self._top / (1.0 + np.exp(-self._intercept - self._slope * s)))

    def slope(self, s: Array) -> Array:
        """The link's derivative, ``(M, N)``."""
        r = self.link(s)
        return np.asarray(self._slope * r * (1.0 - r / self._top))

    def gradient(self, x: Array, e: Array, q_0: Array, y: Array, r: Array) -> dict[str, Array]:
        """The gradient of each head's mean loss, -r ln r̂ - (1 - r) ln(1 - r̂), on its own batch.

        Args:
            x: Queries, ``(M, B, q)``.
            e: User factors, ``(M, B, r)``.
            q_0: The Bayesian head's queries, ``(M, B, d)``.
            y: Contents, ``(M, B, d)``.
            r: Rewards, ``(M, B)``.

        Returns:
            By parameter, ``(M, ...)``; overwritten by the next call.
        """
        p, g, H = self.p, self._g, self.hidden
        q_0 = q_0 * self.scale
        xe1, gates, hf1, q, length = self._forward(x, e, q_0)
        q /= length
        d_q = k = y @ p["W_K"].swapaxes(1, 2)
        s = np.vecdot(q, k)
        sigmoid = 1.0 / (1.0 + np.exp(-self._intercept - self._slope * s))
        mean = self._top * sigmoid
        kept = np.clip(mean, _MARGIN, 1.0 - _MARGIN)
        d_mean = (mean - r) / (kept * (1.0 - kept) * x.shape[1])
        d_logit = d_mean * mean * (1.0 - sigmoid)
        g["link"][:, 0, 0] = d_logit.sum(axis=1)
        g["link"][:, 1, 0] = np.vecdot(d_logit, s) * self._slope[:, 0]
        g["link"][:, 2, 0] = np.vecdot(d_mean, mean)
        d_s = (d_logit * self._slope)[..., None]
        g["W_K"][:] = (q * d_s).swapaxes(1, 2) @ y
        d_q *= d_s
        d_q -= q * np.vecdot(d_q, q)[..., None]
        d_q /= length
        g["gamma"][:, 0, 0] = np.vecdot(q_0, d_q).sum(axis=1)
        g["W_Q"][:] = hf1.swapaxes(1, 2) @ d_q
        d_hf1 = d_q @ p["W_Q"].swapaxes(1, 2)
        h, d_h, d_f = hf1[..., :H], d_hf1[..., :H], d_hf1[..., H:-1]
        g["W_2"][:] = e.swapaxes(1, 2) @ (d_f * h)
        d_h += d_f * gates
        d_h *= 1.0 - h * h
        g["W_1"][:] = xe1.swapaxes(1, 2) @ d_h
        return g

    def train(self, batch: tuple[Array, ...], learning_rate: float, weight_decay: float, rounds: int) -> None:
        """One step of Adam (Kingma and Ba 2015) with decoupled weight decay.

        Args:
            batch: x, e, q_0, y and r of `gradient`.
            learning_rate: At the start; it falls as 1 / (1 + rounds / 4000).
            weight_decay: Share of the weights lost per unit of learning rate.
            rounds: Rounds seen so far.
        """
        self.gradient(*batch)
        self.steps += 1
        rate = learning_rate / (1.0 + rounds / _HALF)
        m, v = self._moments
        g = self._gradient
        m += (1.0 - _BETA_1) * (g - m)
        v += (1.0 - _BETA_2) * (g * g - v)
        step = rate * (1.0 - _BETA_2**self.steps) ** 0.5 / (1.0 - _BETA_1**self.steps)
        if weight_decay:
            self._flat -= (rate * weight_decay) * (self._decays * self._flat)
        self._flat -= step * m / (np.sqrt(v) + 1e-8)
        self._read_link()

    def state(self) -> dict[str, NDArray[Any]]:
        """Weights and Adam's moments as arrays."""
        return {
            "weights": self._flat.copy(),
            "moments": self._moments.copy(),
            "scale": np.array(self.scale),
            "steps": np.array(self.steps, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for arrays of another task or configuration."""
        weights = take_array(state, "weights", self._flat.shape)
        moments = take_array(state, "moments", self._moments.shape)
        self.scale = float(take_array(state, "scale", ()))
        self.steps = int(take_array(state, "steps", (), np.int64))
        self._flat[:], self._moments[:] = weights, moments
        self._read_link()
