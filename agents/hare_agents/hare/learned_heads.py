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
        self._change: Array = np.empty((heads, size))
        self._serving: tuple[Array, Array] | None = None
        self._work: tuple[Array, ...] = (np.empty((heads, 0, H)),) * 5
        self._xe1: Array = np.ones(query_dim + rank + 1)
        self._features: Array = np.ones((heads, 2 * H + 1 + d))
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

    def _room(self, size: int) -> tuple[Array, ...]:
        """Five arrays ``(M, size, H)`` to work in: fresh memory would cost as much as the arithmetic."""
        if self._work[0].shape[1] != size:
            self._work = tuple(np.empty((self.count, size, self.hidden)) for _ in range(5))
        return self._work

    def _forward(self, x: Array, e: Array, q_0: Array) -> tuple[Array, ...]:
        """[x, e, 1], h, W_2 e, f, q and |q|, each ``(M, B, ...)``; x, e, q_0 are ``(M or 1, B, ...)``.

        h, W_2 e and f are overwritten by the next call.
        """
        p, H = self.p, self.hidden
        a, b = x.shape[-1], e.shape[-1]
        xe1 = np.empty((*x.shape[:2], a + b + 1))
        xe1[..., :a], xe1[..., a : a + b], xe1[..., -1] = x, e, 1.0
        h, gates, f, *_ = self._room(x.shape[1])
        np.tanh(np.matmul(xe1, p["W_1"], out=h), out=h)
        np.matmul(e, p["W_2"], out=gates)
        np.multiply(h, gates, out=f)
        q = h @ p["W_Q"][:, :H]
        q += f @ p["W_Q"][:, H:-1]
        q += p["W_Q"][:, -1:]
        q += p["gamma"] * q_0
        return xe1, h, gates, f, q, np.sqrt(np.vecdot(q, q))[..., None] + 1e-12

    def exponents(self, x: Array, e: Array, q_0: Array, out: Array) -> None:
        """The exponents of the heads' links, -c_0 - c_1 s, as functions of content: rows to be multiplied by [1; y].

        As `_forward`, for one round, with all heads' matrices side by side: few products of fair size.

        Args:
            x: The query, ``(q,)``.
            e: The user's factor, ``(r,)``.
            q_0: The Bayesian head's query, ``(d,)``.
            out: Where they go, ``(M, 1 + d)``.
        """
        if self._serving is None:
            self._serving = self._fuse()
        into_hidden, into_queries = self._serving
        xe1, F, H, n, d = self._xe1, self._features, self.hidden, len(x), len(q_0)
        xe1[:n], xe1[n:-1] = x, e
        hidden = (xe1 @ into_hidden).reshape(2, self.count, H)
        h = np.tanh(hidden[0], out=F[:, :H])
        np.multiply(h, hidden[1], out=F[:, H : 2 * H])
        np.multiply(q_0, self.scale, out=F[:, -d:])
        q = np.vecmat(F, into_queries)
        length = np.vecdot(q[:, :d], q[:, :d])
        np.sqrt(length, out=length)
        length += 1e-12
        out[:, :1] = self._falling[0]
        np.multiply(q[:, d:], self._falling[1] / length[:, None], out=out[:, 1:])

    def exponents_of(self, X: Array, E: Array, Q_0: Array) -> Array:
        """`exponents` of B rounds at once: ``(B, q)``, ``(B, r)`` and ``(B, d)`` to ``(B, M, 1 + d)``."""
        *_, q, length = self._forward(X[None], E[None], (Q_0 * self.scale)[None])
        rows = np.empty((len(X), self.count, 1 + q.shape[-1]))
        rows[..., :1] = self._falling[0]
        rows[..., 1:] = ((q * (self._falling[1][:, None] / length)) @ self.p["W_K"]).swapaxes(0, 1)
        return rows

    def queries(self, exponents: Array) -> Array:
        """The queries behind `exponents`, W_Kᵀ q / |q|, so that s = query · y; ``(..., M, d)``."""
        return np.asarray(exponents[..., 1:] / self._falling[1])

    def _fuse(self) -> tuple[Array, Array]:
        """[x, e, 1] to both hidden layers of all heads, and [h, f, 1, q_0] to q and W_Kᵀ q, as one matrix each."""
        p, M, H = self.p, self.count, self.hidden
        d, rows = p["W_K"].shape[-1], self.shapes["W_1"][0]
        r = self.shapes["W_2"][0]
        into_hidden = np.zeros((rows, 2, M, H))
        into_hidden[:, 0] = p["W_1"].swapaxes(0, 1)
        into_hidden[-1 - r : -1, 1] = p["W_2"].swapaxes(0, 1)
        both = np.concatenate([np.broadcast_to(np.eye(d), (M, d, d)), p["W_K"]], axis=2)
        into_queries = np.concatenate([p["W_Q"] @ both, p["gamma"] * both], axis=1)
        return into_hidden.reshape(rows, -1), into_queries

    def _read_link(self) -> None:
        c_0, c_1, a = self.p["link"].swapaxes(0, 1)
        self._intercept, self._slope, self._top = c_0, np.exp(c_1), np.exp(a)
        self._falling = -self._intercept, -self._slope
        self._serving = None

    def rewards(self, exponents: Array) -> Array:
        """The link of exponents -c_0 - c_1 s, ``(..., M, N)``, in place."""
        np.exp(exponents, out=exponents)
        exponents += 1.0
        return np.asarray(np.divide(self._top, exponents, out=exponents))

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
        xe1, h, gates, f, q, length = self._forward(x, e, q_0)
        *_, d_f, d_h = self._room(x.shape[1])
        q /= length
        d_q = k = y @ p["W_K"].swapaxes(1, 2)
        s = np.vecdot(q, k)
        sigmoid = 1.0 / (1.0 + np.exp(-self._intercept - self._slope * s))
        mean = self._top * sigmoid
        kept = np.minimum(np.maximum(mean, _MARGIN), 1.0 - _MARGIN)
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
        g["W_Q"][:, :H] = h.swapaxes(1, 2) @ d_q
        g["W_Q"][:, H:-1] = f.swapaxes(1, 2) @ d_q
        d_q.sum(axis=1, out=g["W_Q"][:, -1])
        np.matmul(d_q, p["W_Q"][:, H:-1].swapaxes(1, 2), out=d_f)
        g["W_2"][:] = e.swapaxes(1, 2) @ np.multiply(d_f, h, out=f)
        d_f *= gates
        np.matmul(d_q, p["W_Q"][:, :H].swapaxes(1, 2), out=d_h)
        d_h += d_f
        h *= h
        d_h *= np.subtract(1.0, h, out=h)
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
        g, change = self._gradient, self._change
        m *= _BETA_1
        m += np.multiply(g, 1.0 - _BETA_1, out=change)
        g *= g
        g *= 1.0 - _BETA_2
        v *= _BETA_2
        v += g
        step = rate * (1.0 - _BETA_2**self.steps) ** 0.5 / (1.0 - _BETA_1**self.steps)
        if weight_decay:
            np.multiply(self._decays, self._flat, out=change)
            change *= rate * weight_decay
            self._flat -= change
        np.sqrt(v, out=change)
        change += 1e-8
        np.divide(m, change, out=change)
        change *= step
        self._flat -= change
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
