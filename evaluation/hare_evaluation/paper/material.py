"""What the paper's sections are made of, and what several of them need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hare_evaluation.drawings import drawing
from hare_evaluation.judging import NotRunError, View
from hare_evaluation.paper.document import Picture, Sources
from hare_evaluation.paper.experiments import Kept
from hare_evaluation.paper.plan import Endpoint, Plan
from hare_evaluation.paper.verdicts import Verdict
from hare_evaluation.statistics import Interval


@dataclass(frozen=True)
class Material:
    """Everything that the sections are made of.

    Attributes:
        plan: The plan.
        scale: The name of the scale.
        views: The studies by suite.
        verdicts: In the plan's order.
        kept: Experiments by name.
        why: Why an experiment was not made, by name.
        sources: Takes what is cited.
    """

    plan: Plan
    scale: str
    views: Mapping[str, View]
    verdicts: Sequence[Verdict]
    kept: Mapping[str, Kept]
    why: Mapping[str, str]
    sources: Sources


def not_run(material: Material, name: str) -> str:
    """That an experiment was not made, and why."""
    return f"Not run: {material.why.get(name, 'the scale leaves it out')}."


def suite_picture(material: Material, suite: str, id: str) -> Picture | str:
    """A figure that a suite asks for, or why it cannot be drawn."""
    entry = suite_figure(material, suite, id)
    if entry is None:
        return f"the suite {suite} was not run"
    view = material.views[suite]
    try:
        made = drawing(entry, view)
    except NotRunError as error:
        return str(error)
    pairs = [(environment, agent) for environment in entry.environments for agent in entry.labels()]
    source = material.sources.records(suite, [pair for pair in pairs if pair in view.results.runs])
    return Picture(f"{suite}-{id}", entry.title, made.caption, made.frame, made.draw, source)


def suite_figure(material: Material, suite: str, id: str) -> Any:
    """The entry of a suite's figure; None where the suite was not run or has no such figure."""
    if suite not in material.views:
        return None
    return next((entry for entry in material.views[suite].study.figures if entry.id == id), None)


def endpoint_source(material: Material, endpoint: Endpoint) -> str:
    """The id of the records that an endpoint is computed from."""
    pairs = [(endpoint.environment, agent) for agent in (endpoint.agent, endpoint.other) if agent]
    return material.sources.records(endpoint.suite, pairs)


def target(endpoint: Endpoint) -> str:
    """What an endpoint's estimate has to reach, in words."""
    if endpoint.margin is not None:
        return f"> −{endpoint.margin:g}"
    return f"≥ {endpoint.smallest:g}" if endpoint.direction == "greater" else f"≤ −{endpoint.smallest:g}"


def number(value: float) -> str:
    """Three significant digits, a true minus; — for NaN."""
    return "—" if math.isnan(value) else f"{value:.3g}".replace("-", "−")


def interval(found: Interval) -> str:
    """``value [low, high]``, all rounded alike; the value alone without an interval."""
    if math.isnan(found.value) or math.isnan(found.low):
        return number(found.value)
    largest = max(abs(found.value), abs(found.low), abs(found.high))
    places = 0 if largest == 0 else max(0, 2 - math.floor(math.log10(largest)))
    return "{} [{}, {}]".format(*(f"{x:,.{places}f}".replace("-", "−") for x in (found.value, found.low, found.high)))
