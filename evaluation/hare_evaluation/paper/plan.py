"""The paper's plan as data: hypotheses with their endpoints, and what is run at which scale.

The plan that comes with the package is ``evaluation/suites/hypotheses.yaml``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hare_evaluation.safe_yaml import load_yaml, read_capped
from hare_evaluation.spec import PLAN_FILE, Suite, load_suite, suite_folder
from hare_gym.errors import ConfigError, unknown_name

Measure = Literal[
    "log_regret_ratio", "reward_gap", "gap_growth", "diagnostic_slope", "rank_correlation", "catalogue_margin",
    "log_variety",
]  # fmt: skip


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pilot(_Entry):
    """The spread over seeds that was seen beforehand, on seeds that the paper does not use."""

    sd: float = Field(gt=0)
    seeds: int = Field(ge=2)


class Endpoint(_Entry):
    """One number a seed, and what it must show.

    Attributes:
        id: Its name within the hypothesis.
        suite: The suite whose runs it is of.
        environment: The label of one of its environments.
        agent: The label of an agent.
        other: The label of the agent that it is compared with, where the measure compares.
        measure: What is computed of a seed's records, see `hare_evaluation.paper.endpoints`.
        diagnostic: For ``diagnostic_slope`` and ``rank_correlation``: of which.
        against: For ``rank_correlation``: with which.
        users: For both: ``all``, ``late`` or ``early`` users.
        last: For ``catalogue_margin``: over which last share of the rounds.
        direction: Whether the hypothesis says that the number is ``greater`` or ``less`` than 0.
        smallest: The smallest effect that matters, positive, in the measure's units.
        margin: Instead of ``smallest``, for an endpoint of non-inferiority: what may be lost at most.
        pilot: The spread that the power analysis assumes.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    suite: str
    environment: str
    agent: str
    other: str = ""
    measure: Measure
    diagnostic: str = ""
    against: str = ""
    users: Literal["all", "late", "early"] = "all"
    last: float = Field(default=0.1, gt=0, le=1)
    direction: Literal["greater", "less"] = "greater"
    smallest: float | None = Field(default=None, gt=0)
    margin: float | None = Field(default=None, gt=0)
    pilot: Pilot | None = None

    def model_post_init(self, context: Any) -> None:
        """Refuses an endpoint that states no target, or two."""
        if (self.smallest is None) == (self.margin is None):
            raise ValueError("give either smallest (an effect) or margin (non-inferiority)")

    @property
    def sign(self) -> float:
        """What turns the number so that the hypothesis is upwards."""
        return 1.0 if self.direction == "greater" else -1.0

    @property
    def null(self) -> float:
        """What has to be exceeded, in the hypothesis's direction."""
        return 0.0 if self.margin is None else -self.margin

    @property
    def least(self) -> float:
        """What the estimate has to reach."""
        return -self.margin if self.margin is not None else float(self.smallest or 0.0)


class Hypothesis(_Entry):
    """A statement that holds only if every endpoint does."""

    id: str = Field(pattern=r"^[a-z0-9]+$")
    name: str
    statement: str = Field(min_length=1)
    why: str = ""
    endpoints: list[Endpoint] = Field(min_length=1)
    figures: list[str] = []
    mixed: list[str] = []

    def environments(self) -> list[str]:
        """The environments of its endpoints."""
        return list(dict.fromkeys(endpoint.environment for endpoint in self.endpoints))


class Share(_Entry):
    """How much of a suite is run: so many seeds, and this share of every horizon."""

    seeds: int = Field(ge=1)
    horizon: float = Field(default=1.0, gt=0, le=1)


class Part(_Entry):
    """A suite of the paper, what it is for, and how many CPU seconds one of its runs takes at the whole horizon.

    ``suite`` is a built-in one's name, or the path of a file beside the plan, which goes by its name without
    ``.yaml``.
    """

    suite: str
    title: str
    seconds: float = Field(gt=0)

    @property
    def name(self) -> str:
        """What scales and endpoints call it."""
        return Path(self.suite).stem


EXPERIMENTS = ("conditioned", "profiles", "five-users", "ten-rounds", "decoders")
"""The experiments that need texts: A, B, C, D, and the scaling over decoders."""


class Scale(_Entry):
    """A size of the paper.

    Attributes:
        about: In a sentence.
        parts: By suite, how much of it is run; a suite without an entry is left out.
        texts: Of how many sessions texts are looked at (experiments B and D).
        rounds: Rounds of history a user before experiment C asks.
        contents: For how many contents every decoder writes.
        experiments: Which of `EXPERIMENTS` are made.
        extra_seconds: CPU seconds of everything that is no run: metrics of texts, experiments, figures.
    """

    about: str
    parts: dict[str, Share]
    texts: int = Field(ge=1)
    rounds: int = Field(ge=1)
    contents: int = Field(ge=2)
    experiments: list[str] = [*EXPERIMENTS]
    extra_seconds: float = Field(ge=0)


class Plan(_Entry):
    """The whole plan.

    Attributes:
        title: The paper's.
        alpha: The chance of a false verdict among all of them, for either kind.
        seed_set: The set of seeds that all its suites must use.
        stopping: When the runs stop, in words.
        test: How an endpoint is tested, in words.
        power: The power that the least detectable effect is stated for.
        parts: The suites.
        profiles: Experiment B's users, by name: shares of domains.
        scales: The sizes by name; the last is the default.
        hypotheses: What is claimed.
    """

    title: str
    alpha: float = Field(gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0, lt=1)
    seed_set: str
    stopping: str
    test: str
    parts: list[Part]
    profiles: dict[str, dict[str, float]]
    scales: dict[str, Scale]
    hypotheses: list[Hypothesis] = Field(min_length=1)
    source: str = ""
    digest: str = ""

    def scale(self, name: str) -> Scale:
        """A scale by name; raises UnknownNameError."""
        if name not in self.scales:
            raise unknown_name("scale", name, list(self.scales))
        return self.scales[name]

    @cached_property
    def whole(self) -> dict[str, Suite]:
        """The suites as they are, by name; a relative path is looked for beside the plan."""
        found = {}
        for part in self.parts:
            path = Path(self.source).parent / part.suite
            found[part.name] = load_suite(str(path) if path.suffix in (".yaml", ".yml") else part.suite)
        return found

    def suites(self, scale: str) -> dict[str, Suite]:
        """The suites that a scale runs, with its seeds and horizons, by name."""
        shares = self.scale(scale).parts
        return {name: shortened(suite, shares[name]) for name, suite in self.whole.items() if name in shares}

    def seconds(self, scale: str) -> dict[str, float]:
        """Expected CPU seconds of one run of each suite."""
        shares = self.scale(scale).parts
        return {part.name: part.seconds * shares[part.name].horizon for part in self.parts if part.name in shares}

    def check(self) -> None:
        """Finds what does not fit together.

        Raises:
            UnknownNameError: A label or suite that is not there.
            ConfigError: A suite on other seeds, or one that is in no part.
        """
        for name, suite in self.whole.items():
            if suite.seeds.set != self.seed_set:
                raise ConfigError(
                    f"The suite {name} is on the seed set {suite.seeds.set!r}; everything of {self.source} is to be "
                    f"on {self.seed_set!r}."
                )
        for scale in self.scales.values():
            for name in scale.experiments:
                if name not in EXPERIMENTS:
                    raise unknown_name("experiment of a scale", name, EXPERIMENTS)
            for name in scale.parts:
                if name not in self.whole:
                    raise unknown_name("suite of a scale", name, self.whole)
        for hypothesis in self.hypotheses:
            for endpoint in hypothesis.endpoints:
                where = f"of the endpoint {hypothesis.id}/{endpoint.id}"
                if endpoint.suite not in self.whole:
                    raise unknown_name(f"suite {where}", endpoint.suite, self.whole)
                players = self.whole[endpoint.suite].study.players
                if endpoint.environment not in players:
                    raise unknown_name(f"environment {where}", endpoint.environment, players)
                for label in filter(None, (endpoint.agent, endpoint.other)):
                    if label not in players[endpoint.environment]:
                        raise unknown_name(f"agent {where}", label, players[endpoint.environment])
            for mixed in hypothesis.mixed:
                known = [endpoint.id for endpoint in hypothesis.endpoints]
                if mixed not in known:
                    raise unknown_name(f"endpoint of a mixed model of {hypothesis.id}", mixed, known)


def shortened(suite: Suite, share: Share) -> Suite:
    """A suite with so many seeds, and every horizon times a share, rounded down."""
    environments = []
    for entry in suite.environments:
        horizon = entry.kwargs.get("horizon")
        kwargs = (
            entry.kwargs if horizon is None else {**entry.kwargs, "horizon": max(1, int(horizon * share.horizon))}
        )
        environments.append(entry.model_copy(update={"kwargs": kwargs}))
    seeds = suite.seeds.model_copy(update={"count": share.seeds})
    return suite.model_copy(update={"seeds": seeds, "environments": environments})


def load_plan(path: Path | None = None) -> Plan:
    """The plan of a file, or the one that comes with the package.

    Raises:
        ConfigError: A file that cannot be read, or is no plan.
        UnknownNameError: A name in it that does not exist.
    """
    path = suite_folder() / PLAN_FILE if path is None else Path(path)
    text = read_capped(path, f"The plan {path}")
    values = load_yaml(text, f"The plan {path}")
    if not isinstance(values, Mapping):
        raise ConfigError(f"The plan {path} must be a mapping with hypotheses, parts and scales.")
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        plan = Plan.model_validate({**values, "source": str(path), "digest": digest})
    except ValidationError as invalid:
        error = invalid.errors()[0]
        place = ".".join(map(str, error["loc"]))
        raise ConfigError(f"{place} in the plan {path}: {error['msg']}.") from None
    plan.check()
    return plan
