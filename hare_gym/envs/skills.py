"""``HareSkills-v0``: a need in words, a hidden user, and a skill that is chosen, blended or written for both.

`HareSkills` plays one world, `HareSkillsVector` many in lockstep, or many lanes of one. `_Worlds` draws users, rounds
and noise for both, with the lanes along the last axis, so that one lane and a thousand give the same bits.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space, sanitise
from hare_gym.environment import Environment, check_mode, content_vector, item_index
from hare_gym.envs.noise import beta, beta_batch, stream
from hare_gym.envs.skills_view import Round, headline, round_text
from hare_gym.errors import ActionError, ConfigError, DataError
from hare_gym.text.corpus import DOMAINS, TOPICS, Corpus, load_corpus
from hare_gym.text.measure import Measured, Measurer
from hare_gym.text.reward import PARTS, REWARD_VERSION, RewardModel
from hare_gym.text.skills import SkillError, parse
from hare_gym.text.users import Users
from hare_gym.text.writer import Writer

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MODES: tuple[ActionMode, ...] = ("select", "synthesize", "write")
TEXT_LENGTH = 8192
# What `RewardModel.optimum` proves: content that measures exactly as the user wishes has every part at 1.
ORACLE = 1.0

# Rounds of randomness drawn at once, and the numbers of a round; part of what a seed means, so they never change.
_BLOCK = 128
_NORMALS, _UNIFORMS = 4, 11
# Values in one array when items are compared, so that it stays in the cache.
_CHUNK_VALUES = 2**18
# Texts whose measures are remembered; users are often shown the same one.
_REMEMBERED = 1024
# Corpora that are kept measured in one process.
_CATALOGUES = 4
# Skills of a corpus that are measured at once.
_PART = 16
_CORPUS_HINT = (
    "Give the path of a folder of SKILL.md files, of a .jsonl or .jsonl.gz file, or of an act/prompt .csv; "
    "without corpus the built-in skills are used."
)
_ATTRIBUTES = [attribute.name for attribute in fields(Users)]


@dataclass(frozen=True)
class SkillsConfig:
    """The knobs of `HareSkills`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        horizon: Rounds in a session, T.
        num_users: Users.
        corpus: The skills: None for the built-in ones, or the path of a folder of SKILL.md files, of an act/prompt
            CSV, or of a JSONL file.
        encoder: What turns words into numbers: ``minilm`` (the built-in corpus then needs no model), ``tfidf``, the
            path of a folder that holds a model, or a model's id on a hub.
        hinted: Share of the queries whose words give the user's domain away; the others would suit any.
        drift: How far every user moves once in ``num_users`` rounds, 0 for nowhere and 1 for a new user.
        late_users: Share of the users who only arrive later.
        late_from: When they arrive, as a share of the horizon.
        concentration: kappa of the Beta reward; its variance is mu(1 - mu)/(kappa + 1).
    """

    horizon: int = field(default=1000, metadata={"low": 1})
    num_users: int = field(default=20, metadata={"low": 1})
    corpus: str | None = None
    encoder: str = "minilm"
    hinted: float = field(default=0.25, metadata={"low": 0, "high": 1})
    drift: float = field(default=0.0, metadata={"low": 0, "high": 1})
    late_users: float = field(default=0.0, metadata={"low": 0, "below": 1})
    late_from: float = field(default=0.5, metadata={"low": 0, "high": 1})
    concentration: float = field(default=20.0, metadata={"above": 0})


class _Catalogue:
    """A corpus as one encoder measures it, and the queries: all that does not depend on a seed."""

    def __init__(self, corpus: Corpus, encoder: str) -> None:
        self.corpus, self.encoder = corpus, encoder
        self.measurer = Measurer(encoder)
        self.model = RewardModel()
        self.items = [item for part in _in_parts(corpus) for item in self.measurer.items(part)]
        self.phi = np.stack([item.phi for item in self.items])
        self.texts = tuple(sanitise(skill.text, TEXT_LENGTH) for skill in corpus.skills)
        queries = [query for topic in TOPICS for query in corpus.queries[topic]]
        self.query_texts = tuple(sanitise(query.text, TEXT_LENGTH) for query in queries)
        self.queries = np.stack([self.measurer.query(query.text) for query in queries])  # (Q, 17)
        # by hint (none, then the domains) and topic: where its queries begin in `members`, and how many they are
        cells = [
            [
                [i for i, query in enumerate(queries) if query.topic == topic and hint in (query.hints or (None,))]
                for topic in TOPICS
            ]
            for hint in (None, *DOMAINS)
        ]
        self.counts = np.array([[len(cell) for cell in row] for row in cells])  # (9, 6)
        self.starts = np.cumsum(self.counts).reshape(self.counts.shape) - self.counts
        self.members = np.array([i for row in cells for cell in row for i in cell])
        self.query_logs = self.model.query_table(self.queries, self.items)  # (Q, N)
        self.worth = np.array([(item.validity, item.guard) for item in self.items])  # (N, 2)
        self._shown: dict[str, Measured] = {}

    @cached_property
    def relevance(self) -> Array:
        """Relevance by query and item, ``(Q, N)``."""
        anyone = Users.draw(np.random.default_rng(0), 1)[0]
        return self.model.of_content(anyone, self.queries[:, None], self.phi)["relevance"]

    @cached_property
    def author(self) -> Measurer:
        """What measures new texts: it knows the items, which are not to be copied."""
        pool = []
        for skill, item, text in zip(self.corpus.skills, self.items, self.texts, strict=True):
            if item.guards.get("screening", 1.0) > 0.0:  # what is known is not screened again
                pool.append(skill.text)
                if text != skill.text and _parses(text):  # as agents see it, with characters replaced
                    pool.append(text)
        return Measurer(self.encoder, pool=pool)

    @cached_property
    def writer(self) -> Writer | None:
        """The privileged writer; None for a corpus that has nothing to take apart."""
        try:
            return Writer(self.author, self.model, self.corpus)
        except DataError:
            return None

    def shown(self, text: str) -> Measured:
        """A written text, measured."""
        found = self._shown.get(text)
        if found is None:
            if len(self._shown) >= _REMEMBERED:
                self._shown.pop(next(iter(self._shown)))
            found = self._shown[text] = self.author.text(text)
        return found

    def problems(self, text: str) -> str:
        """What is wrong with a written text's format, in words; empty for a valid skill."""
        return "; ".join(self.shown(text).problems)

    def user_tables(self, users: Users, of_parts: bool) -> tuple[Array, Array | None]:
        """Logs of all but relevance ``(U, N)``, and if wanted domain, level, specificity and style ``(U, N, 4)``."""
        logs = self.model.user_table(users, self.items)
        if not of_parts:
            return logs, None
        each = Users(*(getattr(users, name)[:, None] for name in _ATTRIBUTES))
        parts = self.model.of_content(each, self.queries[0], self.phi)
        return logs, np.stack([parts[name] for name in PARTS[3:]], axis=-1)


def _in_parts(corpus: Corpus) -> Iterable[Corpus]:
    """The corpus a few skills at a time. The sentences of a new one are embedded once, which may take minutes: at a
    terminal a bar shows how far it is.
    """
    parts = [replace(corpus, skills=corpus.skills[k : k + _PART]) for k in range(0, len(corpus), _PART)]
    if not sys.stderr.isatty() or corpus.name == "built-in":
        return parts
    from rich.console import Console
    from rich.progress import track

    return track(parts, f"Measuring {len(corpus)} skills", console=Console(stderr=True), transient=True)


def _parses(text: str) -> bool:
    try:
        parse(text, lenient=True)
    except SkillError:
        return False
    return True


_catalogues: dict[tuple[str, str], _Catalogue] = {}


def _catalogue(path: str | None, encoder: str) -> _Catalogue:
    """The catalogue of a corpus, measured once in a process; what could not be read is a warning.

    Raises:
        DataError: There is nothing to read at the path.
        ConfigError: The encoder cannot be had.
    """
    try:
        corpus = load_corpus(path)
    except DataError as error:
        raise DataError(f"The corpus cannot be read: {error} {_CORPUS_HINT}") from error
    if corpus.problems:
        shown = "".join(f"\n  {problem}" for problem in corpus.problems[:20])
        more = f"\n  and {len(corpus.problems) - 20} more" if len(corpus.problems) > 20 else ""
        left = f"{len(corpus.problems)} of its parts could not be read and are left out"
        warnings.warn(f"{path}: {left}; {len(corpus)} skills remain.{shown}{more}", stacklevel=2)
    if len(corpus) < 2:
        raise DataError(f"{path}: one skill leaves nothing to choose. Give a corpus of at least 2.")
    if not corpus.queries:
        corpus = replace(corpus, queries=load_corpus().queries)
    key = corpus.digest, encoder
    if key not in _catalogues:
        if len(_catalogues) >= _CATALOGUES:
            del _catalogues[next(iter(_catalogues))]
        _catalogues[key] = _Catalogue(corpus, encoder)
    return _catalogues[key]


class _Worlds:
    """The users of W lanes, and their rounds to come. Users have P populations: one a lane, or one for all."""

    def __init__(self, config: SkillsConfig, catalogue: _Catalogue, mode: ActionMode) -> None:
        self.config, self.catalogue, self.mode = config, catalogue, mode
        self.early_users = max(1, config.num_users - int(config.late_users * config.num_users))
        self.late_round = int(config.late_from * config.horizon)
        self.original: list[Users] = []

    def draw_worlds(self, rngs: Sequence[np.random.Generator], shared: bool = False) -> None:
        """Draws the users, world by world."""
        self.original = [Users.draw(rng, self.config.num_users) for rng in (rngs[:1] if shared else rngs)]
        self._live_among(self.original)
        self._moved = False

    def start_session(self, rngs: Sequence[np.random.Generator]) -> None:
        """Forgets the rounds drawn so far and puts every user back to what they were."""
        # the users' moves have streams of their own, so that no knob shifts the queries or the noise
        self.rngs, self.move_rngs = ([stream(int(rng.integers(2**63))) for rng in rngs] for _ in range(2))
        if self._moved:
            self._live_among(self.original)
        self._moved = False
        W, P = len(rngs), len(self.original)
        self.population = np.arange(W) if P > 1 else np.zeros(W, dtype=np.int64)
        self._normals, self._uniforms = np.empty((W, _BLOCK, _NORMALS)), np.empty((W, _BLOCK, _UNIFORMS))
        self._block_start, self._chunk_end = -_BLOCK, 0

    def _live_among(self, users: list[Users]) -> None:
        self.current = users
        self.users = Users(*(np.stack([getattr(one, name) for one in users]) for name in _ATTRIBUTES))  # (P, U)
        tables = [self.catalogue.user_tables(one, self.mode == "select") for one in users]
        self.logs = np.stack([logs for logs, _ in tables])  # (P, U, N)
        self.parts = np.stack([parts for _, parts in tables if parts is not None]) if self.mode == "select" else None
        self._cumulative = np.cumsum(self.users.domains, axis=-1)

    def prepare(self, t: int) -> int:
        """Makes round t ready; returns its place in the chunk's arrays."""
        if t == self._chunk_end:
            c = self.config
            if t == self._block_start + _BLOCK:
                for rng, normals, uniforms in zip(self.rngs, self._normals, self._uniforms, strict=True):
                    rng.standard_normal(out=normals)
                    rng.random(out=uniforms)
                self._block_start = t
            end = min(self._block_start + _BLOCK, c.horizon)
            if c.drift:
                if t and t % c.num_users == 0:
                    moves = zip(self.current, self.move_rngs, strict=False)
                    self._live_among([users.drifted(rng, c.drift) for users, rng in moves])
                    self._moved = True
                end = min(end, t - t % c.num_users + c.num_users)
            self._compute_chunk(t, end)
        return t - self._chunk_start

    def _compute_chunk(self, start: int, end: int) -> None:
        """Everything about rounds ``start`` to ``end`` that does not depend on the action."""
        c, catalogue, P = self.config, self.catalogue, self.population
        part = slice(start - self._block_start, end - self._block_start)
        uniforms = np.ascontiguousarray(self._uniforms[:, part].transpose(2, 1, 0))  # (11, L, W)
        arrived = np.where(np.arange(start, end) < self.late_round, self.early_users, c.num_users)[:, None]
        self.user = (uniforms[0] * arrived).astype(np.int64)  # (L, W)
        passed = self._cumulative[P, self.user] <= uniforms[2, ..., None]
        domain = np.minimum(passed.sum(axis=-1), len(DOMAINS) - 1)
        hint = np.where(uniforms[1] < c.hinted, 1 + domain, 0)
        topic = (uniforms[3] * len(TOPICS)).astype(np.int64)
        place = (uniforms[4] * catalogue.counts[hint, topic]).astype(np.int64)
        self.query = catalogue.members[catalogue.starts[hint, topic] + place]  # (L, W)
        self.gamma_normals = np.ascontiguousarray(self._normals[:, part].transpose(2, 1, 0))  # (4, L, W)
        self.gamma_uniforms = uniforms[5:]
        self.best_item, logs = self._best_items()
        self.catalogue_oracle = portable.exp(np.maximum(logs, -60.0))  # (L, W)
        self._chunk_start, self._chunk_end = start, end

    def _best_items(self) -> tuple[Indices, Array]:
        """The best item of each round and the log of its mean, ``(L, W)``."""
        user, query = self.user.reshape(-1), self.query.reshape(-1)
        population = np.broadcast_to(self.population, self.user.shape).reshape(-1)
        best, logs = np.empty(len(user), dtype=np.int64), np.empty(len(user))
        length = max(1, _CHUNK_VALUES // len(self.catalogue.items))
        for first in range(0, len(user), length):
            rounds = slice(first, first + length)
            scores = self.logs[population[rounds], user[rounds]]
            scores += self.catalogue.query_logs[query[rounds]]
            best[rounds] = scores.argmax(axis=1)
            logs[rounds] = scores[np.arange(len(scores)), best[rounds]]
        return best.reshape(self.user.shape), logs.reshape(self.user.shape)

    # -- judging, round i of the chunk --------------------------------------------------------------------------

    def user_of(self, i: int, lane: int) -> Users:
        """The hidden user of a lane."""
        return self.users[self.population[lane], self.user[i, lane]]  # type: ignore[index]

    def of_items(self, i: int, items: Indices) -> tuple[Array, dict[str, Array]]:
        """Means and parts of an item in each lane, each ``(W,)``."""
        assert self.parts is not None
        catalogue, user, query = self.catalogue, self.user[i], self.query[i]
        logs = self.logs[self.population, user, items] + catalogue.query_logs[query, items]
        parts = self.parts[self.population, user, items]
        columns = [*catalogue.worth[items].T, catalogue.relevance[query, items], *parts.T]
        found = {name: np.ascontiguousarray(column) for name, column in zip(PARTS, columns, strict=True)}
        return portable.exp(np.maximum(logs, -60.0)), found

    def of_contents(self, i: int, phi: Array) -> tuple[Array, dict[str, Array]]:
        """Means and parts of a content vector in each lane, ``(W, 17)`` to ``(W,)`` each."""
        model, user = self.catalogue.model, self.users[self.population, self.user[i]]  # type: ignore[index]
        x = self.catalogue.queries[self.query[i]]
        whole = np.ones(len(phi))
        parts = {"validity": whole, "guard": whole.copy()} | model.of_content(user, x, phi)
        return model.mean_of_content(user, x, phi), parts

    def of_text(self, i: int, lane: int, text: str) -> tuple[float, dict[str, float]]:
        """Mean and parts of a text in one lane."""
        catalogue, query = self.catalogue, self.query[i, lane]
        measured, words = catalogue.shown(text), catalogue.query_texts[query]
        parts = catalogue.model.parts(self.user_of(i, lane), catalogue.queries[query], measured, words)
        return catalogue.model.combine(parts), parts

    def oracle_width(self, i: int, lane: int) -> float:
        """How far a text that exists is below the bound: the best item's, shown as it is."""
        return ORACLE - self.of_text(i, lane, self.catalogue.texts[self.best_item[i, lane]])[0]


class HareSkills(Environment):
    """Somebody asks for help in words; the agent answers with a skill, which is judged on its text.

    Users have a hidden mix of domains, expertise, specificity and style (`hare_gym.text.users`). Each round one of
    them types a need, such as "I need help writing tests": the same words from a nurse teacher and from a database
    engineer. The agent shows a skill (a SKILL.md) out of a catalogue, gives the content vector of one, or writes one.
    The reward measures the text (`hare_gym.text.reward`)::

        mu     = V G r^wr f^wd l^wl s^ws a^wa     validity, guards, relevance, domain, level, specificity, style
        reward ~ Beta(kappa mu, kappa (1 - mu)), whose mean is exactly mu

    The parts multiply and none exceeds 1, so what one loses no other makes up. Items come from a corpus: one is built
    in (192 skills), and ``corpus`` names another by its path. Its items need no labels. It is asked the built-in
    queries, as the triggers of its own skills would be words of the very items that answer them. Parts of it that
    cannot be read are named in a warning and left out; an item whose text the screening blocks earns nothing. The
    first use of a large one takes minutes, in which its sentences are embedded; the vectors are kept on disk.

    The users are drawn by ``reset(seed=...)``; a reset without a seed starts another session with the same users. The
    noise of round t depends on the seed and t alone, so agents that are compared on a seed meet the same needs, users
    and luck.

    **Action space.** ``select``: ``Discrete(num_items)``. ``synthesize``: ``Box(-1, 1, (17,), float32)``, a content
    vector in the coordinates of ``task.pool``; one longer than 1 is pulled back to the unit ball. ``write``: a text
    of at most 8,192 characters, a whole SKILL.md. Whatever it holds is judged and nothing in it is run: what is no
    skill earns nothing. A longer one is refused.

    **Observation space.** ``query``: ``Box(17)``, float64, the need in the coordinates of ``task.pool``, the last
    five zero. ``user``: ``Discrete(num_users)``. ``query_text``: the need in words. The items' vectors are in
    ``task.pool`` and their texts in ``task.pool_texts`` (cut at 8,192 characters). The observation after the last
    round repeats the last round's.

    **Reward.** In [0, 1], Beta-distributed with mean mu. ``info`` holds the parts by name: ``validity``, ``guard``,
    ``relevance``, ``domain``, ``level``, ``specificity``, ``style``. In ``synthesize`` validity and guard are 1. An
    item may be shown as it is in ``select``; in ``write`` a text copied from one loses a tenth, and
    ``info["problems"]`` says in words what is wrong with the text's format. With the built-in corpus ``select`` and
    ``synthesize`` need no model; ``write`` embeds the sentences that are in no item with the encoder.

    **Oracle.** In ``synthesize`` it is exact: content that measures exactly as the user wishes lies inside the unit
    ball and has every part at 1, so the best content earns 1 (`RewardModel.optimum`). In ``write`` this is an upper
    bound, as no words need measure exactly so. ``info["oracle_width"]`` is the bound minus what the text of the best
    item earns. The privileged writer, which knows user and reward and assembles the lines of the corpus anew, gives
    the closer lower bound: ``optimal_action()`` is its text (tens of milliseconds or more), or the best item's where
    that earns more. The best item is a maximum over the catalogue. In ``select`` regret is counted against the best
    item, in the others against 1.

    **Knobs.** `SkillsConfig` lists them all. ``hinted`` sets how often the words give the domain away: at 0 only
    experience with a user tells. ``drift`` moves every user once in ``num_users`` rounds; ``late_users`` arrive after
    ``late_from`` of the session.

    **Version history.** v0: first version.
    """

    modes = MODES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(SkillsConfig, knobs, "HareSkills")
        self._catalogue = _catalogue(self.config.corpus, self.config.encoder)
        self._worlds = _Worlds(self.config, self._catalogue, self.action_mode)
        self._set_task(_task(self.config, self._catalogue, knobs, self.action_mode))

    @property
    def corpus(self) -> Corpus:
        """The skills and queries."""
        return self._catalogue.corpus

    @property
    def users(self) -> Users:
        """The hidden users as they are now. For oracles, tests and metrics; agents never see them."""
        return self._worlds.current[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session with them."""
        super().reset(seed=seed)
        if seed is not None or not self._worlds.original:
            self._worlds.draw_worlds([self.np_random])
        self._worlds.start_session([self.np_random])
        self._t = 0
        self._lists_of = -1
        self._start_rendering()
        self._shown_round: Round | None = None
        self._prepare()
        return self._observation(), {}

    def _prepare(self) -> None:
        worlds = self._worlds
        self._i = worlds.prepare(self._t)
        if self._lists_of != worlds._chunk_start:
            # one lane at a time is quicker in Python numbers than in arrays of length one
            self._lists_of = worlds._chunk_start
            self._users = worlds.user[:, 0].tolist()
            self._queries = worlds.query[:, 0].tolist()
            self._catalogue_oracles = worlds.catalogue_oracle[:, 0].tolist()
            self._z = worlds.gamma_normals[:, :, 0].T.tolist()
            self._u = worlds.gamma_uniforms[:, :, 0].T.tolist()

    def _observation(self) -> dict[str, Any]:
        query = self._queries[self._i]
        return {
            "query": self._catalogue.queries[query].copy(),
            "user": np.int64(self._users[self._i]),
            "query_text": self._catalogue.query_texts[query],
        }

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, shape, dtype, range or length; the round is not spent.
        """
        worlds, i = self._worlds, self._i
        extra: dict[str, Any] = {}
        if self.action_mode == "select":
            action = item_index(action, len(self._catalogue.items))
            expected, parts = self._judged_item(action)
        elif self.action_mode == "synthesize":
            phi = np.array(content_vector(action, self.task.content_dim))
            mean, found = worlds.of_contents(i, phi[None])
            expected, parts = float(mean[0]), {name: float(value[0]) for name, value in found.items()}
        else:
            action = _checked_text(action)
            expected, parts = worlds.of_text(i, 0, action)
            extra = {"oracle_width": worlds.oracle_width(i, 0), "problems": self._catalogue.problems(action)}
        reward = beta(expected, self.config.concentration, self._z[i], self._u[i])
        info = self._info(expected, ORACLE, self._catalogue_oracles[i], **parts, **extra)
        return self._end_round(self._users[i], action, reward, info)

    def _judged_item(self, item: int) -> tuple[float, dict[str, float]]:
        worlds, catalogue, user, query = self._worlds, self._catalogue, self._users[self._i], self._queries[self._i]
        assert worlds.parts is not None
        log = worlds.logs.item(0, user, item) + catalogue.query_logs.item(query, item)
        own = worlds.parts[0, user, item].tolist()
        values = (*catalogue.worth[item].tolist(), catalogue.relevance.item(query, item), *own)
        return portable.exp(max(log, -60.0)), dict(zip(PARTS, values, strict=True))

    def optimal_action(self) -> Any:
        """The best item's index, the best content, or the best text known."""
        worlds, i = self._worlds, self._i
        best = int(worlds.best_item[i, 0])
        if self.action_mode == "select":
            return best
        user, query = worlds.user_of(i, 0), self._catalogue.queries[self._queries[i]]
        if self.action_mode == "synthesize":
            return self._catalogue.model.optimum(user, query)[1].astype(np.float32)
        texts = [self._catalogue.texts[best]]
        if self._catalogue.writer is not None:
            written = self._catalogue.writer.write(user, query, self._catalogue.query_texts[self._queries[i]])
            texts.append(sanitise(written, TEXT_LENGTH))
        return max(texts, key=lambda text: worlds.of_text(i, 0, text)[0])

    # -- rendering ----------------------------------------------------------------------------------------------

    def _note_round(self, user: int, action: Any, reward: float, info: dict[str, Any]) -> None:
        if self.render_mode is None:
            return
        catalogue, i = self._catalogue, self._i
        item: int | None = None
        shown: Measured | None = None
        if self.action_mode == "select":
            item, shown = action, catalogue.items[action]
        elif self.action_mode == "write":
            shown = catalogue.shown(action)
            action = headline(shown)
        self._shown_round = Round(
            query=catalogue.query_texts[self._queries[i]],
            query_vector=catalogue.queries[self._queries[i]],
            user=user,
            hidden=self._worlds.user_of(i, 0),
            best_item=headline(catalogue.items[self._worlds.best_item[i, 0]]),
            item=item,
            shown=shown,
            content=np.array(content_vector(action, self.task.content_dim)) if shown is None else shown.phi,
        )
        super()._note_round(user, action, reward, info)

    def render(self) -> Any:
        """The last round for a person to read (``ansi``), or a picture of the session (``rgb_array``)."""
        if self.render_mode == "ansi" and self._shown_round is not None:
            return round_text(self.task, self._history, self._last_round, self._shown_round)
        return super().render()


class HareSkillsVector(gym.vector.VectorEnv[dict[str, Any], Any, Any]):
    """Many `HareSkills` in lockstep, in NumPy: lane i with ``seed + i`` gives the single environment's bits.

    ``gymnasium.make_vec("HareSkills-v0", num_envs=64)`` makes it. All sessions have one horizon and end together; the
    step after that starts the next session (``AutoresetMode.NEXT_STEP``).

    With ``shared_world=True`` every lane has the users of lane 0, with its own needs and luck: one agent serving many
    users at once. Under ``drift`` they then move alike in all lanes. Without it every lane has tables of its own
    users: ``5 * num_users * num_items`` numbers in ``select``.
    """

    metadata = {"render_modes": [], "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}

    def __init__(
        self, num_envs: int = 1, action_mode: str | None = None, shared_world: bool = False, **knobs: Any
    ) -> None:
        knobs.pop("render_mode", None)
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ConfigError(f"num_envs must be a whole number, at least 1, not {num_envs!r}.")
        self.num_envs = int(num_envs)
        self.config = configure(SkillsConfig, knobs, "HareSkills")
        self.action_mode: ActionMode = check_mode("HareSkills", MODES, action_mode)
        self.shared_world = shared_world
        self._catalogue = _catalogue(self.config.corpus, self.config.encoder)
        self._worlds = _Worlds(self.config, self._catalogue, self.action_mode)
        self.task = _task(self.config, self._catalogue, knobs, self.action_mode)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator] = []

    @property
    def corpus(self) -> Corpus:
        """The skills and queries."""
        return self._catalogue.corpus

    def users_of(self, lane: int) -> Users:
        """The hidden users of a lane as they are now. Agents never see them."""
        return self._worlds.current[int(self._worlds.population[lane])]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the users (with a seed, or the first time) and starts a session in every lane."""
        if seed is not None or not self._rngs:
            seeds: list[int | None] = [None] * self.num_envs
            if seed is not None:
                seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
            if len(seeds) != self.num_envs:
                raise ConfigError(f"seed must be one number or {self.num_envs} of them, not {len(seeds)}.")
            self._rngs = [seeding.np_random(one)[0] for one in seeds]
            self._worlds.draw_worlds(self._rngs, self.shared_world)
        self._worlds.start_session(self._rngs)
        self._t = 0
        self._i = self._worlds.prepare(0)
        return self._observation(), {}

    def _observation(self) -> dict[str, Any]:
        query = self._worlds.query[self._i]
        return {
            "query": self._catalogue.queries[query],
            "user": self._worlds.user[self._i].copy(),
            "query_text": tuple(self._catalogue.query_texts[k] for k in query.tolist()),
        }

    def step(
        self, actions: Any
    ) -> tuple[dict[str, Any], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one round in every lane.

        Raises:
            ActionError: Actions of the wrong type, shape, dtype, range or length; the round is not spent.
        """
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._t >= self.config.horizon:
            return self.reset()[0], np.zeros(self.num_envs), none, none.copy(), {}
        worlds, i = self._worlds, self._i
        expected, parts = self._judge(actions)
        reward = beta_batch(
            expected, self.config.concentration, worlds.gamma_normals[:, i], worlds.gamma_uniforms[:, i]
        )
        oracle, catalogue = np.full(self.num_envs, ORACLE), worlds.catalogue_oracle[i].copy()
        info: dict[str, Any] = {
            "expected_reward": expected,
            "oracle_reward": oracle,
            "catalogue_oracle_reward": catalogue,
            "regret": (catalogue if self.action_mode == "select" else oracle) - expected,
            **parts,
        }
        info |= {f"_{key}": np.ones(self.num_envs, dtype=np.bool_) for key in list(info)}
        self._t += 1
        truncated = np.full(self.num_envs, self._t >= self.config.horizon)
        if self._t < self.config.horizon:
            self._i = worlds.prepare(self._t)
        return self._observation(), reward, none, truncated, info

    def _judge(self, actions: Any) -> tuple[Array, dict[str, NDArray[Any]]]:
        """The means of what the actions show ``(W,)``, and what else goes into `info`."""
        worlds, W, N = self._worlds, self.num_envs, len(self._catalogue.items)
        if self.action_mode == "write":
            if not isinstance(actions, list | tuple | np.ndarray) or len(actions) != W:
                raise ActionError(f"Write actions must be {W} texts, not {type(actions).__name__}.")
            texts = [_checked_text(action) for action in actions]
            found = [worlds.of_text(self._i, lane, text) for lane, text in enumerate(texts)]
            parts: dict[str, NDArray[Any]] = {name: np.array([each[name] for _, each in found]) for name in PARTS}
            parts["oracle_width"] = np.array([worlds.oracle_width(self._i, lane) for lane in range(W)])
            parts["problems"] = np.array([self._catalogue.problems(text) for text in texts], dtype=np.object_)
            return np.array([mean for mean, _ in found]), parts
        actions = np.asarray(actions)
        if self.action_mode == "select":
            if actions.shape != (W,) or not np.issubdtype(actions.dtype, np.integer):
                raise ActionError(
                    f"Select actions must be {W} integers, not an array of shape {actions.shape} "
                    f"and dtype {actions.dtype}."
                )
            if actions.min() < 0 or actions.max() >= N:
                bad = int(actions[(actions < 0) | (actions >= N)][0])
                raise ActionError(f"Item {bad} is not in the pool of {N}: use 0 to {N - 1}.")
            return worlds.of_items(self._i, actions)
        d = self.task.content_dim
        if actions.shape != (W, d) or actions.dtype not in (np.float32, np.float64):
            raise ActionError(
                f"Synthesize actions must be float32 of shape ({W}, {d}), not {actions.dtype} "
                f"of shape {actions.shape}."
            )
        y = actions.T.astype(np.float64)
        length = np.sqrt(portable.dot(y, y))
        if not np.isfinite(length).all():
            raise ActionError("A synthesize action must be finite; this one holds NaN or infinity.")
        y = np.where(length > 1.0, y / np.maximum(length, 1.0), y)
        return worlds.of_contents(self._i, np.ascontiguousarray(y.T))


def _checked_text(action: Any) -> str:
    """A ``write`` action. Characters outside the charset are judged as they stand, lone surrogates as ``?``.

    Raises:
        ActionError: Not a string, or too long.
    """
    if not isinstance(action, str):
        raise ActionError(f"A write action must be a str, not {type(action).__name__}.")
    if len(action) > TEXT_LENGTH:
        raise ActionError(
            f"A write action may have {TEXT_LENGTH:,} characters; this one has {len(action):,}. "
            "Cut it: hare_gym.contract.sanitise(text, spec.text_length)."
        )
    return action.encode("utf-8", "replace").decode()


def _task(config: SkillsConfig, catalogue: _Catalogue, knobs: dict[str, Any], mode: ActionMode) -> TaskSpec:
    return TaskSpec(
        id="HareSkills-v0",
        action_mode=mode,
        horizon=config.horizon,
        num_users=config.num_users,
        query_dim=catalogue.queries.shape[1],
        content_dim=catalogue.phi.shape[1],
        num_items=len(catalogue.items),
        pool=catalogue.phi,
        pool_texts=catalogue.texts,
        has_query_text=True,
        text_length=TEXT_LENGTH,
        encoder=catalogue.measurer.encoder_name,
        reward_version=f"{REWARD_VERSION}+{catalogue.corpus.digest[:16]}",
        kwargs=dict(knobs),
    )
