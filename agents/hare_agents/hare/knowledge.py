"""The knowledge pool: items that come and go, their clusters, the clusters' uncertainty, and the search in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from hare_agents.linear import Array, take_array, with_one
from hare_gym.errors import ActionError, DataError

Indices = NDArray[np.intp]

# Items that k-means is fitted to, per cluster, and at least.
_PER_CLUSTER, _AT_LEAST = 32, 4096
_ITERATIONS = 10
_CHUNK = 65_536
# Cells of the search, in units of √N.
_CELLS = 2.0
# Of a cluster's value: what stays of a showing at the next, and the showings of value zero that it starts with.
_KEPT, _NOTHING = 0.995, 20.0
_GAIN_RATE = 0.005
# The cells are made anew when new items are more than this share of the pool, or less than that share is left.
_NEW, _LEFT = 0.02, 0.5


class Clusters:
    """K clusters of the pool, and how well each has been explored.

    Sigma_j = I + sum of q qᵀ over the rounds in which an item of cluster j was shown to the query q (a vector of
    length one where contents live); U_j = √(qᵀ Sigma_j⁻¹ q), which is 1 before anything was shown.

    What no feature of an item tells but its cluster shares is its value: the mean of what its items earned above
    expectation, over the latest showings (each counts 0.5% less than the next), shrunk as if by 20 more of zero.

    Attributes:
        centres: ``(K, d)``, k-means' (Lloyd 1982; scikit-learn's).
        Sigma_inv: ``(K, d, d)``.
        sums: What a cluster's items earned above expectation, and how often they were shown, ``(2, K)``.
        values: ``(K,)``.
        gain: By how much the values made the squared errors of late smaller, before their rewards were learned; they
            are worth using while it is above zero.
    """

    def __init__(self, centres: Array) -> None:
        self.centres = centres
        K, d = centres.shape
        self.Sigma_inv: Array = np.tile(np.eye(d), (K, 1, 1))
        self.sums: Array = np.zeros((2, K))
        self.values: Array = np.zeros(K)
        self.gain = 0.0
        self._half_length2 = 0.5 * np.vecdot(centres, centres)

    @classmethod
    def of(cls, items: Array, count: int, rng: np.random.Generator) -> Clusters:
        """Fits ``count`` clusters (fewer where there are fewer distinct items) to (a sample of) the items."""
        most = max(_AT_LEAST, _PER_CLUSTER * count)
        sample = items if len(items) <= most else items[rng.choice(len(items), most, replace=False)]
        count = min(count, len(np.unique(sample, axis=0)))
        seed = int(rng.integers(2**31))
        fitted = KMeans(count, n_init=1, max_iter=_ITERATIONS, random_state=seed).fit(sample)
        return cls(np.asarray(fitted.cluster_centers_, dtype=np.float64))

    def assign(self, items: Array) -> Indices:
        """The nearest centre of each item, ``(n,)``."""
        parts = [
            (items[start : start + _CHUNK] @ self.centres.T - self._half_length2).argmax(axis=1)
            for start in range(0, len(items), _CHUNK)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.intp)

    def uncertainty(self, q: Array) -> Array:
        """U_j of every cluster, ``(K,)``."""
        return np.asarray(np.sqrt(np.maximum((self.Sigma_inv @ q) @ q, 0.0)))

    def earned(self, cluster: int, surprise: float) -> None:
        """Learns what an item of a cluster earned above expectation."""
        sums, value = self.sums, self.values.item(cluster)
        self.gain += _GAIN_RATE * (value * (2.0 * surprise - value) - self.gain)
        total = sums.item(0, cluster) * _KEPT + surprise
        count = sums.item(1, cluster) * _KEPT + 1.0
        sums[0, cluster], sums[1, cluster] = total, count
        self.values[cluster] = total / (count + _NOTHING)

    def shown(self, cluster: int, q: Array) -> None:
        """Adds q qᵀ to Sigma_j (by Sherman and Morrison's formula, to its inverse)."""
        S = self.Sigma_inv[cluster]
        Sq = S @ q
        S -= Sq[:, None] * (Sq / (1.0 + float(q @ Sq)))


class KnowledgePool:
    """The items' vectors by id, with the K-cluster index that finds candidates among many.

    An id is the item's row; it is never given again after the item has left, so a row of a departed item stays empty.

    Args:
        items: ``(N, d)``; ids 0 to N − 1.
        clusters: Knowledge clusters, K.
        candidates: Items that a search returns at most, M; up to so many, all are returned.
        rng: For k-means.
    """

    def __init__(self, items: Array, clusters: int, candidates: int, rng: np.random.Generator) -> None:
        items = _checked_items(items)
        self.size, self.dim, self._most = len(items), items.shape[1], candidates
        self._rows = with_one(items)
        self.alive = np.ones(self.size, dtype=np.bool_)
        self.clusters = Clusters.of(items, clusters, rng)
        self.cluster: Indices = self.clusters.assign(items)
        self._rng = rng
        self._index()

    @property
    def items(self) -> Array:
        """The vectors by id, ``(capacity, d)``; rows from `size` on are room for new items."""
        return self._rows[:, 1:]

    def _note_departed(self) -> None:
        present = self.alive[: self.size]
        self._usable = None if present.all() else present.copy()

    @property
    def ids(self) -> Indices:
        """The ids of the items that are in the pool."""
        return np.flatnonzero(self.alive[: self.size])

    @property
    def searched(self) -> bool:
        """Whether the pool is so large that `candidates` searches it."""
        return self._cells is not None

    def _index(self) -> None:
        """Sorts the items by cells (k-means, 2√N of them), so that a cell is one slice of memory."""
        self._cells: Clusters | None = None
        self._sorted_ids: Indices = np.empty(0, dtype=np.intp)
        self._starts: Indices = np.zeros(1, dtype=np.intp)
        self._indexed = self.size
        ids = self.ids
        if len(ids) > self._most:
            self._cells = Clusters.of(self.items[ids], int(_CELLS * len(ids) ** 0.5), self._rng)
            cell = self._cells.assign(self.items[ids])
            order = np.argsort(cell, kind="stable")
            self._sorted_ids = ids[order]
            self._starts = np.searchsorted(cell[order], np.arange(len(self._cells.centres) + 1))
        self._read_index()

    def _read_index(self) -> None:
        self._sorted_rows: Array = self._rows[self._sorted_ids]
        centres = np.empty((0, self.dim)) if self._cells is None else self._cells.centres
        self.cells = with_one(centres)
        self.cell_clusters = self.clusters.assign(centres)
        self._note_departed()

    def all_items(self) -> tuple[Array, NDArray[np.bool_] | None]:
        """Every item as [1; y], ``(N, 1 + d)``, and which still are in the pool (None for all of them)."""
        return self._rows[: self.size], self._usable

    def candidates(self, scores: Array) -> tuple[Indices, Array]:
        """About M items for exact attention: those of the best cells.

        An inverted file (Jégou, Douze and Schmid 2011) without the quantiser: the cells whose centres score best are
        read whole until they hold M items; items that came since the last sorting are among them. With C cells it
        costs O((C + M) d) instead of O(N d).

        Args:
            scores: Of the cells' centres `cells`, as if they were items, ``(C,)``.

        Returns:
            The items' ids, ``(m,)``, without repetition, and the items as [1; y], ``(m, 1 + d)``.
        """
        count, total = len(scores), max(len(self._sorted_ids), 1)
        wanted = min(count, 2 * self._most * count // total + 2)
        while True:
            top = np.argpartition(scores, count - wanted)[count - wanted :]
            top = top[np.argsort(-scores[top])]
            starts, ends = self._starts[top], self._starts[top + 1]
            enough = int(np.searchsorted(np.cumsum(ends - starts), self._most)) + 1
            if enough <= wanted or wanted == count:
                break
            wanted = count
        chosen = [slice(*ends) for ends in zip(starts[:enough].tolist(), ends[:enough].tolist(), strict=True)]
        ids = np.concatenate([self._sorted_ids[part] for part in chosen])
        rows = np.concatenate([self._sorted_rows[part] for part in chosen])
        if self._indexed < self.size:
            tail = np.arange(self._indexed, self.size)
            ids = np.concatenate([ids, tail])
            rows = np.concatenate([rows, self._rows[self._indexed : self.size]])
        if self._usable is not None:
            kept = self.alive[ids]
            ids, rows = ids[kept], rows[kept]
        return ids, rows

    def __getitem__(self, id: int) -> Array:
        """An item's vector, also of one that has left (a reward may come late).

        Raises:
            ActionError: There never was such an item.
        """
        if not 0 <= id < self.size:
            raise ActionError(f"Item {id} is not in the pool: its ids go from 0 to {self.size - 1}.")
        row: Array = self.items[id]
        return row

    def add(self, items: Array) -> Indices:
        """Takes in new items, ``(n, d)``; returns their ids, ``(n,)``."""
        items = _checked_items(items, self.dim)
        ids = np.arange(self.size, self.size + len(items))
        if ids[-1] >= len(self._rows):
            room = np.ones((max(2 * len(self._rows), int(ids[-1]) + 1), 1 + self.dim))
            room[: self.size] = self._rows[: self.size]
            alive = np.zeros(len(room), dtype=np.bool_)
            alive[: self.size] = self.alive[: self.size]
            self._rows, self.alive = room, alive
        self.items[ids], self.alive[ids] = items, True
        self.size += len(items)
        self.cluster = np.concatenate([self.cluster, self.clusters.assign(items)])
        self._after_change()
        return ids

    def remove(self, ids: Indices) -> None:
        """Lets items leave.

        Raises:
            ActionError: One of them is not in the pool, or nothing would be left.
        """
        ids = np.atleast_1d(np.asarray(ids, dtype=np.intp))
        for id in ids.tolist():
            if not (0 <= id < self.size and self.alive[id]):
                raise ActionError(f"Item {id} cannot leave: it is not in the pool.")
        if self.alive.sum() == len(np.unique(ids)):
            raise ActionError("The last items cannot leave: add others first.")
        self.alive[ids] = False
        self._after_change()

    def _after_change(self) -> None:
        """Sorts anew when the pool has outgrown (or no longer needs) its cells, or a part of it is not in them."""
        self._note_departed()
        present = int(self.alive[: self.size].sum())
        came = self.size - self._indexed
        if self._cells is None:
            if present > self._most:
                self._index()
            else:
                self._indexed = self.size
        elif present <= self._most or came > _NEW * present or present < _LEFT * len(self._sorted_ids):
            self._index()

    def state(self) -> dict[str, NDArray[Any]]:
        """The items, who is there, and what the clusters know."""
        return {
            "items": self.items[: self.size].copy(),
            "alive": self.alive[: self.size].copy(),
            "centres": self.clusters.centres.copy(),
            "Sigma_inv": self.clusters.Sigma_inv.copy(),
            "sums": self.clusters.sums.copy(),
            "gain": np.array(self.clusters.gain),
            "cells": np.empty((0, self.dim)) if self._cells is None else self._cells.centres.copy(),
            "starts": self._starts.astype(np.int64),
            "sorted_ids": self._sorted_ids.astype(np.int64),
            "indexed": np.array(self._indexed, dtype=np.int64),
        }

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave; raises DataError for items of another length."""
        items = _checked_items(state["items"], self.dim)
        K = len(state["centres"])
        centres = take_array(state, "centres", (K, self.dim))
        Sigma_inv = take_array(state, "Sigma_inv", (K, self.dim, self.dim))
        self.size, self._rows, self.alive = len(items), with_one(items), np.array(state["alive"], dtype=np.bool_)
        self.clusters = Clusters(centres)
        self.clusters.Sigma_inv = Sigma_inv
        self.clusters.sums = take_array(state, "sums", (2, K))
        self.clusters.gain = float(take_array(state, "gain", ()))
        self.clusters.values = self.clusters.sums[0] / (self.clusters.sums[1] + _NOTHING)
        self.cluster = self.clusters.assign(items)
        cells = state["cells"]
        self._cells = Clusters(take_array(state, "cells", (len(cells), self.dim))) if len(cells) else None
        self._starts = take_array(state, "starts", None, np.int64)
        self._sorted_ids = take_array(state, "sorted_ids", None, np.int64)
        self._indexed = int(take_array(state, "indexed", (), np.int64))
        self._read_index()


def _checked_items(items: Array, dim: int | None = None) -> Array:
    items = np.asarray(items, dtype=np.float64)
    if items.ndim != 2 or not len(items) or (dim is not None and items.shape[1] != dim):
        wanted = "(N, d)" if dim is None else f"(n, {dim})"
        raise DataError(f"Items must be an array of shape {wanted} with at least one row, not {items.shape}.")
    if not np.isfinite(items).all():
        bad = int(np.flatnonzero(~np.isfinite(items).all(axis=1))[0])
        raise DataError(f"Item {bad} holds NaN or infinity.")
    return items
