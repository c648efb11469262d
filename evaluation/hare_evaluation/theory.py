"""The bounds of docs/theory.md as functions, and the measurements that stand beside them: ``hare theory``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_evaluation.environments import make
from hare_evaluation.pages import Table
from hare_evaluation.runner import seeds as seeds_of
from hare_evaluation.spec import AgentEntry, EnvironmentEntry, Plan, Seeds, Suite
from hare_evaluation.statistics import Interval, log_log_slope, mean_interval, paired_difference, slope_interval
from hare_evaluation.store import Record
from hare_evaluation.tables import number
from hare_evaluation.theory_probes import true_means
from hare_gym.errors import DataError

Array = NDArray[np.float64]

COMMAND = "hare theory"
SEEDS, HORIZON = 6, 10_000
ALPHA = 0.3
LINUCB, CORE, FIXED, HARE, RANDOM = "LinUCB (joint)", "HARE's core", "HARE's core, fixed prior", "HARE", "Random"
LINEAR, NONLINEAR, LATE = "linear", "nonlinear", "late users"
SWEEPS: dict[str, tuple[int, ...]] = {
    "num_users": (5, 10, 20, 40, 80),
    "dim": (4, 8, 12, 16),
    "num_items": (16, 64, 256),
    "num_clusters": (4, 16, 64),
}
NAMES = {"num_users": "users U", "dim": "dimension d", "num_items": "items N", "num_clusters": "clusters K"}
BASE = {"num_users": 20, "dim": 8, "num_items": 64, "num_clusters": 16}


@dataclass(frozen=True)
class Bound:
    """Theorem 1 of docs/theory.md in figures, for ``HareLinear-v0``.

    Attributes:
        T: Rounds.
        d: Length of queries and of contents.
        U: Users.
        ridge: Prior precision of the shared coefficients, lambda_0.
        user_ridge: Prior precision of a user's coefficients, lambda_1.
        concentration: kappa of the Beta reward.
        delta: Chance that the bound fails.
    """

    T: float
    d: int = 8
    U: int = 20
    ridge: float = 1.0
    user_ridge: float = 1.0
    concentration: float = 10.0
    delta: float = 0.05

    @property
    def k(self) -> int:
        """Shared coefficients."""
        return 1 + (self.d + 1) * self.d

    @property
    def D(self) -> int:
        """All coefficients."""
        return self.k + self.U * self.d

    @property
    def sigma(self) -> float:
        """The noise's sub-Gaussian scale: that of a Beta variate (Marchal and Arbel 2017, Theorem 2.1)."""
        return 0.5 / math.sqrt(self.concentration + 1.0)

    @property
    def log_det_users(self) -> float:
        """A bound of Σ_u ln det(A_u / lambda_1)."""
        n = self.U * self.d
        return n * math.log1p(self.T / (n * self.user_ridge))

    @property
    def log_det(self) -> float:
        """A bound of ln det(A_T A_0⁻¹), twice the information gain for unit noise."""
        return self.k * math.log1p(3.0 * self.T / (self.k * self.ridge)) + self.log_det_users

    @property
    def potential(self) -> float:
        """A bound of Σ w_t²."""
        most = 3.0 / self.ridge + 1.0 / self.user_ridge
        return most / math.log1p(most) * self.log_det

    @property
    def radius(self) -> float:
        """beta_T: so many widths from the estimate lies every true mean, in all rounds at once."""
        norm = math.sqrt(self.ridge * (0.25 + self.d / 16.0) + self.user_ridge * self.U / 16.0)
        return self.sigma * math.sqrt(2.0 * math.log(1.0 / self.delta) + self.log_det) + norm

    @property
    def regret(self) -> float:
        """A bound of the regret of LinUCB with alpha = beta_T, with probability 1 − delta."""
        return 2.0 * self.radius * math.sqrt(self.T * self.potential)

    @cached_property
    def informative_from(self) -> float:
        """The horizon from which the bound is below T, which no agent's regret exceeds."""
        low, high = 1.0, 2.0
        while replace(self, T=high).regret >= high:
            low, high = high, 2.0 * high
        while high - low > 1e-3 * high:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if replace(self, T=middle).regret >= middle else (low, middle)
        return high


def study(seeds: int = SEEDS, horizon: int = HORIZON) -> Suite:
    """What is run: growth with time at the whole horizon, everything else at two fifths of it."""
    short = max(horizon * 2 // 5, 1)
    environments = [
        EnvironmentEntry(id="HareLinear-v0", label=LINEAR, kwargs={"horizon": horizon}),
        EnvironmentEntry(id="HareBilinear-v0", label=NONLINEAR, kwargs={"horizon": horizon}),
        EnvironmentEntry(
            id="HareLinear-v0",
            label=LATE,
            kwargs={"horizon": short, "num_users": 80, "late_users": 0.75, "late_from": 0.25},
        ),
    ]
    swept = list(dict.fromkeys(_label(knob, value) for knob, values in SWEEPS.items() for value in values))
    for knob, values in SWEEPS.items():
        for value in values:
            label = _label(knob, value)
            if label in swept:
                swept.remove(label)
                kwargs = {"horizon": short} | ({} if value == BASE[knob] else {knob: value})
                environments.append(EnvironmentEntry(id="HareLinear-v0", label=label, kwargs=kwargs))
    grown, sweeps = [LINEAR, NONLINEAR], [entry.label for entry in environments[3:]]
    core = {"attention": False, "cluster_values": False, "alpha": 0.0, "change_threshold": 0.0}
    linucb, hare = "hare_evaluation.theory_probes:ProbedLinUCB", "hare_evaluation.theory_probes:ProbedHARE"
    return Suite(
        name="theory",
        title="Theory beside measurement",
        seeds=Seeds(set="theory", count=seeds),
        environments=environments,
        agents=[
            AgentEntry(name=linucb, label=LINUCB, kwargs={"alpha": ALPHA}, environments=[*grown, *sweeps]),
            AgentEntry(name=hare, label=CORE, kwargs=core, environments=[*grown, LATE, *sweeps]),
            AgentEntry(name=hare, label=FIXED, kwargs={**core, "population": False}, environments=[LATE]),
            AgentEntry(name=hare, label=HARE, environments=grown),
            AgentEntry(name="random", label=RANDOM, environments=sweeps),
        ],
    )


def _label(knob: str, value: int) -> str:
    return "base" if value == BASE[knob] else f"{NAMES[knob]} = {value}"


class Measured:
    """The records of a `study`, by the labels of environment and agent."""

    def __init__(self, plan: Plan, records: Iterable[Record]) -> None:
        """Groups records.

        Raises:
            DataError: A run failed.
        """
        self._records: dict[tuple[str, str], list[Record]] = {}
        labels = plan.labels
        for record in records:
            spec = record["spec"]
            environment = labels.environments[labels.environment_key(spec["env"], spec["env_kwargs"])]
            agent = labels.agents[labels.agent_key(spec["agent"], spec["agent_kwargs"])]
            if record["status"] != "ok":
                error = record["error"]
                raise DataError(f"{agent} on {environment} failed, so there is no table: {error['message']}")
            self._records.setdefault((environment, agent), []).append(record)
        first = self._of(LINEAR, LINUCB)
        self.seeds, self.T = len(first), int(first[0]["totals"]["rounds"])
        self.T_short = int(self._of("base", LINUCB)[0]["totals"]["rounds"])

    def _of(self, environment: str, agent: str) -> list[Record]:
        return self._records[environment, agent]

    def regret(self, environment: str, agent: str) -> Array:
        """Final regret of every seed, ``(n,)``."""
        return np.array([record["totals"]["regret"] for record in self._of(environment, agent)])

    def curves(self, environment: str, agent: str) -> tuple[Array, Array]:
        """Checkpoints ``(C,)`` and regret there, ``(n, C)``."""
        records = self._of(environment, agent)
        return np.array(records[0]["rounds"]), np.array([record["curves"]["regret"] for record in records])

    def told(self, environment: str, agent: str, name: str, share: float = 1.0) -> Array:
        """A probe's figure, ``(n,)``, at the checkpoint nearest to ``share`` of the horizon."""
        place = self.place(environment, agent, share)
        return np.array([record["diagnostics"][name][place] for record in self._of(environment, agent)])

    def place(self, environment: str, agent: str, share: float) -> int:
        """The checkpoint with diagnostics that lies nearest (in ratio) to ``share`` of the horizon."""
        record = self._of(environment, agent)[0]
        rounds = np.array(record["rounds"])
        told = np.flatnonzero([value is not None for value in record["diagnostics"]["log_det"]])
        return int(told[np.abs(np.log(rounds[told] / (share * rounds[-1]))).argmin()])


def tables(measured: Measured) -> list[Table]:
    """Everything that the page shows."""
    return [
        _growth_table(measured),
        _dependence_table(measured),
        _coverage_table(measured),
        _potential_table(measured),
        _prior_table(measured),
        _misfit_table(measured),
    ]


def _growth_table(measured: Measured) -> Table:
    rows = []
    for environment in (LINEAR, NONLINEAR):
        for agent in (LINUCB, CORE, HARE):
            rounds, regrets = measured.curves(environment, agent)
            slope = slope_interval(rounds, regrets)
            predicted = math.nan
            if agent != HARE:
                bounds = [Bound(t).regret for t in rounds.tolist()]
                predicted = log_log_slope(rounds, bounds) if environment == LINEAR else 1.0
            rows.append(
                [
                    f"{agent}, {environment}",
                    _interval(mean_interval([regrets[:, -1]]), 0),
                    _interval(slope, 2),
                    "none proven" if math.isnan(predicted) else f"{predicted:.2f}",
                    _verdict(slope, predicted),
                ]
            )
    heads = ["agent, world", "regret at T", "log–log slope from T/10", "bound's slope", "so it grows"]
    return Table(f"Growth with time, T = {measured.T:,}", heads, rows)


def _dependence_table(measured: Measured) -> Table:
    rows = []
    for knob, values in SWEEPS.items():
        labels = [_label(knob, value) for value in values]
        knobs = {"num_users": "U", "dim": "d"}
        bounds = [Bound(measured.T_short, **({knobs[knob]: value} if knob in knobs else {})) for value in values]
        predicted = _exponent(values, [bound.regret for bound in bounds])
        world = _exponents(values, np.array([measured.regret(label, RANDOM) for label in labels]))
        for agent in (LINUCB, CORE):
            regrets = np.array([measured.regret(label, agent) for label in labels])
            log_dets = np.array([measured.told(label, agent, "log_det") for label in labels])
            found = _exponents(values, regrets)
            rows.append(
                [
                    f"{NAMES[knob]}, {agent}",
                    ", ".join(map(str, values)),
                    ", ".join(number(float(regret)) for regret in regrets.mean(axis=1)),
                    _interval(found, 2),
                    f"{predicted:.2f}",
                    _verdict(found, predicted),
                    _interval(world, 2),
                    _interval(_exponents(values, log_dets), 2),
                    f"{_exponent(values, [bound.log_det for bound in bounds]):.2f}",
                ]
            )
    heads = [
        "knob, agent",
        "values",
        "mean regret",
        "exponent",
        "bound's",
        "so it grows",
        "random play's",
        "exponent of ln det",
        "bound's",
    ]
    return Table(f"Dependence on the world's size, linear, T = {measured.T_short:,}", heads, rows)


def _coverage_table(measured: Measured) -> Table:
    rows = []
    for environment in (LINEAR, NONLINEAR):
        for agent in (LINUCB, CORE, HARE):

            def share(name: str, environment: str = environment, agent: str = agent) -> str:
                return f"{100.0 * measured.told(environment, agent, name).mean():.1f}%"

            failed = measured.told(environment, agent, "failed_regret") / measured.regret(environment, agent)
            rows.append(
                [
                    f"{agent}, {environment}",
                    share("covered_shown"),
                    share("covered_best"),
                    share("covered_all"),
                    share("failed"),
                    f"{100.0 * failed.mean():.0f}%",
                    f"{measured.told(environment, agent, 'largest').max():.2f}",
                ]
            )
    heads = [
        "agent, world",
        "shown item",
        "best item",
        "all items",
        "failed rounds",
        "regret in failed rounds",
        "largest error / width",
    ]
    bound = Bound(measured.T)
    pointwise = 100.0 * math.erf(ALPHA / bound.sigma / math.sqrt(2.0))
    return Table(
        f"Share of rounds with the true mean within α widths of the core's, α = {ALPHA} (HARE: β s); "
        f"a Gaussian of the noise's scale would give {pointwise:.1f}%; the theorem needs {bound.radius:.2f} widths",
        heads,
        rows,
    )


def _potential_table(measured: Measured) -> Table:
    rows = []
    for share in (0.01, 0.1, 1.0):
        place = measured.place(LINEAR, LINUCB, share)
        rounds, regrets = measured.curves(LINEAR, LINUCB)
        bound = Bound(float(rounds[place]))

        def told(name: str, share: float = share) -> Array:
            return measured.told(LINEAR, LINUCB, name, share)

        rows.append(
            [
                f"{share:.0%} of T",
                f"{rounds[place]:,.0f}",
                f"{told('log_det').mean():,.0f} ≤ {bound.log_det:,.0f}",
                f"{told('log_det_users').mean():,.0f} ≤ {bound.log_det_users:,.0f}",
                f"{told('potential').mean():,.0f} ≤ {bound.potential:,.0f}",
                f"{regrets[:, place].mean():,.0f}",
                f"{(told('bound') + told('failed_regret')).mean():,.0f}",
                f"{bound.regret:,.0f}",
            ]
        )
    heads = [
        "at",
        "t",
        "ln det, measured ≤ bound",
        "users' part",
        "Σ w²",
        "regret",
        "Proposition 2 on the measured widths",
        "Theorem 1",
    ]
    return Table(f"Log-determinant and regret of {LINUCB}, linear", heads, rows)


def _prior_table(measured: Measured) -> Table:
    rows = []
    quantities: list[tuple[str, Callable[[str], Array]]] = [
        ("ln det", lambda agent: measured.told(LATE, agent, "log_det")),
        ("users' part of ln det", lambda agent: measured.told(LATE, agent, "log_det_users")),
        ("regret", lambda agent: measured.regret(LATE, agent)),
    ]
    for name, quantity in quantities:
        learned, fixed = quantity(CORE), quantity(FIXED)
        gap = paired_difference([learned], [fixed]).difference
        rows.append([name, number(learned.mean()), number(fixed.mean()), _interval(gap, 1)])
    heads = ["quantity", "learned prior", "fixed prior", "difference"]
    return Table(f"A learned prior, 60 of 80 users late, linear, T = {measured.T_short:,}", heads, rows)


def _misfit_table(measured: Measured) -> Table:
    rows = []
    for label, env in ((LINEAR, "HareLinear-v0"), (NONLINEAR, "HareBilinear-v0")):
        found = np.array([misfit(env, seed, measured.T) for seed in range(measured.seeds)])
        rows.append([label, *(_interval(mean_interval([column]), 3) for column in found.T)])
    heads = ["world", "standard deviation of μ", "of μ − φᵀθ", "largest error of φᵀθ"]
    return Table("How far the best bilinear fit φᵀθ (least squares on random items) is from μ", heads, rows)


def misfit(env_id: str, seed: int, rounds: int) -> tuple[float, float, float]:
    """How far the core's model is from a world of the seed set, with its best coefficients for random items.

    Args:
        env_id: Of a ``HareBilinear``, with its defaults.
        seed: Which of the set ``theory``.
        rounds: Rounds looked at, with four random items each.

    Returns:
        The standard deviation of the means, that of the residuals, and the largest residual.
    """
    env_seed, rng = seeds_of("theory", seed)
    env = make(env_id, {"horizon": rounds})
    observation, _ = env.reset(seed=env_seed)
    task = env.unwrapped.task
    features, means = [], []
    for _ in range(rounds):
        items = rng.integers(task.num_items, size=4)
        x1, Y = np.append(1.0, observation["query"]), task.pool[items]
        phi = np.zeros((4, 1 + (len(x1) + task.num_users) * task.content_dim))
        phi[:, 0] = 1.0
        phi[:, 1 : 1 + len(x1) * task.content_dim] = np.einsum("i,nj->nij", x1, Y).reshape(4, -1)
        own = 1 + (len(x1) + int(observation["user"])) * task.content_dim
        phi[:, own : own + task.content_dim] = Y
        features.append(phi)
        means.append(true_means(env.unwrapped)[items])
        observation, *_ = env.step(0)
    env.close()
    Phi, mu = np.concatenate(features), np.concatenate(means)
    # the users' blocks and the shared one of y are collinear; a tiny ridge chooses one of the equal solutions
    theta = np.linalg.solve(Phi.T @ Phi + 1e-6 * np.eye(Phi.shape[1]), Phi.T @ mu)
    residual = mu - Phi @ theta
    return float(mu.std()), float(residual.std()), float(np.abs(residual).max())


def _exponent(values: Sequence[int], quantity: Iterable[float]) -> float:
    """The least-squares slope of the quantity's logarithm on that of the values."""
    x, y = np.log(values), np.log(np.array([*quantity]))
    x = x - x.mean()
    return round(float(x @ (y - y[0]) / (x @ x)), 9)


def _exponents(values: Sequence[int], quantities: Array) -> Interval:
    """`_exponent` of every seed, and Student's interval; ``quantities`` is ``(len(values), n)``."""
    return mean_interval([np.array([_exponent(values, column) for column in quantities.T])])


def _verdict(found: Interval, predicted: float) -> str:
    if math.isnan(predicted) or math.isnan(found.low):
        return "—"
    if predicted in found:
        return "as the bound"
    return "more slowly" if found.high < predicted else "faster"


def _interval(found: Interval, places: int) -> str:
    text = f"{found.value:,.{places}f}"
    if not math.isnan(found.low):
        text += f" [{found.low:,.{places}f}, {found.high:,.{places}f}]"
    return text.replace("-", "−")


def section(measured: Measured, command: str) -> str:
    """The generated part of the page, without its markers."""
    start = (
        f"Made by `{command}`: {measured.seeds} seeds of the set `theory`, 95% Student intervals over seeds, "
        f"{_versions(measured)}."
    )
    return "\n\n".join([start, *(table.markdown() for table in tables(measured))])


def _versions(measured: Measured) -> str:
    found: dict[str, Any] = measured._of(LINEAR, HARE)[0]["spec"]["versions"]
    return f"hare-gym {found['hare_gym']} with code {found['code'][:12]}, NumPy {found['numpy']}"
