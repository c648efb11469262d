"""Tables of results: as data frames, in words, and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hare_evaluation import statistics
from hare_evaluation.figure_entries import RewardTable
from hare_evaluation.judging import Comparison, Finding, Judgement, NotRunError, View
from hare_evaluation.readings import reward_after
from hare_evaluation.results import Labels, Record, Results, measures_of
from hare_evaluation.statistics import Interval
from hare_gym.errors import unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

ALPHA = 0.05
OVERALL = "All environments"


def summary_table(
    records: Iterable[Record], labels: Labels | None = None, reference: str | None = None
) -> RenderableType:
    """The results for a terminal: for each environment a table, a row an agent, and what follows from it in words.

    Args:
        records: Whole records.
        labels: How to call environments and agents.
        reference: The label of the agent that the others are compared with; the best one by default.

    Returns:
        Something for ``rich.print``.

    Raises:
        DataError: There are no records.
        UnknownNameError: The reference is not among the agents.
    """
    from rich.console import Group
    from rich.text import Text

    results = Results.from_records(records, labels)
    parts: list[RenderableType] = []
    for environment in results.environments:
        frame = environment_frame(results, environment, reference)
        parts += [_rich_table(environment, frame), Text(verdict(frame) + "\n", style="dim")]
    overall = overall_frame(results)
    if overall is not None:
        parts += [_rich_table(OVERALL, overall), Text(verdict(overall) + "\n", style="dim")]
    for failure in results.failures:
        where = "" if failure.round is None else f" in round {failure.round}"
        parts.append(
            Text(
                f"FAILED: {failure.agent} on {failure.environment}, seed {failure.seed}{where}: "
                f"{failure.type}: {failure.message}",
                style="red",
            )
        )
    parts += [Text(note, style="yellow") for note in results.notes]
    return Group(*parts)


def environment_frame(results: Results, environment: str, reference: str | None = None) -> pd.DataFrame:
    """One row an agent, best first.

    Columns: ``agent``, ``seeds``, ``failed``, and for final regret ``mean``, ``iqm``, ``difference`` (to the
    reference on the same seeds) each with ``_low`` and ``_high``, ``p`` (of the paired t test, Holm-corrected),
    ``p_sign_flip`` (not corrected), ``win`` (chance of less regret than the reference on the same seed), ``rank``,
    ``slope`` with their ends, and the expected reward a round. For logged data: see :func:`logged_frame`.

    Args:
        results: The study.
        environment: A label of it.
        reference: The label of the agent to compare with. It is chosen before looking at the data, so only
            comparisons with it are counted in the correction. By default it is the best, and all pairs are counted.
    """
    if results.is_logged(environment):
        return logged_frame(results, environment)
    scores = results.scores(environment)
    if reference is not None and reference not in results.agents:
        raise unknown_name("reference agent", reference, results.agents)
    frame = compared([scores], reference)
    curves = {agent: results.curves(environment, agent) for agent in scores.index}
    _add_interval(frame, "slope", {agent: statistics.slope_interval(*curves[agent]) for agent in scores.index})
    expected, rounds = results.scores(environment, "expected_reward"), results.scores(environment, "rounds")
    frame["expected_reward"] = [float((expected / rounds).loc[agent].mean()) for agent in frame["agent"]]
    frame.insert(2, "failed", [results.failed(environment, agent) for agent in frame["agent"]])
    return frame


def overall_frame(results: Results) -> pd.DataFrame | None:
    """All environments together: regret over the Random agent's on the same seed, best first.

    Columns as in :func:`environment_frame`, without the slope. ``None`` without the agent ``random``, or with fewer
    than two environments where regret has a meaning. Agents that were not run on all of these are left out.
    """
    random = results.agent_named("random")
    environments = [
        environment
        for environment in results.environments
        if not results.is_logged(environment) and random in results.agents_of(environment)
    ]
    if random is None or len(environments) < 2:
        return None
    tables = [results.normalised_regret(environment, random) for environment in environments]
    agents = [agent for agent in results.agents if all(agent in table.index for table in tables)]
    if len(agents) < 2:
        return None
    frame = compared([table.loc[agents] for table in tables], None)
    failures = [sum(results.failed(environment, agent) for environment in environments) for agent in frame["agent"]]
    frame.insert(2, "failed", failures)
    frame.attrs["environments"] = environments
    return frame


def compared(tables: list[pd.DataFrame], reference: str | None) -> pd.DataFrame:
    """The columns that regret in one environment and normalised regret in several have in common.

    Args:
        tables: One an environment, all with the same agents as rows; seeds are columns. Lower is better.
        reference: A row to compare with; the best if it is ``None`` or has no value.
    """
    import pandas as pd

    everyone = list(tables[0].index)
    agents = [agent for agent in everyone if all(table.loc[agent].notna().any() for table in tables)]
    scores = [table.loc[agents].to_numpy(dtype=np.float64) for table in tables]
    rows = {agent: [stratum[i] for stratum in scores] for i, agent in enumerate(agents)}
    means = {agent: statistics.mean_interval(rows[agent]) for agent in agents}
    ranks = dict(zip(agents, statistics.rank_intervals(scores, ALPHA), strict=True)) if agents else {}
    order = sorted(agents, key=lambda agent: means[agent].value)
    best = reference if reference in agents else order[0] if order else ""
    found = {agent: statistics.paired_difference(rows[agent], rows[best]) for agent in agents}
    if best != reference:
        table = statistics.pairwise_p_values(scores) if agents else np.ones((0, 0))
        p = {agent: float(table[agents.index(best), i]) for i, agent in enumerate(agents)}
    else:
        others = [agent for agent in agents if agent != reference]
        p = dict(zip(others, statistics.holm([found[agent].p_t for agent in others]).tolist(), strict=True))
    frame = pd.DataFrame(
        {"agent": agents, "seeds": [int(sum((~np.isnan(row)).sum() for row in rows[agent])) for agent in agents]}
    )
    _add_interval(frame, "mean", means)
    _add_interval(frame, "iqm", {agent: statistics.bootstrap_interval(rows[agent]) for agent in agents})
    _add_interval(frame, "difference", {agent: found[agent].difference for agent in agents})
    frame["p"] = [math.nan if agent == best else p[agent] for agent in agents]
    frame["p_sign_flip"] = [math.nan if agent == best else found[agent].p_sign_flip for agent in agents]
    wins = {agent: statistics.probability_of_improvement(rows[agent], rows[best]) for agent in agents}
    _add_interval(frame, "win", wins)
    frame["rank"] = [ranks[agent].rank for agent in agents]
    frame["rank_low"] = [ranks[agent].low for agent in agents]
    frame["rank_high"] = [ranks[agent].high for agent in agents]
    itself = frame["agent"] == best
    frame.loc[itself, [c for c in frame if str(c).startswith(("difference", "win"))]] = math.nan
    # agents of which nothing finished stand at the end, unranked
    frame = frame.set_index("agent").reindex([*order, *(a for a in everyone if a not in agents)]).reset_index()
    frame["seeds"] = frame["seeds"].fillna(0).astype(int)
    frame.attrs.update(reference=best, given=best == reference)
    return frame


def logged_frame(results: Results, environment: str) -> pd.DataFrame:
    """Logged data: reward per observed round and off-policy estimates, one row an agent, in display order.

    Columns: ``agent``, ``seeds``, ``failed``, ``observed`` (mean number of rounds whose reward was seen), ``mean``
    (their mean reward, with Student's interval over seeds), and each estimator's value with ``_low`` and ``_high``.
    All seeds read the same log, so an estimator's value and both ends are averaged over seeds: the standard error of
    an average is at most the average standard error, whatever the dependence, so the interval is not too short.
    """
    import pandas as pd

    agents = results.agents_of(environment)
    finished = {agent: list(results.finished(environment, agent).values()) for agent in agents}
    rewards, observed = results.scores(environment, "mean_reward"), results.scores(environment, "observed")
    frame = pd.DataFrame(
        {
            "agent": agents,
            "seeds": [len(finished[agent]) for agent in agents],
            "failed": [results.failed(environment, agent) for agent in agents],
            "observed": observed.loc[agents].mean(axis=1).tolist(),
        }
    )
    _add_interval(frame, "mean", {agent: statistics.mean_interval([rewards.loc[agent]]) for agent in agents})
    for name in estimators(results, environment):
        _add_interval(frame, name, {agent: _estimate(finished[agent], name) for agent in agents})
    frame.attrs.update(logged=True, logger=logger_rate(results, environment))
    return frame


def estimators(results: Results, environment: str) -> list[str]:
    """The off-policy estimators that the runs of an environment have, in the order of the records."""
    names: dict[str, None] = {}
    for agent in results.agents_of(environment):
        for record in results.finished(environment, agent).values():
            names |= dict.fromkeys(record["estimates"] or {})
    return [name for name in names if name != "logger"]


def logger_rate(results: Results, environment: str) -> float | None:
    """The mean reward in the log itself, where the runs recorded it beside the estimates as ``logger``."""
    for agent in results.agents_of(environment):
        for record in results.finished(environment, agent).values():
            value = ((record["estimates"] or {}).get("logger") or {}).get("value")
            if value is not None:
                return float(value)
    return None


def verdict(frame: pd.DataFrame) -> str:
    """What a table of :func:`environment_frame` or :func:`overall_frame` shows, and what it does not, in words."""
    if frame.attrs.get("logged"):
        rate = frame.attrs["logger"]
        return (
            ("" if rate is None else f"The logger's own mean reward was {number(rate)}. ")
            + "Logged data has no regret. Agents whose intervals overlap are not told apart by this table; an "
            "estimate from few matching rounds has a wide interval."
        )
    done = frame[frame["seeds"] > 0]
    if done.empty:
        return "No run finished."
    if len(done) == 1:
        return f"Only {done['agent'].iloc[0]} finished; there is nothing to compare it with."
    name = frame.attrs["reference"]
    others = done[done["agent"] != name]
    behind = others.loc[(others["p"] < ALPHA) & (others["difference"] > 0), "agent"]
    ahead = others.loc[(others["p"] < ALPHA) & (others["difference"] < 0), "agent"]
    apart = [*behind, *ahead]
    alike = [agent for agent in others["agent"] if agent not in apart]
    start = f"Compared with {name}: " if frame.attrs["given"] else f"{name} has the lowest mean regret. "
    parts = []
    if len(behind):
        parts.append(f"Shown to be worse: {_listed(behind)}.")
    if len(ahead):
        parts.append(f"Shown to be better: {_listed(ahead)}.")
    if alike:
        parts.append(f"Cannot be told apart from it with these seeds: {_listed(alike)}.")
    return start + " ".join(parts)


CLAIM_HEADS = (
    "claim",
    "environment",
    "measure",
    "target",
    "estimate",
    "95% interval",
    "seeds",
    "finding",
    "claim's verdict",
)


def claim_rows(judgements: Sequence[Judgement]) -> list[list[str]]:
    """The cells under `CLAIM_HEADS`: a row a finding, the claim's own words and verdict in its first row only."""
    rows = []
    for judged in judgements:
        text = judged.claim.text
        if not judged.findings:
            rows.append([text, ", ".join(judged.claim.environments), *["—"] * 6, judged.verdict])
        for i, finding in enumerate(judged.findings):
            estimate, ends = _found(finding)
            verdict = judged.verdict if not i else ""
            cells = [finding.environment, finding.measure, finding.target, estimate, ends, str(finding.seeds)]
            rows.append([text if not i else "", *cells, finding.verdict, verdict])
    return rows


def comparison_rows(judged: Judgement) -> list[list[str]]:
    """Environment, measure, agent, estimate, interval and seeds of what stands beside a claim."""
    return [
        [each.environment, each.measure, each.agent, *_found(each), str(each.seeds)] for each in judged.comparisons
    ]


def claims_table(judgements: Sequence[Judgement]) -> RenderableType:
    """The claims for a terminal: verdict first, then each finding's numbers, then why where that needs words."""
    from rich.console import Group
    from rich.text import Text

    colours = {"supported": "green", "not supported": "red", "undecided": "yellow", "not run": "magenta"}
    parts: list[RenderableType] = [Text("Claims", style="bold")]
    for judged in judgements:
        parts.append(Text.assemble((f"{judged.verdict}: ", colours[judged.verdict]), judged.claim.text))
        for finding in judged.findings:
            estimate, ends = _found(finding)
            words = f"  {finding.environment}: {finding.measure} {estimate} {ends}, target {finding.target}"
            seeds = f"{finding.seeds} seed{'s' * (finding.seeds != 1)}"
            parts.append(Text(f"{words}, {seeds}, {finding.verdict}", style="dim"))
        if judged.reason:
            parts.append(Text(f"  {judged.reason}", style="dim"))
    return Group(*parts, Text())


PUBLISHED = "published, other setting"


def reward_frame(entry: RewardTable, view: View) -> pd.DataFrame:
    """The table that a suite asks for, one row an environment and agent: mean reward a round, low, high, seeds.

    Raises:
        NotRunError: None of the runs that it shows was finished.
    """
    import pandas as pd

    rows = []
    for environment in entry.environments:
        for agent in entry.agents:
            records = view.results.finished(environment, agent).values()
            if records:
                found = statistics.mean_interval([np.array([reward_after(one, entry.after) for one in records])])
                row = {"environment": environment, "agent": agent, "mean": found.value}
                rows.append(row | {"low": found.low, "high": found.high, "seeds": len(records)})
    if not rows:
        raise NotRunError(f"none of {', '.join(entry.agents)} finished a run on {', '.join(entry.environments)}")
    return pd.DataFrame(rows)


def measure_rows(results: Results, environment: str) -> tuple[list[str], list[list[str]]] | None:
    """Heads and cells of what an environment measures beside the reward: a round's mean, a row an agent.

    Returns:
        None where it measures nothing, or no run was finished.
    """
    records = {agent: [*results.finished(environment, agent).values()] for agent in results.agents_of(environment)}
    names = next((measures_of(found[0]) for found in records.values() if found), [])
    if not names:
        return None
    body = []
    for agent, found in records.items():
        cells = [agent]
        for name in names if found else ():
            rates = np.array([record["totals"][name] / record["totals"]["rounds"] for record in found])
            mean = statistics.mean_interval([rates])
            cells.append(interval({"m": mean.value, "m_low": mean.low, "m_high": mean.high}, "m"))
        body.append(cells + ["—"] * (len(names) + 1 - len(cells)))
    return ["agent", *names], body


def reward_cells(entry: RewardTable, frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of `reward_frame`: a row an environment, a column an agent, last what was published."""
    found = {
        (row["environment"], row["agent"]): interval(
            {"mean": row["mean"], "mean_low": row["low"], "mean_high": row["high"]}, "mean", 3
        )
        for _, row in frame.iterrows()
    }
    body = [
        [environment, *(found.get((environment, agent), "—") for agent in entry.agents)]
        + ([entry.published.get(environment, "—")] if entry.published else [])
        for environment in entry.environments
    ]
    return ["environment", *entry.agents, *([PUBLISHED] if entry.published else [])], body


def reward_table(entry: RewardTable, view: View) -> RenderableType:
    """The same for a terminal: a row an agent, without the intervals, which the report has."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    try:
        frame = reward_frame(entry, view)
    except NotRunError as error:
        return Text(f"{entry.title}: {error}.", style="yellow")
    table = Table(
        title=Text(entry.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    means = frame.set_index(["environment", "agent"])["mean"]
    for i, head in enumerate(("agent", *entry.environments)):
        table.add_column(Text(head), justify="right" if i else "left", overflow="fold", no_wrap=not i)
    for agent in entry.agents:
        cells = (f"{means[key]:.3f}" if (key := (name, agent)) in means else "—" for name in entry.environments)
        table.add_row(Text(agent), *map(Text, cells))
    told = "".join(f"{PUBLISHED}: {name}: {text}\n" for name, text in entry.published.items())
    return Group(table, Text(f"{told}{entry.note}\n", style="dim"))


def _found(each: Finding | Comparison) -> tuple[str, str]:
    """Estimate and interval, rounded alike; infinite is a time that had not come at the end."""
    found = each.found
    finite = [abs(x) for x in (found.value, found.low, found.high) if math.isfinite(x) and x]
    places = max(0, 2 - math.floor(math.log10(max(finite)))) if finite else 0

    def shown(x: float) -> str:
        return "—" if math.isnan(x) else "never" if math.isinf(x) else f"{x:,.{places}f}".replace("-", "−")

    return shown(found.value), "—" if math.isnan(found.low) else f"[{shown(found.low)}, {shown(found.high)}]"


def number(value: float, digits: int = 3) -> str:
    """``value`` with so many significant digits, thousands grouped, whole digits never cut; ``—`` for NaN."""
    if not math.isfinite(value):
        return "—"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}".replace("-", "−")


def interval(row: Any, name: str, places: int | None = None) -> str:
    """``value [low, high]`` of a row's columns, all rounded alike; the value alone where there is no interval."""
    value, low, high = float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])
    if math.isnan(value) or math.isnan(low):
        return number(value)
    largest = max(abs(value), abs(low), abs(high))
    if places is None:
        places = 0 if largest == 0 else max(0, 2 - math.floor(math.log10(largest)))
    return "{} [{}, {}]".format(*(f"{x:,.{places}f}".replace("-", "−") for x in (value, low, high)))


def p_value(p: float) -> str:
    """A p-value: three places, never a plain zero; ``—`` for NaN."""
    return "—" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def rank(row: Any) -> str:
    """The interval of ranks, ``2–4``, or one rank alone."""
    low, high = int(row["rank_low"]), int(row["rank_high"])
    return f"{low}" if low == high else f"{low}–{high}"


def displayed(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """The heads and cells that terminal and report show of a frame."""
    if frame.attrs.get("logged"):
        names = [str(column)[:-4] for column in frame.columns if str(column).endswith("_low")]
        heads = ["agent", "seeds", "rounds observed", "mean reward of these"]
        heads += [name.upper() if len(name) < 6 else name for name in names[1:]]
        # no interval at the mean: over seeds it would tell of the agent's luck, and nothing of the log's
        body = [
            [row["agent"], _seeds(row), number(row["observed"], 4), number(row["mean"])]
            + [interval(row, name) for name in names[1:]]
            for _, row in frame.iterrows()
        ]
        return heads, body
    what = "normalised regret" if "environments" in frame.attrs else "final regret"
    versus = f"difference to {frame.attrs['reference']}" if frame.attrs["given"] else "above the best"
    heads = ["agent", "seeds", f"mean {what}", "IQM", versus, "p (Holm)", "ranks"]
    body = []
    for _, row in frame.iterrows():
        if not row["seeds"]:
            body.append([row["agent"], _seeds(row), *["—"] * (len(heads) - 2)])
            continue
        cells = [interval(row, name) for name in ("mean", "iqm", "difference")]
        body.append([row["agent"], _seeds(row), *cells, p_value(row["p"]), rank(row)])
    if "slope" in frame:
        heads.append("log–log slope")
        for cells, (_, row) in zip(body, frame.iterrows(), strict=True):
            cells.append(interval(row, "slope", places=2))
    return heads, body


def _rich_table(title: str, frame: pd.DataFrame) -> Any:
    """The displayed table, narrowed to 80 characters: what it leaves out is in the report."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heads, body = displayed(frame)
    shown = [i for i, head in enumerate(heads) if head not in ("SNIPS", "DM")]
    table = Table(
        title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for i in shown:
        table.add_column(Text(heads[i].removeprefix("log–log ")), justify="right" if i else "left", overflow="fold")
    for cells in body:
        if "slope" in frame:
            cells[-1] = cells[-1].partition(" [")[0]
        broken = [cells[0].replace(" (", "\n("), *(cell.replace(" [", "\n[") for cell in cells[1:])]
        table.add_row(*(Text(broken[i]) for i in shown))
    return table


def _seeds(row: Any) -> str:
    return f"{row['seeds']} of {row['seeds'] + row['failed']}" if row["failed"] else str(row["seeds"])


def _listed(names: Iterable[str]) -> str:
    *most, last = list(names)
    return f"{', '.join(most)} and {last}" if most else last


def _add_interval(frame: pd.DataFrame, name: str, found: dict[str, Interval]) -> None:
    for part in ("value", "low", "high"):
        column = name if part == "value" else f"{name}_{part}"
        frame[column] = [getattr(found[agent], part) for agent in frame["agent"]]


def _estimate(records: list[Record], name: str) -> Interval:
    parts = [record["estimates"][name] for record in records if name in (record["estimates"] or {})]
    if not parts:
        return Interval(math.nan, math.nan, math.nan)
    value, low, high = (
        float(np.mean([math.nan if part.get(key) is None else part[key] for part in parts]))
        for key in ("value", "low", "high")
    )
    return Interval(value, low, high)
