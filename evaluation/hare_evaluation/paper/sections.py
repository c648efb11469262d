"""The paper's sections, from verdicts, records and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hare_evaluation.judging import NotRunError
from hare_evaluation.paper import drawings as own
from hare_evaluation.paper import mixed
from hare_evaluation.paper.document import Cell, Picture, Section, Table
from hare_evaluation.paper.endpoints import described, placed
from hare_evaluation.paper.material import Material, endpoint_source, interval, number, suite_picture, target
from hare_evaluation.paper.text_sections import experiment_sections
from hare_evaluation.paper.verdicts import Tested, Verdict, power, with_seeds, without_one
from hare_evaluation.tables import p_value

if TYPE_CHECKING:
    import pandas as pd

SENSITIVITY_FROM = 3


def sections(material: Material) -> list[Section]:
    """The whole paper, in order. A figure that two hypotheses show is drawn with the first."""
    seen: set[str] = set()
    made = [_overview(material), _before(material)]
    made += [_hypothesis(material, verdict, seen) for verdict in material.verdicts]
    made += [*experiment_sections(material), _sensitivity(material)]
    return made


# -- verdicts ------------------------------------------------------------------------------------------------------


def _overview(material: Material) -> Section:
    rows: list[list[Cell | str]] = []
    for verdict in material.verdicts:
        for i, part in enumerate(verdict.tested):
            source = endpoint_source(material, part.endpoint)
            head = [f"{verdict.hypothesis.name}. {verdict.hypothesis.statement}", verdict.verdict]
            head += [p_value(verdict.p_support), p_value(verdict.p_refute)]
            rows.append(
                [
                    *(head if not i else [""] * 4),
                    placed(part.endpoint),
                    Cell(interval(part.found), source),
                    target(part.endpoint),
                    Cell(str(len(part.values)), source),
                ]
            )
        if not verdict.tested:
            statement = f"{verdict.hypothesis.name}. {verdict.hypothesis.statement}"
            rows.append([statement, verdict.verdict, "—", "—", verdict.reason, "—", "—", "0"])
    heads = ["hypothesis", "verdict", "p for", "p against", "endpoint", "effect [95%]", "needed", "seeds"]
    frame = _endpoint_frame(material.verdicts)
    pictures = []
    if len(frame):
        caption = (
            "Every endpoint, turned so that the hypothesis is to the right and divided by the smallest effect that "
            "matters: 0 is no effect, the dashed line what an estimate has to reach. For non-inferiority the dotted "
            "line is the margin. Bars are 95% intervals over seeds, not corrected; the axis is linear up to 2."
        )
        pictures = [Picture("endpoints", "All endpoints", caption, frame, lambda: own.endpoint_forest(frame))]
    counts = [f"{sum(v.verdict == name for v in material.verdicts)} {name}" for name in own.VERDICT_COLOURS]
    lead = (
        f"{len(material.verdicts)} hypotheses: {', '.join(counts)}. Supported: every endpoint's estimate reaches "
        f"what is needed, and the corrected p-value is below {material.plan.alpha:g}. Not supported: some effect is "
        "shown to be smaller than what matters. Undecided: neither. p-values are corrected by Holm across all "
        "hypotheses."
    )
    return Section("verdicts", "Verdicts", [lead], [Table("verdicts", "Hypotheses", heads, rows)], pictures)


def _endpoint_frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for verdict in verdicts:
        for part in verdict.tested:
            value, low, high = _scaled(part)
            kind = "superiority" if part.endpoint.margin is None else "non-inferiority"
            names = {"hypothesis": verdict.hypothesis.name, "endpoint": part.endpoint.id, "kind": kind}
            rows.append(names | {"verdict": verdict.verdict, "value": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def _scaled(part: Tested) -> tuple[float, float, float]:
    """Mean and interval, hypothesis upwards, in units of the smallest effect that matters (or the margin)."""
    unit = abs(part.endpoint.least)
    ends = sorted(part.endpoint.sign * end / unit for end in (part.found.low, part.found.high))
    return part.endpoint.sign * part.found.value / unit, ends[0], ends[1]


def _before(material: Material) -> Section:
    plan = material.plan
    m, shares = len(plan.hypotheses), plan.scale(material.scale).parts
    rows: list[list[Cell | str]] = []
    for hypothesis in plan.hypotheses:
        for endpoint in hypothesis.endpoints:
            n = shares[endpoint.suite].seeds if endpoint.suite in shares else 0
            found = power(endpoint, n, plan.alpha / m, plan.power)
            cells = ["—"] * 4
            if found is not None and endpoint.pilot is not None:
                cells = [
                    f"{endpoint.pilot.sd:.3g}",
                    f"{found.at_smallest:.0%}" if endpoint.margin is None else f"{found.at_smallest:.0%} (no loss)",
                    f"{found.at_twice:.0%}" if endpoint.margin is None else "—",
                    f"{found.detectable:.3g}".replace("-", "−"),
                ]
            rows.append([f"{hypothesis.name} {endpoint.id}", placed(endpoint), target(endpoint), str(n), *cells])
    heads = [
        "endpoint",
        "measure",
        "needed",
        "seeds",
        "pilot's SD",
        "power at the smallest effect",
        "power at twice that",
        "least detectable effect",
    ]
    note = (
        f"Power at the strictest of Holm's steps (one-sided {plan.alpha:g} / {m}), for normal numbers with the "
        "pilot's spread; support also asks that the estimate reach what is needed, which an effect of just that "
        f"size does in half of all studies. The least detectable effect has a power of {plan.power:.0%}. A "
        "hypothesis of several endpoints needs all of them, so its power is lower."
    )
    paragraphs = [
        f"Everything in this section was fixed before the runs, in a file with the SHA-256 {plan.digest[:16]}….",
        f"Test. {plan.test}",
        f"Stopping. {plan.stopping}",
        f"Seeds. The set “{plan.seed_set}”; nothing was designed, tuned or piloted on it. The pilot's spreads are of "
        "the "
        f"set “{plan.seed_set}-pilot”.",
    ]
    title = "Before the runs: what was fixed, and what it can show"
    return Section(
        "before", title, paragraphs, [Table("power", "Power and least detectable effect", heads, rows, note)]
    )


def _hypothesis(material: Material, verdict: Verdict, seen: set[str]) -> Section:
    hypothesis = verdict.hypothesis
    rows: list[list[Cell | str]] = []
    for part in verdict.tested:
        source = endpoint_source(material, part.endpoint)
        low, high = without_one(part)
        rows.append(
            [
                part.endpoint.id,
                described(part.endpoint),
                part.endpoint.environment,
                Cell(interval(part.found), source),
                target(part.endpoint),
                part.test,
                Cell(p_value(part.p_support), source),
                Cell(p_value(part.p_refute), source),
                Cell(f"{number(low)} to {number(high)}", source),
            ]
        )
    heads = [
        "endpoint",
        "measure",
        "environment",
        "effect [95%]",
        "needed",
        "test",
        "p for",
        "p against",
        "without any one seed",
    ]
    tables = (
        [
            Table(
                f"{hypothesis.id}-endpoints",
                "Endpoints",
                heads,
                rows,
                "p-values are one-sided and not corrected; the hypothesis's corrected ones stand with its verdict.",
            )
        ]
        if rows
        else []
    )
    tables += _mixed_tables(material, verdict)
    pictures = [_strips(verdict)] if rows else []
    notes = []
    for name in hypothesis.figures:
        suite, _, id = name.partition("/")
        anchor = f"{suite}-{id}"
        if anchor in seen:
            notes.append(f"See also the figure [{anchor}].")
            continue
        drawn = suite_picture(material, suite, id)
        if isinstance(drawn, str):
            notes.append(f"Not drawn: {drawn}.")
        else:
            seen.add(anchor)
            pictures.append(drawn)
    corrected = f"Corrected p for: {p_value(verdict.p_support)}; against: {p_value(verdict.p_refute)}."
    paragraphs = [hypothesis.statement, hypothesis.why, *([corrected] if rows else [])]
    if verdict.reason:
        paragraphs.append(f"Why {verdict.verdict}: {verdict.reason}.")
    title = f"{hypothesis.name}. {hypothesis.statement}"
    return Section(
        hypothesis.id, title, [p for p in paragraphs[1:] if p], tables, pictures, verdict.verdict, notes=notes
    )


def _strips(verdict: Verdict) -> Picture:
    import pandas as pd

    rows = []
    for part in verdict.tested:
        e = part.endpoint
        ends = sorted(e.sign * end for end in (part.found.low, part.found.high))
        shared = {
            "endpoint": f"{e.id}: {described(e)}",
            "least": e.least,
            "null": e.null,
            "mean": e.sign * part.found.value,
        }
        shared |= {"low": ends[0], "high": ends[1]}
        rows += [shared | {"seed": seed[1], "value": value} for seed, value in part.values.items()]
    frame = pd.DataFrame(rows)
    caption = (
        "A dot is a seed, the diamond their mean with its 95% interval, the line what has to be exceeded, the "
        "dashed line what the mean has to reach. Numbers are turned so that the hypothesis is to the right."
    )
    id = f"{verdict.hypothesis.id}-seeds"
    return Picture(id, "Every seed", caption, frame, lambda: own.seed_strips(frame))


def _mixed_tables(material: Material, verdict: Verdict) -> list[Table]:
    rows: list[list[Cell | str]] = []
    for part in verdict.tested:
        e = part.endpoint
        if e.id not in verdict.hypothesis.mixed:
            continue
        results = material.views[e.suite].results
        pair = (results.finished(e.environment, agent) for agent in (e.agent, e.other))
        try:
            found = mixed.fit(mixed.differences(*pair))
        except NotRunError as error:
            rows.append([f"{e.agent} − {e.other}", str(error), *["—"] * 6])
            continue
        source = endpoint_source(material, e)
        rows.append(
            [
                f"{e.agent} − {e.other}",
                Cell(interval(found.method), source),
                Cell(interval(found.interaction), source),
                Cell(p_value(found.p), source),
                *(
                    Cell(number(sd), source)
                    for sd in (found.seed_sd, found.slope_sd, found.user_sd, found.residual_sd)
                ),
            ]
        )
    if not rows:
        return []
    heads = ["reward", "lead (method)", "growth per e-fold of visits (rounds × method)", "p"]
    heads += ["SD of seeds", "SD of their slopes", "SD of users", "residual SD"]
    note = (
        "Differences of the two agents for the same user of the same seed in ranges of visits 1, 2, 3–4, 5–8, …; "
        "random intercepts of seeds and of users within them, random slopes of seeds; t with seeds − 1 degrees of "
        "freedom. It stands beside the verdict, which rests on the endpoints alone."
    )
    return [Table(f"{verdict.hypothesis.id}-mixed", "Mixed model: rounds × method", heads, rows, note)]


def _sensitivity(material: Material) -> Section:
    import pandas as pd

    title = "After the runs: sensitivity to the number of seeds"
    most = max((len(part.values) for v in material.verdicts for part in v.tested), default=0)
    counts = list(range(SENSITIVITY_FROM, most + 1))
    if not counts:
        return Section("sensitivity", title, ["Too few seeds to leave any out."])
    points: list[dict[str, Any]] = []
    told: dict[str, list[str]] = {v.hypothesis.name: [] for v in material.verdicts}
    shown = sorted({*np.unique(np.linspace(counts[0], counts[-1], 6).astype(int)).tolist()})
    for n in counts:
        verdicts = with_seeds(material.verdicts, n, material.plan.alpha)
        for verdict in verdicts:
            if n in shown:
                told[verdict.hypothesis.name].append(verdict.verdict)
            for part in verdict.tested:
                value, low, high = _scaled(part)
                names = {"hypothesis": verdict.hypothesis.name, "endpoint": part.endpoint.id, "seeds": n}
                points.append(names | {"value": value, "low": low, "high": high, "verdict": verdict.verdict})
    frame = pd.DataFrame(points)
    rows: list[list[Cell | str]] = [[name, *cells] for name, cells in told.items()]
    text = (
        "What the first so many seeds would have said, with the same rules. It is shown after the fact and decides "
        "nothing: the number of seeds was fixed. Verdicts that need many seeds show up as undecided on the left."
    )
    heads = ["hypothesis", *(f"{n} seeds" for n in shown)]
    caption = "Estimates with 95% intervals by the number of seeds, in units of the smallest effect that matters."
    picture = Picture(
        "sensitivity", "Estimates by the number of seeds", caption, frame, lambda: own.seed_sensitivity(frame)
    )
    return Section(
        "sensitivity",
        title,
        [text],
        [Table("sensitivity", "Verdicts by the number of seeds", heads, rows)],
        [picture],
    )
