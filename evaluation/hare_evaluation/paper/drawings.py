"""The figures that only the paper has; all others are those of every report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np

from hare_evaluation.figures import COLOURS, DASHES, STYLE, panels, plain, single

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

VERDICT_COLOURS = {
    "supported": COLOURS[2],
    "not supported": COLOURS[1],
    "undecided": COLOURS[7],
    "not run": COLOURS[7],
}
MARKERS = "osD^v"


def endpoint_forest(frame: pd.DataFrame) -> Figure:
    """Every endpoint in units of the smallest effect that matters, coloured by its hypothesis's verdict.

    Args:
        frame: hypothesis, endpoint, verdict, value, low, high (0 is no effect, 1 what matters; for non-inferiority −1
            is the margin).
    """
    with matplotlib.rc_context(STYLE):
        figure = single(7.4, 0.9 + 0.26 * len(frame))
        axes = figure.subplots()
        for y, (_, row) in enumerate(frame.iterrows()):
            colour = VERDICT_COLOURS[row["verdict"]]
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(row["value"], y, "o", color=colour, markersize=5)
        axes.axvline(0.0, color="#444444", linewidth=1)
        axes.axvline(1.0, color="#444444", linewidth=1, linestyle=(0, (4, 2)))
        if (frame["kind"] == "non-inferiority").any():
            axes.axvline(-1.0, color="#444444", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_yticks(
            range(len(frame)),
            labels=[plain(f"{h} {e}") for h, e in zip(frame["hypothesis"], frame["endpoint"], strict=True)],
        )
        axes.set(ylim=(len(frame) - 0.5, -0.5), xlabel="effect ÷ the smallest that matters")
        axes.set_xscale("symlog", linthresh=2.0)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        for verdict in dict.fromkeys(frame["verdict"]):
            axes.plot([], [], "o", color=VERDICT_COLOURS[verdict], label=verdict)
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def seed_strips(frame: pd.DataFrame) -> Figure:
    """Each seed's number, a panel an endpoint, with the mean, its interval, zero and the smallest effect that
    matters.

    Args:
        frame: endpoint, seed, value, least, null, mean, low, high, all turned so that the hypothesis is upwards.
    """
    names = list(dict.fromkeys(frame["endpoint"]))
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(names), 1.25, columns=1)
        for axes, name in zip(grid, names, strict=True):
            part = frame[frame["endpoint"] == name]
            first = part.iloc[0]
            heights = np.linspace(-0.25, 0.25, len(part))
            axes.plot(part["value"], heights, "o", color=COLOURS[0], markersize=4, alpha=0.6, markeredgewidth=0)
            axes.plot([first["low"], first["high"]], [0, 0], color=COLOURS[1], linewidth=2)
            axes.plot(first["mean"], 0, "D", color=COLOURS[1], markersize=5)
            axes.axvline(first["null"], color="#444444", linewidth=1)
            if first["least"] != first["null"]:
                axes.axvline(first["least"], color="#444444", linewidth=1, linestyle=(0, (4, 2)))
            axes.set(ylim=(-0.5, 0.5), yticks=[])
            axes.set_title(name.replace("$", r"\$"), fontsize=8.5, loc="left")
            axes.spines["left"].set_visible(False)
            axes.grid(visible=False, axis="y")
    return figure


def seed_sensitivity(frame: pd.DataFrame) -> Figure:
    """Estimates and intervals by the number of seeds, a panel a hypothesis, a line an endpoint; in the same units.

    Args:
        frame: hypothesis, endpoint, seeds, value, low, high.
    """
    names = list(dict.fromkeys(frame["hypothesis"]))
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(names), 1.9, columns=3)
        for axes, name in zip(grid, names, strict=True):
            part = frame[frame["hypothesis"] == name]
            for i, endpoint in enumerate(dict.fromkeys(part["endpoint"])):
                line = part[part["endpoint"] == endpoint]
                colour = COLOURS[i % len(COLOURS)]
                axes.plot(
                    line["seeds"],
                    line["value"],
                    color=colour,
                    linestyle=DASHES[i % len(DASHES)],
                    label=plain(endpoint),
                )
                axes.fill_between(line["seeds"], line["low"], line["high"], color=colour, alpha=0.14, linewidth=0)
            axes.axhline(0.0, color="#444444", linewidth=1)
            axes.axhline(1.0, color="#444444", linewidth=1, linestyle=(0, (4, 2)))
            # the first intervals, of two or three seeds, would flatten all others
            tail = part[part["seeds"] >= 4] if (part["seeds"] >= 4).any() else part
            low, high = float(np.nanmin([tail["low"].min(), -0.2])), float(np.nanmax([tail["high"].max(), 1.2]))
            axes.set(title=plain(name), xlabel="seeds", ylim=(low - 0.05 * (high - low), high + 0.05 * (high - low)))
            axes.legend(fontsize=6.5, loc="best")
    return figure


def profile_map(frame: pd.DataFrame, shares: tuple[float, float]) -> Figure:
    """Texts on the first two principal components of their embeddings, coloured by profile, a panel an agent.

    Args:
        frame: agent, profile, query, x, y.
        shares: Of the variance, by axis.
    """
    agents, profiles = (list(dict.fromkeys(frame[name])) for name in ("agent", "profile"))
    with matplotlib.rc_context(STYLE):
        figure, grid = panels(len(agents), 3.2, columns=2, sharey=True)
        for axes, agent in zip(grid, agents, strict=True):
            for i, profile in enumerate(profiles):
                part = frame[(frame["agent"] == agent) & (frame["profile"] == profile)]
                colour = COLOURS[i % len(COLOURS)]
                axes.plot(
                    part["x"],
                    part["y"],
                    MARKERS[i % 5],
                    color=colour,
                    markersize=5.5,
                    alpha=0.8,
                    label=plain(profile),
                )
            axes.set(title=plain(agent), xlabel=f"1st component ({shares[0]:.0%})")
            axes.tick_params(labelbottom=False, labelleft=False, length=0)
        grid[0].set_ylabel(f"2nd component ({shares[1]:.0%})")
        lines, names = grid[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=min(5, len(names)))
    return figure
