"""``HareSkills-v0``: a need in words, a hidden user, and a skill that is chosen, blended or written for both.

`Skills` is the domain; `hare_gym.text.engine` makes the environments of it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.contract import ActionMode, TaskSpec, sanitise
from hare_gym.envs.skills_view import Round, headline, hidden_words, round_text
from hare_gym.errors import DataError
from hare_gym.rendering import History
from hare_gym.text import view
from hare_gym.text.corpus import DOMAINS, TOPICS, Corpus, load_corpus
from hare_gym.text.domain import TEXT_LENGTH, Content, Domain, Judge, TextConfig
from hare_gym.text.engine import TextEnvironment, TextVectorEnvironment
from hare_gym.text.measure import Measured, Measurer
from hare_gym.text.reward import PARTS, REWARD_VERSION, RewardModel
from hare_gym.text.skills import SkillError, parse
from hare_gym.text.users import Users
from hare_gym.text.writer import Writer

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# What `RewardModel.optimum` proves: content that measures exactly as the user wishes has every part at 1.
ORACLE = 1.0

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
class SkillsConfig(TextConfig):
    """The knobs of `HareSkills`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        corpus: The skills: None for the built-in ones, or the path of a folder of SKILL.md files, of an act/prompt
            CSV, or of a JSONL file.
        encoder: What turns words into numbers: ``minilm`` (the built-in corpus then needs no model), ``tfidf``, the
            path of a folder that holds a model, or a model's id on a hub.
        hinted: Share of the queries whose words give the user's domain away; the others would suit any.
    """

    corpus: str | None = None
    encoder: str = "minilm"
    hinted: float = field(default=0.25, metadata={"low": 0, "high": 1})


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


class Skills(Domain[Users, Measured]):
    """The domain of `HareSkills`: a catalogue, what hints at a user's domain, and rewards that are looked up."""

    id = "HareSkills-v0"
    parts = PARTS
    config_class = SkillsConfig
    personal = False
    composes = False

    def __init__(self, config: SkillsConfig) -> None:
        super().__init__(config)
        self.catalogue = catalogue = _catalogue(config.corpus, config.encoder)
        self.items = catalogue.items
        self.encoder = catalogue.measurer.encoder_name
        self.reward_version = f"{REWARD_VERSION}+{catalogue.corpus.digest[:16]}"
        self.query_dim, self.content_dim = catalogue.queries.shape[1], catalogue.phi.shape[1]
        self.num_needs = len(catalogue.queries)

    @classmethod
    def load(cls, config: Any) -> Self:
        """Reads the corpus anew, as its files may have changed; what was measured is kept by their contents."""
        return cls(config)

    @property
    def texts(self) -> tuple[str, ...]:
        """The items' texts, as agents see them."""
        return self.catalogue.texts

    @property
    def phi(self) -> Array:
        """The items' content vectors, ``(N, 17)``."""
        return self.catalogue.phi

    def measure(self, text: str) -> Measured:
        """A new text, measured; one that is like an item's is a copy."""
        return self.catalogue.author.text(text)

    def shown(self, text: str) -> Measured:
        """A written text, measured, and remembered for all who play this catalogue."""
        return self.catalogue.shown(text)

    def title(self, read: Measured) -> str:
        """A skill's title."""
        return headline(read)

    def draw_users(self, rng: np.random.Generator, num_users: int) -> Users:
        """Draws users."""
        return Users.draw(rng, num_users)

    def drifted(self, users: Users, rng: np.random.Generator, step: float) -> Users:
        """A move of every attribute."""
        return users.drifted(rng, step)

    def draw_needs(self, users: Users, uniforms: Array) -> Indices:
        """A topic, and words for it that, for a share of the needs, give a domain of the user away."""
        catalogue = self.catalogue
        passed = np.cumsum(users.domains, axis=-1) <= uniforms[1, ..., None]
        domain = np.minimum(passed.sum(axis=-1), len(DOMAINS) - 1)
        hint = np.where(uniforms[0] < self.config.hinted, 1 + domain, 0)
        topic = (uniforms[2] * len(TOPICS)).astype(np.int64)
        place = (uniforms[3] * catalogue.counts[hint, topic]).astype(np.int64)
        found: Indices = catalogue.members[catalogue.starts[hint, topic] + place]
        return found

    def query_vectors(self, users: Users, needs: Indices) -> Array:
        """The needs' vectors, ``(..., 17)``."""
        vectors: Array = self.catalogue.queries[needs]
        return vectors

    def query_text(self, user: Users, need: int) -> str:
        """The need in words, the same whoever asks."""
        return self.catalogue.query_texts[need]

    def parts_of(self, users: Users, needs: Indices, content: Content) -> dict[str, Array]:
        """The parts of content vectors, validity and guard being 1: what ``synthesize`` is judged by."""
        found = self.catalogue.model.of_content(users, self.catalogue.queries[needs], content.phi)
        return {"validity": content.validity, "guard": np.ones_like(content.validity)} | found

    def combine(self, parts: Mapping[str, Array]) -> Array:
        """Mu: V G r^wr f^wd l^wl s^ws a^wa."""
        weights = self.catalogue.model.config
        logs: Any = 0.0
        for name in PARTS[2:]:
            part: Any = parts[name]
            if not isinstance(part, float):
                part = np.asarray(part, dtype=np.float64)
            logs = logs + getattr(weights, name) * portable.log(part)
        return np.asarray(parts["validity"] * parts["guard"] * portable.exp(np.maximum(logs, -60.0)))

    def parts_of_text(self, user: Users, need: int, read: Measured, query_text: str) -> dict[str, float]:
        """The parts of a text, which may echo the query's words."""
        return self.catalogue.model.parts(user, self.catalogue.queries[need], read, query_text)

    def judge(self, current: Sequence[Users], mode: ActionMode) -> _Lookup:
        """What looks the items' means up."""
        return _Lookup(self, current, mode == "select")

    def optimum(self, users: Users, needs: Indices) -> Array:
        """Content that measures exactly as the user wishes, ``(..., 17)``; see `RewardModel.optimum`."""
        return self.catalogue.model.optimum(users, self.catalogue.queries[needs])[1]

    def oracle(self, users: Users, needs: Indices) -> Array:
        """One everywhere, ``(...)``."""
        return np.full(np.shape(needs), ORACLE)

    def write(self, user: Users, need: int, query_text: str) -> str | None:
        """Lines of the corpus assembled anew; None for a corpus that has nothing to take apart."""
        writer = self.catalogue.writer
        return None if writer is None else writer.write(user, self.catalogue.queries[need], query_text)

    def user_words(self, user: Users) -> str:
        """A user in a line."""
        return hidden_words(user)

    def show(self, task: TaskSpec, history: History, last: Mapping[str, Any], shown: view.Round) -> str:
        """The round on a page of text."""
        names = ("query", "query_vector", "user", "hidden", "item", "content")
        kept = {name: getattr(shown, name) for name in names}
        return round_text(task, history, last, Round(best_item=shown.best_title, shown=shown.read, **kept))


class _Lookup(Judge[Users, Measured]):
    """Judges items by tables: the log of a mean is one of user and item plus one of query and item."""

    def __init__(self, domain: Skills, current: Sequence[Users], of_parts: bool) -> None:
        super().__init__(domain, current)
        self.catalogue = domain.catalogue
        tables = [self.catalogue.user_tables(one, of_parts) for one in current]
        self.logs = np.stack([logs for logs, _ in tables])  # (P, U, N)
        self.parts = np.stack([parts for _, parts in tables if parts is not None]) if of_parts else None

    def prepare(self, population: Indices, user: Indices, need: Indices) -> None:
        """Takes rounds ``(L, W)`` and finds the best items."""
        self._rounds = population, user, need
        self._first_lane = list(zip(*(x[:, 0].tolist() for x in self._rounds), strict=True))
        p, u, q = (x.reshape(-1) for x in self._rounds)
        best, logs = np.empty(len(u), dtype=np.int64), np.empty(len(u))
        length = max(1, _CHUNK_VALUES // len(self.catalogue.items))
        for first in range(0, len(u), length):
            rounds = slice(first, first + length)
            scores = self.logs[p[rounds], u[rounds]]
            scores += self.catalogue.query_logs[q[rounds]]
            best[rounds] = scores.argmax(axis=1)
            logs[rounds] = scores[np.arange(len(scores)), best[rounds]]
        self.best_item = best.reshape(user.shape)
        self.best_mean = portable.exp(np.maximum(logs.reshape(user.shape), -60.0))

    def of_items(self, i: int, items: Indices) -> tuple[Array, dict[str, Array]]:
        """Means and parts of an item in each lane, each ``(W,)``."""
        assert self.parts is not None
        catalogue = self.catalogue
        population, user, query = (x[i] for x in self._rounds)
        logs = self.logs[population, user, items] + catalogue.query_logs[query, items]
        parts = self.parts[population, user, items]
        columns = [*catalogue.worth[items].T, catalogue.relevance[query, items], *parts.T]
        found = {name: np.ascontiguousarray(column) for name, column in zip(PARTS, columns, strict=True)}
        return portable.exp(np.maximum(logs, -60.0)), found

    def of_item(self, i: int, item: int) -> tuple[float, dict[str, float]]:
        """Mean and parts of an item for the only lane."""
        assert self.parts is not None
        catalogue = self.catalogue
        population, user, query = self._first_lane[i]
        log = self.logs.item(population, user, item) + catalogue.query_logs.item(query, item)
        own = self.parts[population, user, item].tolist()
        values = (*catalogue.worth[item].tolist(), catalogue.relevance.item(query, item), *own)
        return portable.exp(max(log, -60.0)), dict(zip(PARTS, values, strict=True))


class HareSkills(TextEnvironment):
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

    domain_class = Skills
    domain: Skills

    @property
    def corpus(self) -> Corpus:
        """The skills and queries."""
        return self.domain.catalogue.corpus


class HareSkillsVector(TextVectorEnvironment):
    """Many `HareSkills` in lockstep; see `hare_gym.text.engine.TextVectorEnvironment`.

    Without ``shared_world=True`` every lane has tables of its own users: ``5 * num_users * num_items`` numbers in
    ``select``.
    """

    domain_class = Skills
    domain: Skills

    @property
    def corpus(self) -> Corpus:
        """The skills and queries."""
        return self.domain.catalogue.corpus
