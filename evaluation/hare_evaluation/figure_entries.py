"""What a suite can ask to be drawn, and put together in tables, beside what every environment has of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _FigureEntry(BaseModel):
    """What every figure has. ``id`` is the name of its files, ``title`` its headline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    title: str = Field(min_length=1)
    environments: list[str] = Field(min_length=1)


class RegretFigure(_FigureEntry):
    """Cumulative regret of some agents, a panel an environment."""

    kind: Literal["regret"]
    agents: list[str] = Field(min_length=1)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return self.agents


class TrajectoryFigure(_FigureEntry):
    """Diagnostics of an agent against the user's visits, a row a diagnostic; early and late users apart.

    Attributes:
        agent: Its label.
        diagnostics: Their names.
        after: Late users come for the first time after this share of the session.
    """

    kind: Literal["trajectory"]
    agent: str
    diagnostics: list[str] = Field(min_length=1)
    after: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return [self.agent]


class SweepFigure(_FigureEntry):
    """Regret relative to a reference agent's, against a knob that the environments have different values of."""

    kind: Literal["sweep"]
    knob: str
    agents: list[str] = Field(min_length=1)
    reference: str
    logarithmic: bool = False

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return [*self.agents, self.reference]


class ForestFigure(_FigureEntry):
    """Regret of variants relative to one agent's, with intervals, a panel an environment."""

    kind: Literal["forest"]
    agent: str
    variants: list[str] = Field(min_length=1)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return [self.agent, *self.variants]


class AttentionFigure(_FigureEntry):
    """HARE's attention over clusters for users who ask the same, at the end of a session that is played again.

    Attributes:
        agent: The label of a HARE agent.
        seed: Which of the suite's seeds.
        users: Which users.
        queries: How many queries.
    """

    kind: Literal["attention"]
    agent: str
    environments: list[str] = Field(min_length=1, max_length=1)
    seed: int = Field(default=0, ge=0)
    users: list[int] = Field(default=[0, 1], min_length=2, max_length=2)
    queries: int = Field(default=8, ge=1, le=40)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return [self.agent]


class GenerationFigure(_FigureEntry):
    """Every metric of the texts that agents write, with intervals, a panel a metric."""

    kind: Literal["generation"]
    environments: list[str] = Field(min_length=1, max_length=1)
    agents: list[str] = Field(min_length=1)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return self.agents


class LearningFigure(_FigureEntry):
    """What agents earn at a user's first, second, ... visit: the mean over users, with intervals over sessions."""

    kind: Literal["learning"]
    environments: list[str] = Field(min_length=1, max_length=1)
    agents: list[str] = Field(min_length=1, max_length=8)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return self.agents


class RewardFigure(_FigureEntry):
    """What agents earn a round against how many rounds there were per user, a panel an environment.

    It needs the records' curves only, where `LearningFigure` plays sessions of writing again.
    """

    kind: Literal["reward"]
    agents: list[str] = Field(min_length=1, max_length=8)

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return self.agents


class UserRecoveryFigure(_FigureEntry):
    """How much of the hidden users a linear reader finds in an agent's user states, against their visits."""

    kind: Literal["user_recovery"]
    environments: list[str] = Field(min_length=1, max_length=1)
    agent: str

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return [self.agent]


AnyFigure = (
    RegretFigure
    | TrajectoryFigure
    | SweepFigure
    | ForestFigure
    | AttentionFigure
    | GenerationFigure
    | LearningFigure
    | RewardFigure
    | UserRecoveryFigure
)

FIGURES: dict[str, type[_FigureEntry]] = {
    "regret": RegretFigure,
    "trajectory": TrajectoryFigure,
    "sweep": SweepFigure,
    "forest": ForestFigure,
    "attention": AttentionFigure,
    "generation": GenerationFigure,
    "learning": LearningFigure,
    "reward": RewardFigure,
    "user_recovery": UserRecoveryFigure,
}


class RewardTable(_FigureEntry):
    """One table of several environments: a row an environment, a column an agent, cells of mean reward a round.

    Attributes:
        agents: The columns, by label.
        after: Rounds per user, on average, that do not count yet.
        published: What others have published for an environment, by label, in words; shown in a last column, and
            compared with nothing.
        note: What the published figures are, where they are from and in what they differ.
    """

    agents: list[str] = Field(min_length=1)
    after: float = Field(default=0.0, ge=0)
    published: dict[str, str] = {}
    note: str = ""

    def labels(self) -> list[str]:
        """The agents' labels that it names."""
        return self.agents
