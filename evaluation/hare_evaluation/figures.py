"""Figures of results, ready for a paper: matplotlib's object interface, no global state, the same bytes each time.

Colours are Okabe & Ito's, told apart by the colour-blind; line styles tell agents apart in grey print as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hare_evaluation import statistics
from hare_evaluation.results import Results

if TYPE_CHECKING:
    import pandas as pd

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
DIAGNOSTICS = {
    "attention_entropy": "entropy of attention,\nplug-in (nats)",
    "attention_entropy_tempered": "entropy of attention,\ntempered (nats)",
    "user_trace": "tr Σ_u",
    "user_logdet": "ln det Σ_u",
}
ESTIMATORS = {
    "replay": "replay (Li et al. 2011)",
    "ips": "inverse propensity (IPS)",
    "snips": "self-normalised IPS",
    "dm": "direct method",
    "dr": "doubly robust",
}

STYLE: Any = {
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.hashsalt": "hare",
    "svg.fonttype": "path",
}


def regret_curves(results: Results, environment: str) -> Figure:
    """Cumulative regret, mean over seeds with a pointwise 95% band: on plain axes, and on logarithmic ones."""
    with matplotlib.rc_context(STYLE):
        figure = single(9.2, 3.6)
        plain, logarithmic = figure.subplots(1, 2)
        ends = _curves(plain, results, environment, "regret")
        _curves(logarithmic, results, environment, "regret")
        plain.set(title="Cumulative regret", xlabel="round", xlim=(0, None), ylim=(min(0.0, plain.dataLim.y0), None))
        logarithmic.set(title="The same, both axes logarithmic", xlabel="round", xscale="log", yscale="log")
        _focus(logarithmic)
        _label_lines(plain, ends, figure.get_figheight())
    return figure


def regret_panels(results: Results, environments: Sequence[str], agents: Sequence[str]) -> Figure:
    """Cumulative regret of chosen agents, a panel an environment: mean over seeds, pointwise 95% bands."""
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(environments), 3.0, columns=1)
        for axes, environment in zip(grid, environments, strict=True):
            ends = _curves(axes, results, environment, "regret", agents)
            axes.set(title=plain(environment), xlabel="round", ylabel="cumulative regret", xlim=(0, None))
            axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
            _label_lines(axes, ends, 3.0)
    return figure


def trajectories(frame: pd.DataFrame) -> Figure:
    """Diagnostics along a user's visits, mean over seeds with pointwise 95% bands.

    Args:
        frame: From :func:`hare_evaluation.drawings.trajectory_frame`.
    """
    environments, diagnostics = (list(dict.fromkeys(frame[name])) for name in ("environment", "diagnostic"))
    with matplotlib.rc_context(STYLE):
        figure = single(6.6, 0.5 + 2.1 * len(diagnostics))
        grid = figure.subplots(len(diagnostics), len(environments), sharex=True, sharey="row", squeeze=False)
        for row, diagnostic in zip(grid, diagnostics, strict=True):
            for axes, environment in zip(row, environments, strict=True):
                for colour, style, users in zip(COLOURS, DASHES, ("early", "late"), strict=False):
                    where = (frame["environment"] == environment) & (frame["diagnostic"] == diagnostic)
                    part = frame[where & (frame["users"] == users)]
                    if part.empty:
                        continue
                    axes.plot(part["visit"], part["mean"], color=colour, linestyle=style, label=f"{users} users")
                    axes.fill_between(part["visit"], part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)
                axes.set_xscale("log")
            row[0].set_ylabel(DIAGNOSTICS.get(diagnostic, plain(diagnostic)))
        for axes, environment in zip(grid[0], environments, strict=True):
            axes.set_title(plain(environment))
        for axes in grid[-1]:
            axes.set_xlabel("the user's visit")
            axes.xaxis.set_major_formatter("{x:g}")
        grid[0][0].legend()
    return figure


def knob_sweep(frame: pd.DataFrame, knob: str, reference: str, logarithmic: bool = False) -> Figure:
    """Regret relative to a reference against a knob, with 95% intervals.

    Args:
        frame: From :func:`hare_evaluation.drawings.sweep_frame`.
        knob: Its name.
        reference: The label of the agent that is 1.
        logarithmic: Whether the knob's axis is.
    """
    with matplotlib.rc_context(STYLE):
        figure = single(6.6, 3.4)
        axes = figure.subplots()
        agents = list(dict.fromkeys(frame["agent"]))
        step = 0.012 * float(np.ptp(frame["knob"]))
        for i, agent in enumerate(agents):
            part = frame[frame["agent"] == agent]
            place = i - (len(agents) - 1) / 2
            x = part["knob"] * (1 + 0.04 * place) if logarithmic else part["knob"] + step * place
            colour, style = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            axes.plot(
                x, part["ratio"], "osD^v"[i % 5], color=colour, linestyle=style, markersize=5, label=plain(agent)
            )
            axes.vlines(x, part["ratio_low"], part["ratio_high"], color=colour, linewidth=1.4)
        axes.axhline(1.0, color="#444444", linewidth=1)
        axes.set(xlabel=plain(knob), ylabel=f"regret ÷ that of {plain(reference)}")
        axes.set_ylim(0, 1.06 * axes.dataLim.y1)
        if logarithmic:
            axes.set_xscale("log")
            values = sorted(set(frame["knob"]))
            axes.set_xticks(values, labels=[f"{value:,g}" for value in values])
            axes.set_xticks([], minor=True)
        axes.legend()
    return figure


def ratio_forest(frame: pd.DataFrame, agent: str) -> Figure:
    """Regret of variants relative to an agent's, with 95% intervals, a panel an environment.

    Args:
        frame: From :func:`hare_evaluation.drawings.forest_frame`.
        agent: The label of the agent that is 1.
    """
    environments, variants = (list(dict.fromkeys(frame[name])) for name in ("environment", "agent"))
    with matplotlib.rc_context(STYLE):
        height = 0.8 + 0.24 * len(variants)
        figure, grid = panels(len(environments), height, sharey=True)
        for axes, environment in zip(grid, environments, strict=True):
            part = frame[frame["environment"] == environment]
            for _, row in part.iterrows():
                y = variants.index(row["agent"])
                _whisker(axes, row, "ratio", y, COLOURS[1] if row["ratio_low"] > 1.0 else COLOURS[0], "o")
            axes.axvline(1.0, color="#444444", linewidth=1)
            axes.set(title=plain(environment), ylim=(len(variants) - 0.5, -0.5))
            axes.set_xlabel(f"regret ÷ that of {plain(agent)}")
            axes.set_yticks(range(len(variants)), labels=[plain(variant) for variant in variants])
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
    return figure


def attention_maps(frame: pd.DataFrame) -> Figure:
    """Attention over clusters, a panel a user, a row a query.

    Args:
        frame: From :func:`hare_evaluation.drawings.attention_frame`.
    """
    users = list(dict.fromkeys(frame["user"]))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        queries, clusters = frame["query"].nunique(), frame["cluster"].nunique()
        figure = single(6.6, 1.1 + 2 * max(1.0, 0.2 * queries))
        rows = figure.subplots(len(users), 1, sharex=True)
        for axes, user in zip(rows, users, strict=True):
            part = frame[frame["user"] == user].pivot(index="query", columns="cluster", values="attention")
            image = axes.imshow(
                part.to_numpy(), cmap="cividis", vmin=0.0, vmax=frame["attention"].max(), aspect="auto"
            )
            axes.set(title=f"user {user}", ylabel="query")
            axes.set_yticks(range(queries), labels=[str(i + 1) for i in range(queries)])
        rows[-1].set_xlabel("knowledge cluster")
        rows[-1].set_xticks(range(0, clusters, max(1, clusters // 8)))
        figure.colorbar(image, ax=list(rows), label="attention (sums to 1 along a row)")
    return figure


def metric_panels(frame: pd.DataFrame) -> Figure:
    """Means with 95% intervals, a panel a metric, a row an agent.

    Args:
        frame: From :func:`hare_evaluation.drawings.generation_frame`.
    """
    metrics, agents = (list(dict.fromkeys(frame[name])) for name in ("metric", "agent"))
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(metrics))
        rows = -(-len(metrics) // columns)
        figure = single(9.2, rows * (0.75 + 0.2 * len(agents)))
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes in grid.flat[len(metrics) :]:
            axes.set_axis_off()
        for axes, metric in zip(grid.flat, metrics, strict=False):
            part = frame[frame["metric"] == metric]
            for _, row in part.iterrows():
                renamed = {"value": row["mean"], "value_low": row["low"], "value_high": row["high"]}
                i = agents.index(row["agent"])
                _whisker(axes, renamed, "value", i, COLOURS[i % len(COLOURS)], "o")
                told = {"fontsize": 7, "va": "center", "transform": axes.get_yaxis_transform()}
                axes.text(1.02, i, f"{row['mean']:.3g}".replace("-", "−"), **told)
            axes.set_title(plain(part["name"].iloc[0]), fontsize=8.5)
            axes.set_ylim(len(agents) - 0.5, -0.5)
            axes.set_yticks(range(len(agents)), labels=[plain(agent) for agent in agents])
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.margins(x=0.12)
    return figure


def learning_curves(frame: pd.DataFrame, what: str = "expected reward") -> Figure:
    """Reward against a user's visits, a line an agent, with 95% intervals.

    Args:
        frame: From :func:`hare_evaluation.drawings.learning_frame`.
        what: The name of what is drawn, if it is no reward.
    """
    with matplotlib.rc_context(STYLE):
        figure = single(6.6, 3.4)
        axes = figure.subplots()
        agents = list(dict.fromkeys(frame["agent"]))
        for i, agent in enumerate(agents):
            part = frame[frame["agent"] == agent]
            x = np.sqrt(part["first"] * part["last"]) * (1 + 0.03 * (i - (len(agents) - 1) / 2))
            colour, style = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            axes.plot(x, part["mean"], "osD^vP*X"[i], color=colour, linestyle=style, markersize=4.5)
            axes.vlines(x, part["low"], part["high"], color=colour, linewidth=1.2)
        axes.set(xlabel="the user's visits", ylabel=what)
        _visits_axis(axes, frame["first"].max())
        axes.legend(axes.lines, [plain(agent) for agent in agents], loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def reward_panels(frame: pd.DataFrame) -> Figure:
    """Reward a round against rounds per user, a panel an environment, a line an agent, with 95% intervals.

    Args:
        frame: From :func:`hare_evaluation.drawings.reward_frame`.
    """
    environments, agents = (list(dict.fromkeys(frame[name])) for name in ("environment", "agent"))
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(environments), 2.3)
        for axes, environment in zip(grid, environments, strict=True):
            for i, agent in enumerate(agents):
                part = frame[(frame["environment"] == environment) & (frame["agent"] == agent)]
                # the first span begins at 0, which a logarithmic axis does not have
                x = np.sqrt(np.maximum(part["first"], part["last"] / 4) * part["last"])
                colour, style = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
                axes.plot(x, part["mean"], color=colour, linestyle=style, linewidth=1.4, label=plain(agent))
                axes.fill_between(x, part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
            axes.set(title=plain(environment), xlabel="rounds per user", ylabel="reward a round")
            _visits_axis(axes, frame["last"].max())
        lines, names = grid[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=min(4, len(names)))
    return figure


def recovery_curves(frame: pd.DataFrame) -> Figure:
    """R² of hidden attributes against a user's visits, with 95% intervals.

    Args:
        frame: From :func:`hare_evaluation.drawings.user_recovery_frame`.
    """
    with matplotlib.rc_context(STYLE):
        figure = single(6.6, 3.4)
        axes = figure.subplots()
        attributes = list(dict.fromkeys(frame["attribute"]))
        for i, (attribute, colour, style) in enumerate(zip(attributes, COLOURS, DASHES, strict=False)):
            part = frame[frame["attribute"] == attribute]
            x = part["visit"] * (1 + 0.03 * (i - (len(attributes) - 1) / 2))
            axes.plot(x, part["mean"], "osD^"[i % 4], color=colour, linestyle=style, markersize=4.5, label=attribute)
            axes.vlines(x, part["low"], part["high"], color=colour, linewidth=1.2)
        axes.set(xlabel="the user's visits", ylabel="R² from u_t", ylim=(max(-1.0, axes.dataLim.y0), 1.02))
        _visits_axis(axes, frame["visit"].max())
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _visits_axis(axes: Axes, last: float) -> None:
    """A logarithmic axis of visits, with plain numbers on it."""
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if n <= last]
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[str(n) for n in ticks])
    axes.set_xticks([], minor=True)


def reward_curves(results: Results, environment: str) -> Figure:
    """Mean reward of the observed rounds so far, mean over seeds with a pointwise 95% band."""
    with matplotlib.rc_context(STYLE):
        figure = single(9.2, 3.4)
        axes = figure.subplots()
        ends = _curves(axes, results, environment, "mean_reward")
        axes.set(title="Mean reward so far", xlabel="round", xlim=(0, None))
        _focus_rewards(axes)
        _label_lines(axes, ends, figure.get_figheight())
    return figure


def final_regret(frame: pd.DataFrame, colours: dict[str, int]) -> Figure:
    """Final regret of each agent: mean and IQM with 95% intervals, and the intervals of its rank.

    Args:
        frame: From :func:`hare_evaluation.tables.environment_frame` or ``overall_frame``.
        colours: Each agent's number, so that it looks the same in all figures.
    """
    frame = frame[frame["seeds"] > 0]
    what = "Normalised regret (Random = 1)" if "environments" in frame.attrs else "Final regret"
    with matplotlib.rc_context(STYLE):
        figure = single(9.2, 0.9 + 0.34 * max(2, len(frame)))
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        for y, (_, row) in enumerate(frame.iterrows()):
            colour = COLOURS[colours[row["agent"]] % len(COLOURS)]
            for name, offset, marker in (("mean", -0.13, "o"), ("iqm", 0.17, "D")):
                _whisker(left, row, name, y + offset, colour, marker)
            right.plot([row["rank_low"], row["rank_high"]], [y, y], color=colour, linewidth=5, solid_capstyle="round")
            right.plot(row["rank"], y, "o", color="white", markersize=4.5, markeredgecolor=colour)
        left.set(title=f"{what}: mean (●) and IQM (◆), 95% intervals", ylim=(len(frame) - 0.5, -0.5))
        left.set_yticks(range(len(frame)), labels=[plain(agent) for agent in frame["agent"]])
        right.set(title="Rank (○) and its simultaneous 95% interval", xlim=(0.6, max(2, len(frame)) + 0.4))
        right.set_xticks(range(1, len(frame) + 1))
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
    return figure


def off_policy_forest(
    frame: pd.DataFrame, names: Sequence[str], colours: dict[str, int], logger: float | None
) -> Figure:
    """Off-policy estimates of each agent's reward with their 95% intervals, and the logger's own rate.

    Args:
        frame: From :func:`hare_evaluation.tables.logged_frame`.
        names: The estimators in it.
        colours: Each agent's number.
        logger: The mean reward in the log, if it is known.
    """
    frame = frame[frame["seeds"] > 0]
    with matplotlib.rc_context(STYLE):
        figure = single(9.2, 1.0 + 0.2 * max(1, len(names)) * max(1, len(frame)))
        axes = figure.subplots()
        step = 0.8 / max(1, len(names))
        markers = "osD^v<>"
        for y, (_, row) in enumerate(frame.iterrows()):
            colour = COLOURS[colours[row["agent"]] % len(COLOURS)]
            for i, name in enumerate(names):
                _whisker(axes, row, name, y + (i - (len(names) - 1) / 2) * step, colour, markers[i % 7])
            if y:
                axes.axhline(y - 0.5, color="#E4E4E4", linewidth=0.6)
        for i, name in enumerate(names):
            label = plain(ESTIMATORS.get(name, name))
            axes.plot([], [], markers[i % 7], color="#444444", label=label, markersize=4.5)
        if logger is not None:
            axes.axvline(logger, color="#444444", linewidth=1, linestyle=(0, (4, 2)), label="the logger's own rate")
        axes.set(title="Estimated reward per round, 95% intervals", ylim=(len(frame) - 0.5, -0.5))
        axes.set_yticks(range(len(frame)), labels=[plain(agent) for agent in frame["agent"]])
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


_METADATA: dict[str, Any] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, stem: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Writes ``stem.png`` (200 dots an inch), ``stem.svg`` or ``stem.pdf``; the same figure gives the same bytes."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in kinds]
    with matplotlib.rc_context(STYLE):
        for path, kind in zip(paths, kinds, strict=True):
            figure.savefig(path, dpi=200, metadata=_METADATA[kind])
            # what has been laid out once is laid out for all, which is a quarter of the time
            figure.set_layout_engine("none")
    return paths


def single(width: float, height: float) -> Figure:
    """A figure so many inches wide and high."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, height: float, columns: int = 2, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """So many panels, each so high, at most so many beside one another."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = single(6.6, height * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    return figure, list(grid.flat[:count])


def _curves(
    axes: Axes, results: Results, environment: str, quantity: str, agents: Sequence[str] | None = None
) -> list[tuple[str, str, float]]:
    """Draws a line and a band for each agent; returns label, colour and last height of each line."""
    ends = []
    for i, agent in enumerate(agents or results.agents):
        rounds, values = results.curves(environment, agent, "reward" if quantity == "mean_reward" else quantity)
        if not rounds.size:
            continue
        if quantity == "mean_reward":
            observed = results.curves(environment, agent, "observed")[1]
            # the first rounds of a log may show nothing; a mean needs every seed to have seen something
            seen = (observed > 0).all(axis=0)
            rounds, values = rounds[seen], values[:, seen] / observed[:, seen]
            if not rounds.size:
                continue
        centre, low, high = statistics.mean_band(values)
        colour = COLOURS[i % len(COLOURS)]
        style = DASHES[(i + i // len(COLOURS)) % len(DASHES)]
        axes.plot(rounds, centre, color=colour, linestyle=style, linewidth=1.5, zorder=3)
        axes.fill_between(rounds, low, high, color=colour, alpha=0.15, linewidth=0)
        ends.append((plain(agent), colour, float(centre[-1])))
    return ends


def _label_lines(axes: Axes, ends: list[tuple[str, str, float]], inches: float) -> None:
    """Names the lines at their right ends, moved apart where they would overlap; ``inches`` high is the figure."""
    if not ends:
        return
    bottom, top = axes.get_ylim()
    axes.set_xlim(right=axes.dataLim.x1)
    gap = min(10.5 / (0.78 * 72 * inches), 0.99 / len(ends))
    wanted = sorted(((value - bottom) / (top - bottom), label, colour) for label, colour, value in ends)
    places: list[float] = []
    for place, *_ in wanted:
        places.append(max(place, places[-1] + gap) if places else place)
    overflow = max(0.0, places[-1] - (1.0 - gap / 2))
    for i in range(len(places) - 1, -1, -1):  # push back down what the first pass pushed out at the top
        ceiling = places[-1] - overflow if i == len(places) - 1 else places[i + 1] - gap
        places[i] = min(places[i], ceiling)
    for place, (anchor, label, colour) in zip(places, wanted, strict=True):
        axes.annotate(
            label,
            xy=(1.0, anchor),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=legible(colour),
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _whisker(axes: Axes, row: Any, name: str, y: float, colour: str, marker: str) -> None:
    value, low, high = float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    if math.isfinite(value):
        axes.plot(value, y, marker, color=colour, markersize=4.5)


def _focus(axes: Axes) -> None:
    """Leaves the first rounds' noise out of a log–log plot: two decades of rounds, and the heights met there."""
    last = axes.dataLim.x1
    first = max(1.0, last / 100)
    heights = [
        y[(x >= first) & (y > 0)]
        for line in axes.lines
        for x, y in [(np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float))]
    ]
    positive = np.concatenate(heights) if heights else np.empty(0)
    if positive.size:
        axes.set(xlim=(first, last), ylim=(positive.min() / 1.3, positive.max() * 1.3))


def _focus_rewards(axes: Axes) -> None:
    """Fits the height to the later nine tenths, where means have settled."""
    last = axes.dataLim.x1
    heights = [
        y[x >= last / 10]
        for line in axes.lines
        for x, y in [(np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float))]
    ]
    late = np.concatenate(heights) if heights else np.empty(0)
    if late.size:
        margin = 0.12 * max(float(np.ptp(late)), 0.01)
        axes.set_ylim(max(0.0, late.min() - margin), min(1.02, late.max() + margin))


def legible(colour: str) -> str:
    """The colour, darkened by a quarter so that small letters have contrast on white."""
    return "#" + "".join(f"{int(int(colour[i : i + 2], 16) * 0.75):02x}" for i in (1, 3, 5))


def plain(label: str) -> str:
    """A label that matplotlib does not read as mathematics, cut where it would push the plot aside."""
    label = label.replace("$", r"\$")
    return label if len(label) <= 40 else label[:39] + "…"
