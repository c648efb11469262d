"""What a user's history is worth, shown on one query: HARE's skills for a few users beside RAG's one.

`demonstration` lets HARE and RAG serve the same users for a while and asks both the same question for some of them;
`table`, `markdown` and `drawn` show the answers. ``hare demo killer`` is the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.table import Table

    from hare_gym.contract import Agent
    from hare_gym.text.skills import Skill
    from hare_gym.text.users import Users

    Array = NDArray[np.float64]

HARE, RAG = "HARE writes", "RAG writes"
"""What the suite ``skills`` calls the two agents; their hyperparameters are the suite's."""
SEED_SET = "demo"
MOST_CHARACTERS = 500
# Other needs of the same topic: with the query they make each user's cloud in the map.
_NEARBY = 6
_MARKERS = "osD^vP"
_RAG_COLOUR = "#000000"


@dataclass(frozen=True)
class Answer:
    """What an agent wrote for a user, and what it would earn there on average."""

    text: str
    reward: float


@dataclass(frozen=True, eq=False)
class Demonstration:
    """Everything that is shown.

    Attributes:
        query: What was asked.
        population: How many users both agents have served.
        users: Those of them that are shown, U hidden users.
        visits: How often each of these had been served.
        hare: HARE's answer for each user.
        again: HARE's text for each user, asked once more.
        rag: RAG's answer for each user, which is the same text for all.
        nearby: Other needs of the same topic.
        clouds: HARE's texts for those, by user and need.
        rag_cloud: RAG's.
    """

    query: str
    population: int
    users: Users
    visits: list[int]
    hare: list[Answer]
    again: list[str]
    rag: list[Answer]
    nearby: list[str]
    clouds: list[list[str]]
    rag_cloud: list[str]

    @property
    def rag_is_for_all(self) -> bool:
        """Whether every user gets one and the same text from RAG."""
        return len({answer.text for answer in self.rag}) == 1


@dataclass(frozen=True, eq=False)
class Map:
    """The texts' embeddings in two dimensions, and how far apart they are in all.

    Attributes:
        places: By text, ``(2,)``: its first two principal components among all texts that are shown.
        shares: Which part of the embeddings' variance each of the two holds.
        between: Mean cosine distance between HARE's texts for two users.
        again: Mean cosine distance between HARE's two texts for one user.
        rag_between: As ``between``, of RAG's texts.
    """

    places: dict[str, Array]
    shares: tuple[float, float]
    between: float
    again: float
    rag_between: float


def demonstration(query: str, users: int = 5, population: int = 20, rounds: int = 50, seed: int = 0) -> Demonstration:
    """Plays HARE and RAG, as the suite ``skills`` has them, and asks both the query for the first users.

    Both meet the same users, needs and luck.

    Args:
        query: What every user asks.
        users: How many users are shown.
        population: How many are served.
        rounds: Rounds of history a user, on average.
        seed: Which world of the seed set ``demo``.

    Raises:
        ConfigError: A query that is empty or longer than 500 characters, or more users to show than there are.
    """
    from hare_evaluation.metrics.probe import ask, fixed_queries
    from hare_gym.errors import ConfigError
    from hare_gym.text.corpus import TOPICS, load_corpus
    from hare_gym.text.measure import Measurer, query_topics
    from hare_gym.text.reward import RewardModel

    query = " ".join(query.split())
    if not query or len(query) > MOST_CHARACTERS:
        raise ConfigError(
            f"The query must have 1 to {MOST_CHARACTERS} characters, not {len(query)}: say in a sentence what is "
            "needed, such as 'I need help writing tests'."
        )
    if users > population:
        raise ConfigError(f"{users} users cannot be shown of {population}: raise --population, or lower --users.")
    corpus = load_corpus()
    measurer, author, model = Measurer(), Measurer(pool=[skill.text for skill in corpus.skills]), RewardModel()
    x = measurer.query(query)
    topic = TOPICS[int(np.argmax(query_topics(x)))]
    neutral = [each.text for each in corpus.queries[topic] if not each.hints and each.text != query]
    nearby = (neutral or fixed_queries(corpus))[:_NEARBY]
    hidden, served, hare = _served(HARE, population, rounds, seed)
    _, _, rag = _served(RAG, population, rounds, seed)
    answers = []
    for agent in (hare, rag):
        (texts,) = ask(agent, measurer, [query], users)
        rewards = [model.mean(hidden[k], x, author.text(text), query) for k, text in enumerate(texts)]
        answers.append([Answer(text, float(reward)) for text, reward in zip(texts, rewards, strict=True)])
    (again,) = ask(hare, measurer, [query], users)
    clouds = ask(hare, measurer, nearby, users)
    return Demonstration(
        query=query,
        population=population,
        users=hidden[:users],
        visits=[served.count(user) for user in range(users)],
        hare=answers[0],
        again=again,
        rag=answers[1],
        nearby=nearby,
        clouds=[[texts[k] for texts in clouds] for k in range(users)],
        rag_cloud=[texts[0] for texts in ask(rag, measurer, nearby, 1)],
    )


def _served(label: str, population: int, rounds: int, seed: int) -> tuple[Users, list[int], Agent]:
    """The hidden users, whom each round served, and the agent that has served them."""
    from hare_evaluation.environments import make
    from hare_evaluation.metrics.probe import Watch
    from hare_evaluation.runner import Session, seeds
    from hare_evaluation.spec import load_suite
    from hare_gym.registry import make_agent

    env = make("HareSkills-v0", {"action_mode": "write", "num_users": population, "horizon": population * rounds})
    (entry,) = (entry for entry in load_suite("skills").agents if entry.label == label)
    agent = make_agent(entry.name, **entry.hyperparameters)
    watch = Watch(env, agent)
    Session(watch, agent, 1).play(*seeds(SEED_SET, seed))
    return env.unwrapped.users, watch.users, agent


def about(users: Users, k: int) -> list[str]:
    """A hidden user in words: domains, level, wish for specifics, style."""
    from hare_gym.text.corpus import DOMAINS, LEVELS, STYLES

    order = np.argsort(-users.domains[k], kind="stable")[:2]
    domains = ", ".join(f"{DOMAINS[i]} {users.domains[k, i]:.0%}" for i in order)
    level = LEVELS[int(np.rint(3.0 * users.expertise[k]))]
    s = float(users.specificity[k])
    wish = "principles" if s < 1 / 3 else "commands and numbers" if s > 2 / 3 else "a balance"
    return [domains, level, wish, STYLES[int(np.argmax(users.styles[k]))]]


def table(shown: Demonstration) -> Table:
    """The terminal's table: a row a user, HARE's skill beside RAG's, each with what it earns."""
    from rich.table import Table

    means = [float(np.mean([answer.reward for answer in answers])) for answers in (shown.hare, shown.rag)]
    made = Table(title=f"“{shown.query}”", show_lines=True)
    made.add_column("user, hidden from both", ratio=4)
    for head, mean in zip(("HARE", "RAG"), means, strict=True):
        made.add_column(f"{head}, expected reward {mean:.2f} on average", ratio=6)
    seen: set[str] = set()
    for k, (own, same) in enumerate(zip(shown.hare, shown.rag, strict=True)):
        who = "\n".join([f"user {k + 1}, {shown.visits[k]} rounds", *about(shown.users, k)])
        other = "the same text" if same.text in seen else _opening(same.text)
        seen.add(same.text)
        made.add_row(who, f"{own.reward:.2f}  {_opening(own.text)}", f"{same.reward:.2f}  {other}")
    return made


def markdown(shown: Demonstration, made: Map, command: str) -> str:
    """The page: the table, the map, then every skill in full."""
    lines = [
        f"# “{shown.query}”",
        "",
        f"Made by `{command}`. {len(shown.hare)} of {shown.population} simulated users ask the same. HARE and RAG "
        "have served all of them before and were never told what stands in the second column; both write with the "
        "same composer, from the same skills, with the hyperparameters of the suite `skills`. The reward is the "
        "simulator's expected reward of the text for that user, from 0 to 1.",
        "",
        "| user | hidden from both | rounds before | HARE's skill | HARE | RAG |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for k, (own, same) in enumerate(zip(shown.hare, shown.rag, strict=True)):
        cells = [
            str(k + 1),
            "; ".join(about(shown.users, k)),
            str(shown.visits[k]),
            _title(own.text),
            f"{own.reward:.2f}",
            f"{same.reward:.2f}",
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [
        "",
        "![What HARE and RAG write for each user, and what it earns](killer.png)",
        "",
        "In the map a text is the mean of the MiniLM embeddings of its sentences, on the first two principal "
        f"components of all texts shown, which hold {made.shares[0]:.0%} and {made.shares[1]:.0%} of their variance. "
        f"A large mark answers the query, a dot one of {len(shown.nearby)} other needs of the same topic. The mean "
        f"cosine distance between two users' texts for the query is {made.between:.2f} with HARE and "
        f"{made.rag_between:.2f} with RAG; between HARE's two texts for one user, who asks again, it is "
        f"{made.again:.2f}.",
    ]
    texts = [(f"HARE for user {k + 1}", answer.text) for k, answer in enumerate(shown.hare)]
    texts += [
        ("RAG for everybody" if shown.rag_is_for_all else f"RAG for user {k + 1}", text)
        for k, text in _distinct(shown.rag)
    ]
    for head, text in texts:
        fence = "```" if "```" not in text else "````"
        lines += ["", f"## {head}", "", f"{fence}text", text.rstrip("\n"), fence]
    return "\n".join(lines) + "\n"


def drawn(shown: Demonstration, made: Map) -> Figure:
    """The map of the texts, coloured by user, and beside it what each user's texts earn."""
    import matplotlib
    from matplotlib.figure import Figure

    from hare_evaluation.figures import STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 4.3), layout="constrained", facecolor="white")
        left, right = figure.subplots(1, 2, width_ratios=(1.2, 1.0))
        _draw_map(left, shown, made)
        _draw_rewards(right, shown)
        figure.suptitle(f"{len(shown.users)} users ask: “{_cut(shown.query, 70)}”", fontsize=11)
    return figure


def _draw_map(axes: Axes, shown: Demonstration, made: Map) -> None:
    from matplotlib.patheffects import withStroke

    from hare_evaluation.figures import COLOURS, legible

    clouds = [*zip(shown.hare, shown.clouds, COLOURS, _MARKERS, strict=False)]
    for answer, texts, colour, marker in [*clouds, (shown.rag[0], shown.rag_cloud, _RAG_COLOUR, "X")]:
        places = np.array([made.places[text] for text in texts]).reshape(-1, 2)
        axes.plot(places[:, 0], places[:, 1], "o", color=colour, markersize=4, alpha=0.45, markeredgewidth=0)
        axes.plot(*made.places[answer.text], marker, color=colour, markersize=10, markeredgecolor="white")
    marks = np.array([made.places[answer.text] for answer in (*shown.hare, shown.rag[0])])
    names = [*(str(k + 1) for k in range(len(shown.hare))), "RAG"]
    for place, name, colour in zip(marks, names, [*COLOURS[: len(shown.hare)], _RAG_COLOUR], strict=True):
        # on the side that is turned away from the nearest other mark
        away = (place - marks) / np.ptp(np.stack([*made.places.values()]), axis=0)
        lengths = np.linalg.norm(away, axis=1)
        lengths[lengths == 0.0] = np.inf
        dx, dy = (away / lengths[:, None])[lengths.argmin()] if np.isfinite(lengths).any() else (0.7, 0.7)
        axes.annotate(
            name,
            (place[0], place[1]),
            (9 * dx, 11 * dy),
            textcoords="offset points",
            color=legible(colour),
            fontweight="bold",
            fontsize=10,
            ha="left" if dx >= 0.0 else "right",
            va="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
    axes.set(
        title="What is written: a mark for the query,\ndots for other needs of its topic",
        xlabel=f"1st principal component of embeddings ({made.shares[0]:.0%})",
        ylabel=f"2nd ({made.shares[1]:.0%})",
    )
    axes.tick_params(labelbottom=False, labelleft=False, length=0)
    axes.margins(0.1)


def _draw_rewards(axes: Axes, shown: Demonstration) -> None:
    from hare_evaluation.figures import COLOURS, legible

    for k, (own, same) in enumerate(zip(shown.hare, shown.rag, strict=True)):
        colour = COLOURS[k]
        axes.plot([own.reward, same.reward], [k, k], color="#BBBBBB", linewidth=1.5, zorder=1)
        axes.plot(own.reward, k, _MARKERS[k], color=colour, markersize=9, markeredgecolor="white")
        axes.plot(same.reward, k, "X", color=_RAG_COLOUR, markersize=8, markeredgecolor="white")
        domains, *rest = about(shown.users, k)
        row: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "bottom"}
        named: dict[str, Any] = {"color": legible(colour), "fontweight": "bold", "fontsize": 8.5}
        axes.text(0.0, k - 0.40, f"{k + 1}  {domains}", **named, **row)
        axes.text(0.0, k - 0.17, "     " + ", ".join(rest), color="#444444", fontsize=7.5, **row)
    axes.set(
        title="What it earns: HARE's text in the user's\ncolour, RAG's in black",
        xlabel="expected reward",
        xlim=(0.0, 1.0),
        ylim=(len(shown.hare) - 0.6, -0.65),
        yticks=[],
    )
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def mapped(shown: Demonstration) -> Map:
    """Embeds all texts and finds their first two principal components, signs fixed."""
    from hare_evaluation.metrics import diversity
    from hare_evaluation.metrics.probe import unit_embeddings
    from hare_evaluation.statistics import principal_components
    from hare_gym.text.encoders import load_encoder

    hare, rag = ([answer.text for answer in answers] for answers in (shown.hare, shown.rag))
    texts = [*dict.fromkeys([*hare, *rag, *(text for row in (*shown.clouds, shown.rag_cloud) for text in row)])]
    found = unit_embeddings([*texts, *shown.again], load_encoder("minilm"))
    E, asked, again, same = (
        np.stack([found[text].mean(axis=0) for text in some]) for some in (texts, hare, shown.again, rag)
    )
    places, shares = principal_components(E)
    return Map(
        dict(zip(texts, places, strict=True)),
        shares,
        diversity.divergence(asked[None]),
        diversity.resampled_divergence(asked[None], again[None]),
        diversity.divergence(same[None]),
    )


def _skill(text: str) -> Skill | None:
    from hare_gym.text.skills import SkillError, parse

    try:
        return parse(text, lenient=True)
    except SkillError:
        return None


def _title(text: str) -> str:
    skill = _skill(text)
    return skill.title if skill is not None else _cut(text, 60)


def _opening(text: str) -> str:
    """Title, description and the first two instructions."""
    skill = _skill(text)
    if skill is None:
        return _cut(text, 200)
    steps = [line for line in skill.instructions.split("\n") if line.strip()][:2]
    return "\n".join([skill.title, skill.description, *steps])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _distinct(answers: list[Answer]) -> list[tuple[int, str]]:
    """Each text once, with the first user who gets it."""
    first: dict[str, int] = {}
    for k, answer in enumerate(answers):
        first.setdefault(answer.text, k)
    return [(k, text) for text, k in first.items()]
