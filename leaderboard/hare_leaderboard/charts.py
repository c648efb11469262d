"""The geometry of the site's drawings: numbers in, coordinates out; the templates make SVG of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_evaluation.statistics import Interval, mean_band

Array = NDArray[np.float64]

POINTS = 60
"""At most so many points of a curve are drawn."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """Cumulative regret of one entry on one environment, as its page draws it."""

    label: str
    seeds: int
    mean: Interval
    line: str
    band: str
    beside: str
    other: str
    x: list[Tick]
    y: list[Tick]
    width: int = 520
    height: int = 270
    left: int = 56
    right: int = 506
    top: int = 14
    bottom: int = 240


@dataclass(frozen=True)
class Scatter:
    """Regret against time."""

    points: list[dict[str, Any]]
    line: str
    names: str
    x: list[Tick]
    y: list[Tick]
    width: int = 760
    height: int = 400
    left: int = 60
    right: int = 730
    top: int = 34
    bottom: int = 350


def duration(micros: float) -> str:
    """Microseconds in the unit that suits them."""
    if math.isnan(micros):
        return "–"
    for limit, unit, size in ((1e3, "µs", 1.0), (1e6, "ms", 1e3), (math.inf, "s", 1e6)):
        if micros < 0.9995 * limit:
            return f"{micros / size:.3g} {unit}"
    raise AssertionError


def thinned(rounds: Sequence[int], most: int = POINTS) -> list[int]:
    """The places of at most ``most`` checkpoints, spread evenly over the session, the last among them."""
    if len(rounds) <= most:
        return list(range(len(rounds)))
    wanted = np.linspace(rounds[0], rounds[-1], most)
    return sorted({int(np.abs(np.asarray(rounds) - t).argmin()) for t in wanted})


def curve(
    label: str,
    rounds: Sequence[int],
    curves: Array,
    mean: Interval,
    beside: tuple[str, Array] | None = None,
) -> Curve:
    """Draws the mean of ``curves``, ``(n, C)``, with its band, and ``beside``, a name and a mean curve, ``(C,)``."""
    frame = Curve(label, len(curves), mean, "", "", "", "", [], [])
    kept = thinned(rounds)
    t = np.array([0, *(rounds[i] for i in kept)], dtype=np.float64)
    centre, low, high = (np.concatenate(([0.0], part[kept])) for part in mean_band(curves))
    low, high = np.where(np.isnan(low), centre, low), np.where(np.isnan(high), centre, high)
    other = None if beside is None else np.concatenate(([0.0], beside[1][kept]))
    top = max(float(high.max()), 0.0 if other is None else float(other.max()), 1e-9)
    x = frame.left + (frame.right - frame.left) * t / t[-1]

    def y(values: Array) -> Array:
        return frame.bottom - (frame.bottom - frame.top) * np.maximum(values, 0.0) / top

    return Curve(
        label,
        len(curves),
        mean,
        _points(x, y(centre)),
        _points(np.concatenate((x, x[::-1])), np.concatenate((y(high), y(low)[::-1]))),
        "" if other is None else _points(x, y(other)),
        "" if beside is None else beside[0],
        [Tick(float(frame.left + (frame.right - frame.left) * p), f"{int(p * t[-1]):,}") for p in (0.0, 0.5, 1.0)],
        [Tick(float(y(np.array(v))), f"{v:,.4g}") for v in _steps(top)],
    )


def scatter(points: Sequence[dict[str, Any]]) -> Scatter | None:
    """Places points with ``regret``, ``micros``, ``front`` and ``title``; ``None`` with fewer than two to place."""
    usable = [point for point in points if point["micros"] > 0 and not math.isnan(point["value"])]
    if len(usable) < 2:
        return None
    frame = Scatter([], "", "", [], [])
    logs = [math.log10(point["micros"]) for point in usable]
    first, last = min(logs) - 0.15, max(logs) + 0.15
    top = max(point["value"] for point in usable) * 1.08 or 1.0

    def x(log: float) -> float:
        return round(frame.left + (frame.right - frame.left) * (log - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(frame.bottom - (frame.bottom - frame.top) * max(value, 0.0) / top, 1)

    placed: list[dict[str, Any]] = []
    for point, log in zip(usable, logs, strict=True):
        at: dict[str, Any] = {"x": x(log), "y": y(point["value"])}
        left_side = at["x"] > 0.75 * frame.right
        at |= {
            "lx": at["x"] - 9 if left_side else at["x"] + 9,
            "ly": at["y"] + 4,
            "side": "end" if left_side else "start",
        }
        placed.append(point | at | {"labelled": False})
    front = sorted((point for point in placed if point["front"]), key=lambda point: float(point["x"]))
    _label(placed, front)
    # the last points are drawn on top
    placed.sort(key=lambda point: bool(point["front"]))
    return Scatter(
        placed,
        " ".join(f"{point['x']},{point['y']}" for point in front),
        ", ".join(point["title"] for point in front),
        [Tick(x(math.log10(m)), duration(m)) for m in _decades(first, last)],
        [Tick(y(v), f"{v:.3g}") for v in _steps(top)],
    )


def _label(placed: list[dict[str, Any]], front: list[dict[str, Any]]) -> None:
    """Labels the front first, then whoever has room left; nobody's label covers another's."""
    taken: list[tuple[float, float, float]] = []
    for point in [*front, *(point for point in placed if not point["front"])]:
        length = 7.0 * min(len(point["title"]), 40)
        start = point["lx"] - length if point["side"] == "end" else point["lx"]
        box = (start, start + length, point["ly"])
        if all(box[1] < a or box[0] > b or abs(box[2] - c) > 13 for a, b, c in taken):
            point["labelled"] = True
            taken.append(box)


def _decades(first: float, last: float) -> list[float]:
    """1, 2 and 5 times powers of ten within 10^first and 10^last; only powers of ten if these are many."""
    marks = [m * 10.0**e for e in range(math.floor(first), math.ceil(last) + 1) for m in (1, 2, 5)]
    inside = [m for m in marks if first <= math.log10(m) <= last]
    return inside if len(inside) <= 8 else [m for m in inside if math.log10(m).is_integer()]


def _steps(top: float) -> list[float]:
    """Three to six round numbers from 0 to ``top``."""
    size = 10.0 ** math.floor(math.log10(top))
    step = next(s * size for s in (0.2, 0.5, 1.0, 2.0) if top / (s * size) <= 6)
    return [round(i * step, 10) for i in range(int(top / step + 1e-9) + 1)]


def _points(x: Array, y: Array) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
