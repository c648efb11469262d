"""The figures that a suite asks for: their data, as tables, and who draws each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import numpy as np

from hare_evaluation import statistics
from hare_evaluation.definitions import TEXTS
from hare_evaluation.figure_entries import (
    AnyFigure,
    AttentionFigure,
    ForestFigure,
    GenerationFigure,
    LearningFigure,
    RegretFigure,
    RewardFigure,
    SweepFigure,
    TrajectoryFigure,
    UserRecoveryFigure,
)
from hare_evaluation.judging import NotRunError, View
from hare_evaluation.metrics import kept
from hare_evaluation.readings import visits
from hare_evaluation.results import Array, Record, curve_at

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

VISIT_BINS = 16


@dataclass(frozen=True)
class Drawing:
    """A figure made ready: its data, what it shows in words, and how to draw it (which needs matplotlib)."""

    frame: pd.DataFrame
    caption: str
    draw: Callable[[], Figure]


@singledispatch
def drawing(entry: AnyFigure, view: View) -> Drawing:
    """A figure of the suite.

    Raises:
        NotRunError: What it shows was not run; the message names it.
    """
    raise TypeError(f"no such figure: {entry!r}")


@drawing.register
def _(entry: RegretFigure, view: View) -> Drawing:
    import pandas as pd

    from hare_evaluation import figures

    for environment in entry.environments:
        view.need(environment)
    agents = [a for a in entry.agents if any(view.results.finished(e, a) for e in entry.environments)]
    frames = []
    for environment in entry.environments:
        for agent in agents:
            rounds, values = view.results.curves(environment, agent)
            if rounds.size:
                mean, low, high = statistics.mean_band(values)
                names = {"environment": environment, "agent": agent, "seeds": len(values)}
                frames.append(pd.DataFrame(names | {"round": rounds, "mean": mean, "low": low, "high": high}))
    if not frames:
        raise NotRunError(f"none of {', '.join(entry.agents)} finished a run there")
    caption = "Cumulative regret: mean over seeds; the band is a 95% interval at each round by itself."
    return Drawing(
        pd.concat(frames, ignore_index=True),
        caption,
        lambda: figures.regret_panels(view.results, entry.environments, agents),
    )


@drawing.register
def _(entry: TrajectoryFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = trajectory_frame(entry, view)
    caption = (
        f"What {entry.agent} tells of itself against how often it has met the user: averaged over users and ranges "
        f"of visits, then over seeds, with a 95% interval at each point by itself. Late users came for the first "
        f"time after {entry.after:.0%} of the session, when the weights had been trained on others."
    )
    return Drawing(frame, caption, lambda: figures.trajectories(frame))


@drawing.register
def _(entry: SweepFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = sweep_frame(entry, view)
    caption = (
        f"Final regret over that of {entry.reference} on the same seeds, against {entry.knob}: ratio of means with "
        "95% intervals. Below 1 is better."
    )
    return Drawing(frame, caption, lambda: figures.knob_sweep(frame, entry.knob, entry.reference, entry.logarithmic))


@drawing.register
def _(entry: ForestFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = forest_frame(entry, view)
    caption = (
        f"Final regret of each variant over that of {entry.agent} on the same seeds: ratio of means with 95% "
        "intervals. Right of 1, what the variant lacks or changes served; orange where the interval says so."
    )
    return Drawing(frame, caption, lambda: figures.ratio_forest(frame, entry.agent))


@drawing.register
def _(entry: AttentionFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = attention_frame(entry, view)
    caption = (
        f"Attention of {entry.agent} over the clusters of the pool at the end of a session on "
        f"{entry.environments[0]} (seed {entry.seed}), for users {entry.users[0]} and {entry.users[1]} and the same "
        f"{entry.queries} queries."
    )
    return Drawing(frame, caption, lambda: figures.attention_maps(frame))


@drawing.register
def _(entry: GenerationFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = generation_frame(entry, view)
    caption = (
        f"Texts on {entry.environments[0]}: mean over the {frame['seeds'].max()} sessions that were played again, "
        "with 95% intervals. At the end of each, every user asked the same six queries, which suit any domain. A "
        "metric that does not apply to an agent is left out."
    )
    return Drawing(frame, caption, lambda: figures.metric_panels(frame))


@drawing.register
def _(entry: LearningFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = learning_frame(entry, view)
    caption = (
        f"Expected reward on {entry.environments[0]} by how often a user has come (visits 1, 2, 3 to 4, 5 to 8, ... "
        f"together): mean over users and over the {frame['seeds'].max()} sessions that were played again, with 95% "
        "intervals."
    )
    return Drawing(frame, caption, lambda: figures.learning_curves(frame))


@drawing.register
def _(entry: RewardFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = reward_frame(entry, view)
    caption = (
        "Expected reward a round by how many rounds there were per user so far (up to 1, 2, 4, 8, ... together): "
        f"mean over the {frame['seeds'].max()} seeds, with 95% intervals."
    )
    return Drawing(frame, caption, lambda: figures.reward_panels(frame))


@drawing.register
def _(entry: UserRecoveryFigure, view: View) -> Drawing:
    from hare_evaluation import figures

    frame = user_recovery_frame(entry, view)
    caption = (
        f"R² of a ridge regression from the user state of {entry.agent} to what is hidden of the user, fitted on the "
        "users of the other sessions, after so many of a user's visits: mean over sessions with 95% intervals."
    )
    return Drawing(frame, caption, lambda: figures.recovery_curves(frame))


def generation_frame(entry: GenerationFigure, view: View) -> pd.DataFrame:
    """One row a metric and agent: metric, name, agent, mean, low, high, seeds; without what does not apply.

    Raises:
        NotRunError: No agent's texts were measured.
    """
    import pandas as pd

    (environment,) = entry.environments
    runs = _measured_agents(entry.agents, view, environment)
    rows = []
    for metric, meaning in TEXTS.items():
        for agent, found in runs.items():
            values = kept.by_seed(found, metric)
            if not np.isnan(values).all():
                mean = statistics.mean_interval([values])
                row = {"metric": metric, "name": meaning.label, "agent": agent, "mean": mean.value}
                rows.append(row | {"low": mean.low, "high": mean.high, "seeds": int((~np.isnan(values)).sum())})
    return pd.DataFrame(rows)


def _measured_agents(agents: list[str], view: View, environment: str) -> dict[str, list[kept.Measured]]:
    """The measured runs of those agents that have any; raises `NotRunError` if none has."""
    found, reasons = {}, []
    for agent in agents:
        try:
            found[agent] = [*view.measured(environment, agent).values()]
        except NotRunError as error:
            reasons.append(str(error))
    if not found:
        raise NotRunError("; ".join(reasons))
    return found


def learning_frame(entry: LearningFigure, view: View) -> pd.DataFrame:
    """One row an agent and span of visits: agent, first, last, mean, low, high, seeds; as far as all users came.

    Raises:
        NotRunError: No agent's texts were measured.
    """
    import pandas as pd

    (environment,) = entry.environments
    curves = {
        agent: [np.array(run["curve"]) for run in runs]
        for agent, runs in _measured_agents(entry.agents, view, environment).items()
    }
    V = min(len(curve) for found in curves.values() for curve in found)
    rows, last = [], 0
    while last < V:
        first, last = last + 1, min(2 * last or 1, V)
        for agent, found in curves.items():
            mean = statistics.mean_interval([np.array([curve[first - 1 : last].mean() for curve in found])])
            row = {"agent": agent, "first": first, "last": last, "mean": mean.value}
            rows.append(row | {"low": mean.low, "high": mean.high, "seeds": len(found)})
    return pd.DataFrame(rows)


def reward_frame(entry: RewardFigure, view: View) -> pd.DataFrame:
    """One row an environment, agent and span of rounds per user: first, last (both per user), mean, low, high, seeds.

    Raises:
        NotRunError: An environment was not run, or no agent finished a run.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for environment in entry.environments:
        view.need(environment)
        for agent in entry.agents:
            records = [*view.results.finished(environment, agent).values()]
            if not records:
                continue
            users, T = records[0]["task"]["num_users"], records[0]["rounds"][-1]
            edges = [0.0]
            while edges[-1] < T / users:
                edges.append(min(2.0 * edges[-1] or 1.0, T / users))
            sums = np.stack([curve_at(record, "expected_reward", np.array(edges) * users) for record in records])
            means = np.diff(sums, axis=1) / (np.diff(edges) * users)
            for k, values in enumerate(means.T):
                found = statistics.mean_interval([values])
                row = {"environment": environment, "agent": agent, "first": edges[k], "last": edges[k + 1]}
                rows.append(row | {"mean": found.value, "low": found.low, "high": found.high, "seeds": len(values)})
    if not rows:
        raise NotRunError(f"none of {', '.join(entry.agents)} finished a run there")
    return pd.DataFrame(rows)


def user_recovery_frame(entry: UserRecoveryFigure, view: View) -> pd.DataFrame:
    """One row an attribute and visit: attribute, visit, mean, low, high, seeds.

    Raises:
        NotRunError: The agent's texts were not measured, it keeps no state, or there is a single session.
    """
    import pandas as pd

    (environment,) = entry.environments
    runs = [*view.measured(environment, entry.agent).values()]
    rows = []
    for attribute in kept.ATTRIBUTES:
        for visit in sorted({int(visit) for run in runs for visit in run["states"]}):
            values = kept.recovered(runs, attribute, visit)
            if not np.isnan(values).any():
                found = statistics.mean_interval([values])
                row = {"attribute": attribute, "visit": visit, "mean": found.value, "low": found.low}
                rows.append(row | {"high": found.high, "seeds": len(values)})
    if not rows:
        raise NotRunError(f"{entry.agent} keeps no user state, or there is only one session to read it from")
    return pd.DataFrame(rows)


def trajectory_frame(entry: TrajectoryFigure, view: View) -> pd.DataFrame:
    """One row a point of a curve: environment, diagnostic, users, visit, mean, low, high, seeds.

    Visits are put into ranges that are even on a logarithmic scale. Within a seed, a range has the mean over users of
    the mean over a user's traced visits in it; a range in which a seed has no visit is left out.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for environment in entry.environments:
        view.need(environment, entry.agent)
        records = list(view.results.finished(environment, entry.agent).values())
        last = max(max((record.get("trace") or {}).get("visit") or [1]) for record in records)
        edges = np.unique(np.rint(np.geomspace(1, last + 1, VISIT_BINS + 1)))
        for diagnostic in entry.diagnostics:
            for users in ("early", "late"):
                values = np.array([_binned(record, diagnostic, users, entry.after, edges) for record in records])
                whole = ~np.isnan(values).any(axis=0)
                centres = np.sqrt(edges[:-1] * (edges[1:] - 1))[whole]
                for x, *numbers in zip(centres, *statistics.mean_band(values[:, whole]), strict=True):
                    names = {"environment": environment, "diagnostic": diagnostic, "users": users, "visit": x}
                    rows.append(names | dict(zip(("mean", "low", "high"), numbers, strict=True)))
                    rows[-1]["seeds"] = len(records)
    if not rows:
        raise NotRunError("no range of visits has a traced one in every seed")
    return pd.DataFrame(rows)


def _binned(record: Record, diagnostic: str, users: str, after: float, edges: Array) -> Array:
    """The mean over users of the mean over their visits in each range, ``(len(edges) - 1,)``; NaN without any."""
    sums, counts = np.zeros(edges.size - 1), np.zeros(edges.size - 1)
    for visit, values in visits(record, diagnostic, users, after):
        bins = np.searchsorted(edges, visit, side="right") - 1
        n = np.bincount(bins, minlength=edges.size - 1)
        total = np.bincount(bins, weights=values, minlength=edges.size - 1)
        sums += np.divide(total, n, out=np.zeros_like(sums), where=n > 0)
        counts += n > 0
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def sweep_frame(entry: SweepFigure, view: View) -> pd.DataFrame:
    """One row an environment and agent: environment, knob, agent, ratio and its ends, seeds; sorted by the knob."""
    import pandas as pd

    rows = []
    for environment in entry.environments:
        view.need(environment, entry.reference)
        records = view.results.finished(environment, entry.reference).values()
        knob = next(iter(records))["spec"]["env_kwargs"].get(entry.knob)
        if not isinstance(knob, int | float):
            raise NotRunError(f"{environment} sets no number for {entry.knob}")
        names = {"environment": environment, "knob": float(knob)}
        rows += [names | row for row in _ratios(view, environment, entry.agents, entry.reference)]
    if not rows:
        raise NotRunError(f"none of {', '.join(entry.agents)} finished a run there")
    return pd.DataFrame(rows).sort_values("knob", kind="stable", ignore_index=True)


def forest_frame(entry: ForestFigure, view: View) -> pd.DataFrame:
    """One row an environment and variant: environment, agent, ratio and its ends, seeds."""
    import pandas as pd

    rows = []
    for environment in entry.environments:
        view.need(environment, entry.agent)
        rows += [
            {"environment": environment} | row for row in _ratios(view, environment, entry.variants, entry.agent)
        ]
    if not rows:
        raise NotRunError(f"none of {', '.join(entry.variants)} finished a run there")
    order = {variant: i for i, variant in enumerate(entry.variants)}
    frame = pd.DataFrame(rows)
    return frame.sort_values("agent", key=lambda agents: agents.map(order), kind="stable", ignore_index=True)


def _ratios(view: View, environment: str, agents: list[str], reference: str) -> list[dict[str, Any]]:
    scores = view.results.scores(environment)
    below = scores.loc[reference].to_numpy()
    rows = []
    for agent in agents:
        if view.results.finished(environment, agent):
            above = scores.loc[agent].to_numpy()
            found = statistics.ratio_of_means(above, below)
            seeds = int((~np.isnan(above + below)).sum())
            rows.append(
                {
                    "agent": agent,
                    "ratio": found.value,
                    "ratio_low": found.low,
                    "ratio_high": found.high,
                    "seeds": seeds,
                }
            )
    return rows


def attention_frame(entry: AttentionFigure, view: View) -> pd.DataFrame:
    """One row a user, query and cluster: user, query, cluster, attention.

    The session is played again from its record's specification, and must choose the same actions. The queries are
    the first ones of the next session in the same world.

    Raises:
        NotRunError: There is no such run, the agent has no attention to show, or its code has changed since.
    """
    import pandas as pd

    from hare_evaluation.environments import make
    from hare_evaluation.runner import Session, seeds
    from hare_gym.registry import make_agent

    (environment,) = entry.environments
    view.need(environment, entry.agent)
    records = view.results.finished(environment, entry.agent)
    record = next((record for (_, seed), record in records.items() if seed == entry.seed), None)
    if record is None:
        raise NotRunError(f"{entry.agent} did not finish seed {entry.seed} on {environment}")
    spec = record["spec"]
    agent: Any = make_agent(spec["agent"], **spec["agent_kwargs"])
    env = make(spec["env"], spec["env_kwargs"])
    session = Session(env, agent, 1)
    session.play(*seeds(spec["seed_set"], spec["seed"]))
    if session.actions_hash.hexdigest() != record["actions_sha256"]:
        raise NotRunError("played again, the session went another way: the code has changed since it was recorded")
    if not hasattr(getattr(agent, "hare", None), "attention"):
        raise NotRunError(f"{entry.agent} has no attention to show")
    rows = []
    observation, _ = env.reset()
    env.action_space.seed(0)
    for query in range(entry.queries):
        for user in entry.users:
            _, weights = agent.hare.attention(observation["query"], user, by_cluster=True)
            rows += [
                {"user": user, "query": query, "cluster": j, "attention": float(w)} for j, w in enumerate(weights)
            ]
        observation, *_ = env.step(env.action_space.sample())
    env.close()
    return pd.DataFrame(rows)
