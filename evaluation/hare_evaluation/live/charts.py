"""The four pictures of the page, as SVG: what is drawn is a function of a session's `Explanation` alone.

Colours are those of the project's figures; every text in them is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from hare_evaluation.live.explain import Explanation

WIDTH = 320
INK, SOFT, GRID = "#1f2933", "#69737d", "#e4e7eb"
COLOURS = {
    "HARE": "#0072B2",
    "RAG": "#D55E00",
    "RAG with profile": "#b8860b",
    "random item": "#9aa5b1",
    "best item": "#009E73",
}
_DASHES = {"RAG with profile": "4 3", "random item": "2 3", "best item": "6 3"}


def user_state(told: Explanation) -> str:
    """u_t: a bar and a 95% interval for each named direction."""
    row, top, left, right = 13.0, 6.0, 92.0, 12.0
    most = max(0.15, *(abs(each.mean) + each.width for each in told.leanings))
    middle, scale = left + (WIDTH - left - right) / 2, (WIDTH - left - right) / 2 / most
    parts, y, group = [], top, ""
    for each in told.leanings:
        if each.group != group:
            y += 6.0 if group else 0.0
            group = each.group
        x, centre = middle + scale * each.mean, y + row / 2
        sure = abs(each.mean) > each.width
        colour = COLOURS["HARE"] if sure else "#8fb8d4"
        parts += [
            _text(left - 6, centre + 3.5, each.name, "end", INK if sure else SOFT, bold=sure),
            f'<rect x="{min(middle, x):.1f}" y="{y + 2:.1f}" width="{abs(x - middle):.1f}" height="{row - 4}" '
            f'rx="1.5" fill="{colour}"><title>{escape(each.name)}: {each.mean:+.2f} ± {each.width:.2f}</title>'
            "</rect>",
            f'<path d="M{x - scale * each.width:.1f} {centre:.1f}H{x + scale * each.width:.1f}" stroke="{INK}" '
            f'stroke-width="1" opacity=".55"/>',
        ]
        y += row
    parts.insert(0, f'<path d="M{middle} {top}V{y}" stroke="{SOFT}" stroke-width=".8"/>')
    parts += [
        _text(left, y + 11, "likes less", "start", SOFT, 9.5),
        _text(WIDTH - right, y + 11, "likes more", "end", SOFT, 9.5),
        _text(middle, y + 11, "0", "middle", SOFT, 9.5),
    ]
    share = f"{told.uncertainty:.0%} of a new user's uncertainty is left"
    return _svg(y + 16, f"User state u_t, with 95% intervals; {share}", parts)


def attention(told: Explanation, most: int = 10) -> str:
    """Attention over the knowledge clusters: bars for now, marks for before the last rating."""
    row, top, left, right = 17.5, 4.0, 138.0, 34.0
    order = np.argsort(-told.attention, kind="stable")[:most]
    largest = max(float(told.attention.max()), float(told.attention_before[order].max()), 1e-9)
    scale = (WIDTH - left - right) / largest
    parts, y = [], top
    for k in order.tolist():
        now, before, centre = float(told.attention[k]), float(told.attention_before[k]), y + row / 2
        parts += [
            _text(left - 6, centre + 3.5, told.clusters[k], "end"),
            f'<rect x="{left}" y="{y + 3:.1f}" width="{max(scale * now, 0.5):.1f}" height="{row - 6}" rx="2" '
            f'fill="{COLOURS["HARE"]}"><title>{escape(told.clusters[k])}: {now:.1%}, before {before:.1%}</title>'
            "</rect>",
            f'<path d="M{left + scale * before:.1f} {y + 1:.1f}v{row - 2}" stroke="{INK}" stroke-width="1.5"/>',
            _text(left + scale * max(now, before) + 5, centre + 3.5, f"{now:.0%}", "start", SOFT, 9.5),
        ]
        y += row
    rest = len(told.clusters) - len(order)
    if rest > 0:
        share = 1.0 - float(told.attention[order].sum())
        parts.append(_text(left - 6, y + 11, f"{rest} others: {max(share, 0.0):.0%}", "end", SOFT, 9.5))
    parts.append(_text(WIDTH - 4, y + 11, "| before the last rating", "end", SOFT, 9.5))
    return _svg(y + 17, "Attention over knowledge clusters", parts)


def entropies(told: Explanation) -> str:
    """Entropy of attention over rounds."""
    return _lines(
        {"HARE": told.entropies},
        "Entropy of attention over rounds, in nats",
        first=0,
        least_span=0.5,
        unit="nats",
    )


def rewards(told: Explanation) -> str:
    """Mean reward so far, by agent, with the rounds as dots."""
    means = {}
    for name, values in told.rewards.items():
        known = ~np.isnan(values)
        sums, counts = np.cumsum(np.where(known, values, 0.0)), np.cumsum(known)
        means[name] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).tolist()
    return _lines(means, "Mean reward so far", first=1, span=(0.0, 1.0), dots=told.rewards)


def _lines(
    series: dict[str, list[float]],
    title: str,
    first: int,
    span: tuple[float, float] | None = None,
    least_span: float = 0.0,
    dots: dict[str, list[float]] | None = None,
    unit: str = "",
) -> str:
    """Lines over rounds, each named at its end."""
    height, left, right, top, bottom = 196.0, 30.0, 12.0 if span is None else 116.0, 10.0, 26.0
    values = [v for line in series.values() for v in line if not np.isnan(v)]
    rounds = max([len(line) for line in series.values()] + [2])
    low, high = span or _span(values, least_span)
    x_scale, y_scale = (WIDTH - left - right) / (rounds - 1), (height - top - bottom) / (high - low)

    def place(i: int, v: float) -> tuple[float, float]:
        return left + x_scale * i, height - bottom - y_scale * (min(max(v, low), high) - low)

    parts = []
    for tick in np.linspace(low, high, 5).tolist():
        y = place(0, tick)[1]
        parts += [
            f'<path d="M{left} {y:.1f}H{WIDTH - right}" stroke="{GRID}" stroke-width="1"/>',
            _text(left - 5, y + 3.5, f"{tick:.2g}" if span else f"{tick:.1f}", "end", SOFT, 9.5),
        ]
    for i in sorted({0, (rounds - 1) // 2, rounds - 1}):
        parts.append(_text(place(i, low)[0], height - bottom + 13, str(i + first), "middle", SOFT, 9.5))
    parts.append(_text(WIDTH - right, height - 1, "rounds", "end", SOFT, 9.5))
    if unit:
        parts.append(_text(left + 4, top + 4, unit, "start", SOFT, 9.5))
    for name, line in (dots or {}).items():
        if name in ("HARE", "RAG"):
            marks = [place(i, v) for i, v in enumerate(line) if not np.isnan(v)]
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.9" fill="{COLOURS[name]}" opacity=".35"/>' for x, y in marks
            ]
    ends = []
    for name, line in series.items():
        points = [place(i, v) for i, v in enumerate(line) if not np.isnan(v)]
        if not points:
            continue
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        width, dash = (2.4 if name in ("HARE", "RAG") else 1.5), _DASHES.get(name, "none")
        parts.append(
            f'<path d="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="{width}" stroke-dasharray="{dash}" '
            'stroke-linejoin="round"/>'
        )
        x, y = points[-1]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>')
        ends.append((y, name, next(v for v in reversed(line) if not np.isnan(v))))
    parts += _end_names(ends, single=span is None, right=right, high=top, low=height - bottom)
    if not values:
        parts.append(_text((left + WIDTH - right) / 2, height / 2, "rate a skill to begin", "middle", SOFT, 11))
    return _svg(height, title, parts)


def _end_names(
    ends: list[tuple[float, str, float]], single: bool, right: float, high: float, low: float
) -> list[str]:
    """Names and values beside the ends of lines, moved apart where they would meet."""
    if single:
        return [_text(WIDTH - 12, max(y - 8, high + 8), f"{v:.2f}", "end", COLOURS[n], 11, True) for y, n, v in ends]
    gap, ends = 13.0, sorted(ends)
    places: list[float] = []
    for y, _, _ in ends:
        places.append(max(y, places[-1] + gap if places else high + 2))
    for k in range(len(places)):
        places[-1 - k] = min(places[-1 - k], low - gap * k)
    return [
        _text(WIDTH - right + 7, y + 3.5, f"{value:.2f} {name}", "start", COLOURS[name], 10, name == "HARE")
        for y, (_, name, value) in zip(places, ends, strict=True)
    ]


def _span(values: Sequence[float], least: float) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    missing = max(least - (high - low), 0.0) / 2
    low, high = low - missing, high + missing
    return math.floor(low * 5) / 5, math.ceil(high * 5) / 5 + (0.0 if high > low else 0.2)


def _text(
    x: float, y: float, text: str, anchor: str, colour: str = INK, size: float = 10.5, bold: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{weight}>'
        f"{escape(text)}</text>"
    )


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
