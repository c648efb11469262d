"""One person's session of the demonstration, without a page: ask, rate, explain, explore, forget, save, load.

A session has a HARE of its own, which starts from what the world's HARE has learned. Everything that HARE learns in
it comes from its rated rounds, so a session is its rounds: after a restart they are taught again, and to forget
somebody is to teach all rounds but theirs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.hare import HARE
from hare_agents.hare.attention import entropy
from hare_evaluation.live import states
from hare_evaluation.live.explain import Explanation, leanings
from hare_evaluation.live.ratings import Rating, RatingError, taught
from hare_evaluation.live.world import (
    FIRST_PERSON,
    HARE_LABEL,
    PROFILE_LABEL,
    RAG_LABEL,
    WORD_LIMITS,
    WRITERS,
    Told,
    World,
)
from hare_gym.errors import HareError, unknown_name

Array = NDArray[np.float64]

MOST_CHARACTERS = 500
MOST_ROUNDS = 2000
_FLOOR = 1e-3  # of the parameters of a Beta distribution


class DemoError(HareError, ValueError):
    """Something that cannot be done in a session, with what to do instead."""


@dataclass(frozen=True)
class Settings:
    """What a person may switch.

    Attributes:
        persona: Which simulated user asks and rates; -1 for the person at the page.
        writer: What writes, one of `WRITERS`.
        alpha: Weight of the clusters' uncertainty U_j in attention.
        beta: Weight of the posterior's width in every score; None for the tuned one.
        words: The composer's limit of words in HARE's texts.
    """

    persona: int = -1
    writer: str = "composer"
    alpha: float = 0.0
    beta: float | None = None
    words: int = WORD_LIMITS[0]


@dataclass
class Turn:
    """One need and what came of it; everything in it can be written as JSON.

    Attributes:
        number: Counted from 1 over the session.
        persona: Who asked; -1 for the person at the page.
        writer: What wrote.
        need: What was asked.
        hare: HARE's text.
        rag: Retrieval's.
        asked_for: The content that HARE wanted written, ``(17,)``.
        content: The content that its text turned out to have.
        entropy_before: Mean entropy of attention over the example needs, before the rating.
        stars: What HARE's text got; 0 before it is rated.
        complaints: What was wrong with it.
        rag_stars: What retrieval's got, from a person who says so.
        taught: The rounds that HARE was taught: contents and rewards.
        entropy_after: As before it, after.
        uncertainty_after: tr Sigma_u after it, as a share of a new user's.
        expected: For personas: expected rewards of HARE's text, retrieval's, that with a profile, a random item and
            the best item, by name; for a person the stars as rewards.
        parts: For personas: the parts of the reward of HARE's text.
        profile: What retrieval with a profile learned: content and reward.
    """

    number: int
    persona: int
    writer: str
    need: str
    hare: str
    rag: str
    asked_for: list[float]
    content: list[float]
    entropy_before: float
    stars: int = 0
    complaints: list[str] = field(default_factory=list)
    rag_stars: int = 0
    taught: list[tuple[list[float], float]] = field(default_factory=list)
    entropy_after: float | None = None
    uncertainty_after: float | None = None
    expected: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    profile: tuple[list[float], float] | None = None

    @property
    def rated(self) -> bool:
        """Whether HARE has learned from it."""
        return bool(self.taught)


Kept = Callable[[str, Any], None]


class LiveSession:
    """A session. Calls take its lock, but for the time of writing; different sessions share nothing that changes.

    Args:
        world: What is shared.
        keep: Called with what must outlast the process, after it has happened: ``("settings", dict)``,
            ``("turn", dict)``, ``("forget", [numbers])``, ``("base", bytes or None)``.
    """

    def __init__(self, world: World, keep: Kept | None = None) -> None:
        self.world = world
        self.lock = RLock()
        self._keep = keep or (lambda kind, value: None)
        self.settings = Settings(beta=float(world.knobs["posterior_bonus"]))
        self.turns: list[Turn] = []
        self._count = 0
        self._base: bytes | None = None
        self._attention_before: tuple[int, Array] | None = None
        self._rebuild()

    # -- asking -------------------------------------------------------------------------------------------------

    @property
    def persona(self) -> int:
        """Who asks; -1 for the person at the page."""
        return self.settings.persona

    @property
    def user(self) -> int:
        """HARE's number for whoever asks."""
        return FIRST_PERSON + 1 + self.settings.persona

    @property
    def mine(self) -> list[Turn]:
        """The rounds of whoever asks now."""
        return [turn for turn in self.turns if turn.persona == self.persona]

    def ask(self, need: str, told: Callable[[str, str], None] | None = None) -> Turn:
        """Writes HARE's skill and retrieval's for a need; a persona rates at once.

        Args:
            need: 1 to 500 characters.
            told: Called with ``"hare"`` or ``"rag"`` and the text so far, while a language model writes.

        Raises:
            DemoError: A need that is empty or too long, or too many rounds.
            HareError: The writer cannot write.
        """
        need, world = checked_need(need), self.world
        with self.lock:
            if len(self.turns) >= MOST_ROUNDS:
                raise DemoError(f"A session has at most {MOST_ROUNDS} rounds: export it, then choose 'forget me'.")
            s, user, number = self.settings, self.user, self._count + 1
            with world.lock:
                x = world.measurer.query(need)
            z = self.hare.synthesize(x, user)
            ids, A = self.hare.attention(x, user)
            u = self.hare.user_mean(user)
        attended = np.zeros(world.spec.num_items)
        attended[ids] = A
        z_rag, retrieved = world.retrieved(world.rag, x, 0)
        # the lock is free meanwhile: a model may write for a minute, and who looks at the page must not wait for it
        text = world.write(s.writer, HARE_LABEL, s.words, z, u, need, attended, _luck(number, 0), _for("hare", told))
        rag = world.write(
            s.writer,
            RAG_LABEL,
            WORD_LIMITS[0],
            z_rag,
            np.zeros(len(u)),
            need,
            retrieved,
            _luck(number, 1),
            _for("rag", told),
        )
        with world.lock:
            y = world.content(text)
        with self.lock:
            self._count += 1
            before = self._entropy(self.hare, user)
            turn = Turn(self._count, s.persona, s.writer, need, text, rag, z.tolist(), y.tolist(), before)
            self.turns.append(turn)
            if s.persona >= 0:
                self._rated_by_persona(turn, x)
            else:
                self._keep("turn", asdict(turn))
            return turn

    def play(self, rounds: int = 1) -> list[Turn]:
        """Lets the persona ask needs of their own.

        Raises:
            DemoError: Nobody but the person at the page is there.
        """
        turns = []
        for _ in range(rounds):
            with self.lock:
                if self.persona < 0:
                    raise DemoError("Choose a persona first: only simulated users ask by themselves.")
                need = self._own_need()
            turns.append(self.ask(need))
        return turns

    def _own_need(self) -> str:
        rng = np.random.default_rng([17, self.persona, len(self.mine)])
        return str(self.world.needs[int(rng.integers(len(self.world.needs)))])

    # -- rating -------------------------------------------------------------------------------------------------

    def rate(self, number: int, rating: Rating) -> Turn:
        """Teaches HARE what was said of its text in a round.

        Raises:
            DemoError: There is no such round, it is a persona's, or it has been rated.
        """
        with self.lock:
            turn = self._turn(number)
            if turn.rated:
                raise DemoError(
                    f"Round {number} has been rated already ({_said(turn)}): a round counts once. Ask again to rate "
                    "another skill."
                )
            if turn.persona >= 0:
                raise DemoError(f"Round {number} is a persona's, who has rated it: ask as yourself to rate.")
            rounds = taught(rating, np.array(turn.content))
            if "too long" in rating.complaints:
                shorter = [words for words in WORD_LIMITS if words < self.settings.words]
                self._set(words=shorter[0] if shorter else self.settings.words)
            turn.stars, turn.complaints = rating.stars, list(rating.complaints)
            turn.expected = {"HARE": rating.reward}
            self._learn(turn, rounds)
            return turn

    def rate_rag(self, number: int, stars: int) -> Turn:
        """Notes what retrieval's text was worth to a person; nobody learns from it.

        Raises:
            DemoError: There is no such round, it is a persona's, or it has been rated.
            RatingError: No stars.
        """
        with self.lock:
            turn = self._turn(number)
            if turn.persona >= 0 or turn.rag_stars:
                raise DemoError(f"Retrieval's skill of round {number} has been rated already: a round counts once.")
            if not stars:
                raise RatingError("Give one to five stars.")
            reward = Rating(stars).reward
            turn.rag_stars = stars
            turn.expected = {**turn.expected, "RAG": reward}
            self._keep("turn", asdict(turn))
            return turn

    def _turn(self, number: int) -> Turn:
        for turn in self.turns:
            if turn.number == number:
                return turn
        raise DemoError(f"There is no round {str(number)[:20]} in this session.")

    def _rated_by_persona(self, turn: Turn, x: Array) -> None:
        world, persona = self.world, turn.persona
        mean, parts = world.expected_reward(persona, x, turn.hare, turn.need)
        items = world.catalogue_rewards(persona, x)
        turn.expected = {
            "HARE": mean,
            "RAG": world.expected_reward(persona, x, turn.rag, turn.need)[0],
            "random item": float(items.mean()),
            "best item": float(items.max()),
        }
        turn.parts = parts
        if turn.writer == "composer":
            agent = self.profiles[persona]
            z, weights = world.retrieved(agent, x, persona)
            text = world.write(
                "composer",
                PROFILE_LABEL,
                WORD_LIMITS[0],
                z,
                np.zeros(len(z)),
                turn.need,
                weights,
                _luck(turn.number, 2),
            )
            own = world.expected_reward(persona, x, text, turn.need)[0]
            turn.expected["RAG with profile"] = own
            with world.lock:
                y = world.content(text)
            turn.profile = y.tolist(), self._noisy(own, turn)
        reward = self._noisy(mean, turn)
        turn.stars = 1 + round(4.0 * reward)
        self._learn(turn, [(np.array(turn.content), reward)])

    def _noisy(self, mean: float, turn: Turn) -> float:
        """A persona's reward: Beta-distributed about its mean, with the round's luck for everybody."""
        kappa = self.world.concentration
        rng = np.random.default_rng([23, turn.persona, turn.number])
        return float(rng.beta(kappa * mean + _FLOOR, kappa * (1.0 - mean) + _FLOOR))

    def _learn(self, turn: Turn, rounds: list[tuple[Array, float]]) -> None:
        with self.world.lock:
            x = self.world.measurer.query(turn.need)
        user = FIRST_PERSON + 1 + turn.persona
        before = self.hare.attention(x, user, by_cluster=True)[1]
        turn.taught = [(y.tolist(), float(r)) for y, r in rounds]
        self._teach(turn, x)
        turn.entropy_after = self._entropy(self.hare, user)
        turn.uncertainty_after = self._uncertainty(self.hare, user)
        self._attention_before = turn.number, before
        self._keep("turn", asdict(turn))

    def _teach(self, turn: Turn, x: Array) -> None:
        user = FIRST_PERSON + 1 + turn.persona
        for y, reward in turn.taught:
            self.hare.update(x, user, np.array(y), reward)
        if turn.profile is not None:
            y, reward = turn.profile
            observation = {"query": x, "user": np.int64(turn.persona)}
            self.profiles[turn.persona].update(observation, np.array(y, dtype=np.float32), reward)

    # -- what is kept -------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """Makes HARE and the profiles anew from the base and the rounds."""
        s = self.settings
        arrays, rng = (None, None) if self._base is None else states.read(self._base, self.world)
        self.hare = self.world.hare(s.alpha, float(s.beta or 0.0), arrays, rng)
        self.profiles = [self.world.retriever(PROFILE_LABEL) for _ in self.world.personas]
        for turn in self.turns:
            if turn.rated:
                with self.world.lock:
                    x = self.world.measurer.query(turn.need)
                self._teach(turn, x)

    def restore(
        self, settings: dict[str, Any], turns: Iterable[dict[str, Any]], base: bytes | None, count: int
    ) -> None:
        """Takes back what ``keep`` was told.

        Args:
            settings: The last settings.
            turns: The turns, in order.
            base: The state that was loaded, if any.
            count: The highest number of a turn that there ever was.
        """
        with self.lock:
            self.settings = replace(self.settings, **settings)
            self.turns = [Turn(**turn) for turn in turns]
            self._base, self._count = base, max([count, *(turn.number for turn in self.turns)])
            self._attention_before = None
            self._rebuild()

    def _set(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)
        self._keep("settings", asdict(self.settings))

    # -- switches -----------------------------------------------------------------------------------------------

    def export_settings(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self.settings)

    @property
    def count(self) -> int:
        """The highest number that a round of this session ever had."""
        return self._count

    def become(self, persona: int) -> None:
        """Lets another ask: a persona, or the person at the page (-1); each keeps what HARE knows of them.

        Raises:
            DemoError: There is no such persona.
        """
        with self.lock:
            if persona not in range(-1, len(self.world.personas)):
                raise DemoError(
                    f"There is no persona {str(persona)[:20]}: they are 0 to {len(self.world.personas) - 1}."
                )
            self._attention_before = None
            self._set(persona=persona)

    def write_with(self, writer: str) -> None:
        """Chooses the writer; what is missing for it is told when it should write.

        Raises:
            UnknownNameError: No such writer.
        """
        with self.lock:
            if writer not in WRITERS:
                raise unknown_name("writer", str(writer)[:40], WRITERS)
            self._set(writer=writer)

    def explore(self, alpha: float, beta: float) -> None:
        """Sets how much uncertainty counts: the clusters' (alpha) and the posterior's (beta). Nothing is forgotten.

        Raises:
            DemoError: Not within 0 to 5.
        """
        with self.lock:
            for name, value in (("alpha", alpha), ("beta", beta)):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 5.0:
                    raise DemoError(f"{name} is a number from 0 to 5, not {str(value)[:20]}.")
            state, rng = self.hare.state(), self.hare.rng.bit_generator.state
            self.hare = self.world.hare(float(alpha), float(beta), state, rng)
            self._set(alpha=float(alpha), beta=float(beta))

    def forget(self) -> int:
        """Forgets whoever asks, exactly: HARE is made anew from all rounds but theirs. A loaded state goes as well.

        Returns:
            How many rounds were forgotten.
        """
        with self.lock:
            gone = [turn.number for turn in self.mine]
            self.turns = [turn for turn in self.turns if turn.persona != self.persona]
            self._base = self._attention_before = None
            self._rebuild()
            self._keep("forget", gone)
            self._keep("base", None)
            self._set(words=WORD_LIMITS[0])
            return len(gone)

    # -- files --------------------------------------------------------------------------------------------------

    def save(self) -> bytes:
        """HARE's whole state as an npz file, which `HARE.load` reads as well; no pickle is in it."""
        with self.lock:
            return states.written(self.hare)

    def load(self, data: bytes) -> None:
        """Takes the state that `save` gave, of this session or another, and goes on from it; the rounds so far go.

        Raises:
            DataError: It is no such file, too large, or of another catalogue or version; nothing is changed then.
        """
        arrays, rng = states.read(data, self.world)
        with self.lock:
            made = self.world.hare(self.settings.alpha, float(self.settings.beta or 0.0), arrays, rng)
            gone = [turn.number for turn in self.turns]
            self.hare, self._base, self.turns, self._attention_before = made, data, [], None
            self.profiles = [self.world.retriever(PROFILE_LABEL) for _ in self.world.personas]
            self._keep("base", data)
            self._keep("forget", gone)

    def export(self) -> dict[str, Any]:
        """The session as JSON values: settings, and every round with its texts, ratings and what was taught."""
        with self.lock:
            return {
                "format": "hare-demo-1",
                "settings": asdict(self.settings),
                "personas": [asdict(persona) for persona in self.world.personas],
                "rounds": [asdict(turn) for turn in self.turns],
            }

    # -- explaining ---------------------------------------------------------------------------------------------

    def explain(self) -> Explanation:
        """What HARE believes of whoever asks, and how it went."""
        with self.lock:
            mine, hare, user = self.mine, self.hare, self.user
            need = mine[-1].need if mine else self.world.examples[0]
            with self.world.lock:
                x = self.world.measurer.query(need)
            attention = hare.attention(x, user, by_cluster=True)[1]
            before = attention
            if self._attention_before is not None and mine and self._attention_before[0] == mine[-1].number:
                before = self._attention_before[1]
            rated = [turn for turn in mine if turn.rated]
            entropies = [rated[0].entropy_before] if rated else [self._entropy(hare, user)]
            entropies += [turn.entropy_after for turn in rated if turn.entropy_after is not None]
            names = ("HARE", "RAG", "RAG with profile", "random item", "best item")
            rewards = {name: [turn.expected.get(name, np.nan) for turn in rated] for name in names}
            return Explanation(
                leanings(hare, user),
                self._uncertainty(hare, user),
                need,
                self.world.clusters,
                attention,
                before,
                entropies,
                {name: values for name, values in rewards.items() if not np.isnan(values).all()},
            )

    def hidden(self) -> tuple[str, ...]:
        """Who the persona is; empty for a person."""
        return self.world.personas[self.persona].words if self.persona >= 0 else ()

    def _entropy(self, hare: HARE, user: int) -> float:
        return self.world.entropy_over(hare, user, entropy)

    def _uncertainty(self, hare: HARE, user: int) -> float:
        new = np.trace(hare.user_state(-1)[1])  # nobody has this number
        return float(np.trace(hare.user_state(user)[1]) / new)


def checked_need(need: Any) -> str:
    """A need with its white space made even.

    Raises:
        DemoError: It is no text, empty, or too long.
    """
    if not isinstance(need, str):
        raise DemoError(f"A need is a text, not {type(need).__name__}.")
    text, length = "", len(need)
    if length <= 20 * MOST_CHARACTERS:
        text = " ".join("".join(c if c.isprintable() else " " for c in need).split())
        length = len(text)
    if not 0 < length <= MOST_CHARACTERS:
        raise DemoError(
            f"A need has 1 to {MOST_CHARACTERS} characters, not {length:,}: say in a sentence what you need help "
            "with."
        )
    return text


def new_id() -> str:
    """An id for a session that nobody can guess."""
    return secrets.token_urlsafe(32)


def _for(name: str, told: Callable[[str, str], None] | None) -> Told | None:
    return None if told is None else lambda text: told(name, text)


def _luck(number: int, whose: int) -> np.random.Generator:
    return np.random.default_rng([31, number, whose])


def _said(turn: Turn) -> str:
    stars = f"{turn.stars} star{'s' * (turn.stars != 1)}" if turn.stars else ""
    return ", ".join(filter(None, [stars, *turn.complaints]))
