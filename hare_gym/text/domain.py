"""What a domain of texts is: items, needs, hidden users, and a reward that measures texts; one class in one file.

`hare_gym.text.engine` makes an environment of it: users, rounds, noise, action modes, oracles, rendering, and the
vector form. docs/add_a_domain.md shows a whole domain.

Everything that is judged is judged for many rounds at once, so arrays have leading axes, written ``...``, that
broadcast: users ``(R, 1)`` against items ``(N,)`` gives ``(R, N)``. One round and a thousand must give the same
bits. So sums over the last axis go through `inner`, and exp, log and sin come from `hare_gym.portable`: NumPy's own,
and its ``@`` and ``sum``, depend on shapes and processors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, lru_cache
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, sanitise
from hare_gym.errors import ConfigError
from hare_gym.rendering import History
from hare_gym.text.composing import composed
from hare_gym.text.view import Round, round_text

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

TEXT_LENGTH = 8192
NEED_UNIFORMS = 4
"""Uniforms that a round's need is drawn from."""
# Texts whose measures are remembered; users are often shown the same one.
_REMEMBERED = 1024
_DOMAINS = 16


@dataclass(frozen=True)
class TextConfig:
    """The knobs that every text environment has.

    Attributes:
        horizon: Rounds in a session, T.
        num_users: Users.
        drift: How far every user moves once in ``num_users`` rounds, 0 for nowhere and 1 for a new user.
        late_users: Share of the users who only arrive later.
        late_from: When they arrive, as a share of the horizon.
        concentration: kappa of the Beta reward; its variance is mu(1 - mu)/(kappa + 1).
    """

    horizon: int = field(default=1000, metadata={"low": 1})
    num_users: int = field(default=20, metadata={"low": 1})
    drift: float = field(default=0.0, metadata={"low": 0, "high": 1})
    late_users: float = field(default=0.0, metadata={"low": 0, "below": 1})
    late_from: float = field(default=0.5, metadata={"low": 0, "high": 1})
    concentration: float = field(default=20.0, metadata={"above": 0})


@dataclass(frozen=True, eq=False)
class Population:
    """Base of a domain's hidden users: a frozen dataclass whose fields are arrays with a leading axis of users.

    ``users[k]`` is one user, without that axis; ``users[array]`` has the array's axes in its place.
    """

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def __getitem__(self, index: Any) -> Self:
        return taken(self, index)

    def attributes(self) -> dict[str, Array]:
        """What a probe of an agent's user state should find, by name; ``(U,)`` or ``(U, k)`` each."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


class Reading(Protocol):
    """A text, measured: what the engine reads of it."""

    @property
    def text(self) -> str:
        """What was measured."""
        ...

    @property
    def phi(self) -> Array:
        """Its content vector."""
        ...

    @property
    def validity(self) -> float:
        """In [0, 1]."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, in words."""
        ...


@dataclass(frozen=True, eq=False)
class Measured:
    """A text, measured. A domain may subclass it, to keep what it parsed.

    Attributes:
        text: What was measured.
        phi: Content vector, ``(content_dim,)``, inside the unit ball; zero for a text that cannot be read.
        validity: 1 for a valid text, less for each breach, 0 for one that cannot be read.
        facts: What else the reward reads, in numbers, ``(k,)``: which allergens a recipe has, the hours of a plan.
            The same k for every text of a domain, and zeros for one that cannot be read.
        title: One plain line.
        problems: What is wrong with the text, in words.
    """

    text: str
    phi: Array
    validity: float
    facts: Array
    title: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Content:
    """Contents to be judged, all arrays with the same leading axes.

    Attributes:
        phi: Content vectors, ``(..., content_dim)``.
        validity: ``(...)``; 1 in ``synthesize``.
        facts: ``(..., k)``; None in ``synthesize``, where there is no text: what reads facts is then 1.
    """

    phi: Array
    validity: Array
    facts: Array | None

    def __getitem__(self, index: Any) -> Content:
        return Content(self.phi[index], self.validity[index], None if self.facts is None else self.facts[index])

    @classmethod
    def of(cls, texts: Sequence[Measured]) -> Content:
        """Several texts, along a leading axis."""
        return cls(
            np.stack([text.phi for text in texts]),
            np.array([text.validity for text in texts]),
            np.stack([text.facts for text in texts]),
        )


U = TypeVar("U")
M = TypeVar("M", bound=Reading)


def taken(users: U, index: Any) -> U:
    """Some of the users of a dataclass of arrays: every array indexed alike."""
    kind: Any = type(users)
    some: U = kind(*[getattr(users, name)[index] for name in _names(kind)])
    return some


def stacked(several: Sequence[U]) -> U:
    """Populations of one size along a new leading axis, ``(P, U, ...)``."""
    kind: Any = type(several[0])
    together: U = kind(*[np.stack([getattr(one, name) for one in several]) for name in _names(kind)])
    return together


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))


def inner(a: Any, b: Any) -> Array:
    """Sum over the last axis of a * b, added in order: the same bits for every shape, ``(...)``."""
    total = np.asarray(a[..., 0] * b[..., 0])
    for k in range(1, b.shape[-1]):
        total += a[..., k] * b[..., k]
    return total


class Domain(ABC, Generic[U, M]):
    """One domain: what an environment of texts needs beside the engine.

    A subclass sets the class attributes, sets ``items`` in its constructor, and writes the abstract methods. Nothing
    in it depends on a seed; what is random arrives as a generator or as uniforms.

    Attributes:
        id: The environment's id, ``"HareRecipe-v0"``.
        parts: Names of the reward's parts, each in [0, 1], in the order of `info`. The mean reward is their product
            (see `combine`), so that what one loses no other makes up. Call a part ``validity``.
        harm: The part that is 0 for a text which would hurt this user; empty where none could.
        reward_version: Changes when the reward's meaning does.
        content_dim: Length of phi.
        query_dim: Length of a query's vector. With ``query_dim == content_dim`` and queries in the coordinates of phi
            (zero where a need says nothing), retrieval can play.
        num_needs: Q; needs are numbered.
        personal: Whether what a user says depends on who says it; if so a user's stated constraints are part of it.
        encoder: The name of the encoder that made the vectors, if one did.
        composes: Whether `compose` is there for agents that write.
        config_class: The dataclass of the knobs, a `TextConfig`; the environment page is made from it.
        items: The pool's texts, measured, N of them.
        config: The domain's own knobs; the engine's (those of `TextConfig`) are at their defaults here.
    """

    id: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    harm: ClassVar[str] = ""
    config_class: ClassVar[type[TextConfig]] = TextConfig
    personal: ClassVar[bool] = True
    composes: ClassVar[bool] = True
    encoder: str | None = None
    reward_version: str
    content_dim: int
    query_dim: int
    num_needs: int
    items: Sequence[M]

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def load(cls, config: Any) -> Self:
        """The domain with these knobs; made once in a process, whatever the engine's own knobs are."""
        made: Self = _loaded(cls, replace(config, **{knob.name: knob.default for knob in fields(TextConfig)}))
        return made

    # -- texts ------------------------------------------------------------------------------------------------------

    @abstractmethod
    def measure(self, text: str) -> M:
        """A text in numbers. It never raises: what cannot be read has validity 0 and a problem in words."""

    def title(self, read: M) -> str:
        """A text's title in one plain line."""
        return str(getattr(read, "title", "")) or "a text without a title"

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The items' texts, as agents see them."""
        return tuple(sanitise(item.text, TEXT_LENGTH) for item in self.items)

    @cached_property
    def phi(self) -> Array:
        """The items' content vectors, ``(N, content_dim)``."""
        return np.stack([item.phi for item in self.items])

    @cached_property
    def _shown(self) -> dict[str, M]:
        return {}

    def shown(self, text: str) -> M:
        """A written text, measured; the last ones are remembered."""
        found = self._shown.get(text)
        if found is None:
            if len(self._shown) >= _REMEMBERED:
                self._shown.pop(next(iter(self._shown)))
            found = self._shown[text] = self.measure(text)
        return found

    # -- users and needs --------------------------------------------------------------------------------------------

    @abstractmethod
    def draw_users(self, rng: np.random.Generator, num_users: int) -> U:
        """Draws hidden users: a frozen dataclass of arrays with a leading axis (see `Population`)."""

    @abstractmethod
    def drifted(self, users: U, rng: np.random.Generator, step: float) -> U:
        """A move of every hidden attribute; what users state stays. The same numbers are drawn whatever ``step``.

        Args:
            users: ``(U,)``.
            rng: For the direction.
            step: How far, 0 for nowhere and 1 for a new user.
        """

    def draw_needs(self, users: U, uniforms: Array) -> Indices:
        """The need of each round, ``(...)``; without more said, every need is as likely.

        Args:
            users: Who asks, ``(...)``.
            uniforms: ``(4, ...)``; using more or fewer of them shifts nobody's luck.
        """
        needs: Indices = (uniforms[0] * self.num_needs).astype(np.int64)
        return needs

    @abstractmethod
    def query_vectors(self, users: U, needs: Indices) -> Array:
        """What is said, as agents see it, ``(..., query_dim)``: the need and the user's stated constraints."""

    @abstractmethod
    def query_text(self, user: U, need: int) -> str:
        """What one user says: the need in words, and every time what must be respected (an allergy, the hours)."""

    # -- the reward -------------------------------------------------------------------------------------------------

    @abstractmethod
    def parts_of(self, users: U, needs: Indices, content: Content) -> dict[str, Array]:
        """The reward's parts, by `parts` and in that order, each ``(...)`` and in [0, 1].

        Args:
            users: ``(...)``.
            needs: ``(...)``.
            content: ``(...)``; the leading axes of all three broadcast.
        """

    def combine(self, parts: Mapping[str, Array]) -> Array:
        """The mean reward mu from the parts, ``(...)``: their product."""
        return np.asarray(product(parts, self.parts))

    def parts_of_text(self, user: U, need: int, read: M, query_text: str) -> dict[str, float]:
        """The reward's parts for one text shown to one user. What depends on the query's words belongs here."""
        content = Content(read.phi, np.asarray(read.validity), getattr(read, "facts", None))
        found = self.parts_of(user, np.asarray(need), content)
        return {name: float(found[name]) for name in self.parts}

    def problems_of(self, user: U, need: int, read: M, query_text: str) -> tuple[str, ...]:
        """What is wrong with a text, for ``info["problems"]``; override it to name stated constraints it breaks."""
        return read.problems

    def judge(self, current: Sequence[U], mode: ActionMode) -> Judge[U, M]:
        """What judges items for users who stay as they are; `Separable` has one that looks them up."""
        return Judge(self, current)

    # -- oracles ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def optimum(self, users: U, needs: Indices) -> Array:
        """The best content there can be, ``(..., content_dim)``, in the unit ball; exact, in closed form.

        Say in the docstring why it is: content at which every part is 1 is best, as no part exceeds 1.
        """

    def oracle(self, users: U, needs: Indices) -> Array:
        """The mean reward of the best content, ``(...)``: what ``synthesize`` and ``write`` are held against."""
        phi = self.optimum(users, needs)
        return self.combine(self.parts_of(users, needs, Content(phi, np.ones(phi.shape[:-1]), None)))

    def write(self, user: U, need: int, query_text: str) -> str | None:
        """The privileged writer, which knows the hidden user: `compose` at the best content. Yours may search."""
        if not self.composes:
            return None
        z = self.optimum(user, np.asarray(need))
        distance = np.array([float(np.sum((phi - z) ** 2)) for phi in self.phi])
        weights = np.exp(-8.0 * (distance - distance.min()))
        return self.compose(z, query_text, self.texts, weights / weights.sum(), np.random.default_rng(0))

    # -- tools for agents -------------------------------------------------------------------------------------------

    def content_of(self, text: str) -> Array:
        """Phi of a text as any reader can measure it, ``(content_dim,)``; zero for one that cannot be read."""
        return self.shown(text).phi

    def compose(
        self, z: Array, query_text: str, pool_texts: Sequence[str], weights: Array, rng: np.random.Generator
    ) -> str:
        """A valid text whose content is near z, put together from the pool; it obeys what the query's words state.

        It knows documents, and neither users nor the reward. The same arguments give the same text. Unless a domain
        has a way of its own, it walks from texts of the pool along their `variants`.

        Args:
            z: The content asked for, ``(content_dim,)``.
            query_text: What was said.
            pool_texts: Texts to take from, N of them.
            weights: Attention over them, ``(N,)``, sum one.
            rng: For what is drawn, if anything.
        """
        if not self.composes:
            raise ConfigError(f"{self.id} has no tools that put texts together; use the decoder 'verbatim'.")
        return composed(self, z, query_text, pool_texts, weights)

    def variants(self, text: str, query_text: str) -> Iterable[str]:
        """Texts that differ from one in a step, for `compose`; none if texts are only to be shown as they are."""
        return ()

    def obeys(self, read: M, query_text: str) -> bool:
        """Whether a text keeps to what a query's words state, for `compose`; it knows no user."""
        return True

    # -- for people -------------------------------------------------------------------------------------------------

    @abstractmethod
    def user_words(self, user: U) -> str:
        """A hidden user in one line."""

    def content_words(self, phi: Array, user: U, need: int) -> dict[str, str]:
        """By part of the reward, what was measured, in a few words; parts with nothing to say are left out."""
        return {}

    def show(self, task: TaskSpec, history: History, last: Mapping[str, Any], shown: Round) -> str:
        """A round as a person reads it (``ansi``)."""
        why = (
            {}
            if shown.read is not None and shown.read.validity <= 0.0
            else self.content_words(shown.content, shown.hidden, shown.need)
        )
        return round_text(task, history, last, shown, self.parts, self.user_words(shown.hidden), why)


# Values in one array while items are compared, so that it stays in the cache.
_CHUNK_VALUES = 2**16


class Judge(Generic[U, M]):
    """Means and parts of items, for users who stay as they are, in the rounds that it was last given.

    Attributes:
        best_item: The best item of each round, ``(L, W)``.
        best_mean: Its mean reward, ``(L, W)``.
    """

    best_item: Indices
    best_mean: Array

    def __init__(self, domain: Domain[U, Any], current: Sequence[U]) -> None:
        self.domain = domain
        self.users = stacked(current)  # (P, U)

    def prepare(self, population: Indices, user: Indices, need: Indices) -> None:
        """Takes L rounds of W lanes, each ``(L, W)``, and finds their best items."""
        self._who, self._need = taken(self.users, (population, user)), need
        R, N = need.size, len(self.domain.items)
        who: Any = taken(self._who, np.unravel_index(np.arange(R), need.shape))
        best, means = np.empty(R, dtype=np.int64), np.empty(R)
        length = max(1, _CHUNK_VALUES // N)
        for first in range(0, R, length):
            rounds = slice(first, first + length)
            everyone = taken(taken(who, rounds), np.s_[:, None])
            parts = self.domain.parts_of(everyone, need.reshape(-1)[rounds, None], self._pool)
            table = np.broadcast_to(self.domain.combine(parts), (len(best[rounds]), N))
            best[rounds] = table.argmax(axis=1)
            means[rounds] = table[np.arange(len(table)), best[rounds]]
        self.best_item, self.best_mean = best.reshape(need.shape), means.reshape(need.shape)
        # one lane alone is judged from the table, which is quicker than round by round
        self._table = (table, {name: np.broadcast_to(parts[name], table.shape) for name in self.domain.parts})

    @cached_property
    def _pool(self) -> Content:
        return Content.of(self.domain.items)

    def of_items(self, i: int, items: Indices) -> tuple[Array, dict[str, Array]]:
        """Means and parts of an item in each lane of round i, each ``(W,)``."""
        parts = self.domain.parts_of(taken(self._who, i), self._need[i], self._pool[items])
        found = {name: np.array(np.broadcast_to(parts[name], items.shape)) for name in self.domain.parts}
        return self.domain.combine(found), found

    def of_item(self, i: int, item: int) -> tuple[float, dict[str, float]]:
        """Mean and parts of an item in round i of the only lane."""
        table, parts = self._table
        if len(table) == len(self._need):  # it has all rounds
            return table.item(i, item), {name: value.item(i, item) for name, value in parts.items()}
        means, found = self.of_items(i, np.array([item]))
        return float(means[0]), {name: float(value[0]) for name, value in found.items()}


class Separable(Domain[U, M]):
    """A domain in which most parts of the reward depend on the need or on the user alone: items are looked up.

    A subclass writes `parts_by_need`, `parts_by_user` and, if it has any, `parts_by_both` in place of `parts_of`.

    Attributes:
        need_parts: Those of `parts` that depend on the need and not on the user.
        both_parts: Those that depend on both. The others depend on the user alone.
    """

    need_parts: ClassVar[tuple[str, ...]]
    both_parts: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def parts_by_need(self, needs: Indices, content: Content) -> dict[str, Array]:
        """The parts in `need_parts`, each ``(...)``."""

    @abstractmethod
    def parts_by_user(self, users: U, content: Content) -> dict[str, Array]:
        """The parts in `user_parts`, each ``(...)``."""

    def parts_by_both(self, users: U, needs: Indices, content: Content) -> dict[str, Array]:
        """The parts in `both_parts`, each ``(...)``."""
        return {}

    def parts_of(self, users: U, needs: Indices, content: Content) -> dict[str, Array]:
        """All of them, in the order of `parts`."""
        found = self.parts_by_need(needs, content) | self.parts_by_user(users, content)
        found |= self.parts_by_both(users, needs, content)
        return {name: found[name] for name in self.parts}

    def combine(self, parts: Mapping[str, Array]) -> Array:
        """The product of all parts, group by group: the bits that looked-up factors give."""
        alone = product(parts, self.need_parts) * product(parts, self.user_parts)
        return np.asarray(alone * product(parts, self.both_parts))

    @cached_property
    def user_parts(self) -> tuple[str, ...]:
        """The parts that depend on the user alone."""
        return tuple(name for name in self.parts if name not in self.need_parts + self.both_parts)

    def judge(self, current: Sequence[U], mode: ActionMode) -> Judge[U, M]:
        """What looks items up."""
        return _Tables(self, current)


def product(parts: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The product of some parts, in the order of their names."""
    total: Any = 1.0
    for name in names:
        total = total * parts[name]
    return total


class _Tables(Judge[U, M]):
    """Judges items by tables: one factor by need and item, one by user and item, and what depends on both."""

    def __init__(self, domain: Separable[U, M], current: Sequence[U]) -> None:
        super().__init__(domain, current)
        self._both = domain.parts_by_both if domain.both_parts else None
        self._both_parts = domain.both_parts
        self._names = (*domain.need_parts, *domain.user_parts)
        N, Q = len(domain.items), domain.num_needs
        by_need = domain.parts_by_need(np.arange(Q)[:, None], self._pool)
        by_user = domain.parts_by_user(taken(self.users, np.s_[:, :, None]), self._pool)
        any_field = next(iter(vars(self.users).values()))
        self._need_parts, self._needs = _table(by_need, domain.need_parts, (Q, N))
        self._user_parts, self._users = _table(by_user, domain.user_parts, (*any_field.shape[:2], N))  # (P, U, N)

    def prepare(self, population: Indices, user: Indices, need: Indices) -> None:
        """Takes rounds ``(L, W)`` and finds the best items."""
        self._rounds = population, user, need
        self._first_lane = list(zip(*(x[:, 0].tolist() for x in self._rounds), strict=True))
        p, u, q = (x.reshape(-1) for x in self._rounds)
        best, means = np.empty(len(q), dtype=np.int64), np.empty(len(q))
        length = max(1, _CHUNK_VALUES // len(self.domain.items))
        for first in range(0, len(q), length):
            rounds = slice(first, first + length)
            table = self._needs[q[rounds]]
            table *= self._users[p[rounds], u[rounds]]
            if self._both is not None:
                who = taken(self.users, (p[rounds, None], u[rounds, None]))
                both = self._both(who, q[rounds, None], self._pool)
                table *= product(both, self._both_parts)
                # those of the last rounds: of all rounds where there is one lane
                self._kept = {name: np.broadcast_to(both[name], table.shape) for name in self._both_parts}
            best[rounds] = table.argmax(axis=1)
            means[rounds] = table[np.arange(len(table)), best[rounds]]
        self.best_item, self.best_mean = best.reshape(need.shape), means.reshape(need.shape)

    def of_items(self, i: int, items: Indices) -> tuple[Array, dict[str, Array]]:
        """Means and parts of an item in each lane, each ``(W,)``."""
        p, u, q = (x[i] for x in self._rounds)
        columns = [*self._need_parts[q, items].T, *self._user_parts[p, u, items].T]
        found = dict(zip(self._names, map(np.ascontiguousarray, columns), strict=True))
        means = self._needs[q, items] * self._users[p, u, items]
        if self._both is not None:
            both = self._both(taken(self.users, (p, u)), q, self._pool[items])
            found |= {name: np.array(np.broadcast_to(both[name], items.shape)) for name in self._both_parts}
            means = means * product(found, self._both_parts)
        return means, {name: found[name] for name in self.domain.parts}

    def of_item(self, i: int, item: int) -> tuple[float, dict[str, float]]:
        """Mean and parts of an item for the only lane."""
        p, u, q = self._first_lane[i]
        values = (*self._need_parts[q, item].tolist(), *self._user_parts[p, u, item].tolist())
        found = dict(zip(self._names, values, strict=True))
        mean = self._needs.item(q, item) * self._users.item(p, u, item)
        if self._both is not None:
            if len(self._kept[self._both_parts[0]]) < len(self._rounds[2]):
                means, parts = self.of_items(i, np.array([item]))
                return float(means[0]), {name: float(value[0]) for name, value in parts.items()}
            found |= {name: value.item(i, item) for name, value in self._kept.items()}
            mean *= product(found, self._both_parts)
        return mean, {name: found[name] for name in self.domain.parts}


def _table(parts: Mapping[str, Array], names: Sequence[str], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Parts as the last axis of one array, and their product."""
    whole = {name: np.broadcast_to(parts[name], shape) for name in names}
    return np.stack(list(whole.values()), axis=-1), np.array(product(whole, names))


@lru_cache(maxsize=_DOMAINS)
def _loaded(cls: Any, config: Any) -> Any:
    return cls(config)


def domain_of(spec: TaskSpec) -> Domain[Any, Any] | None:
    """The domain of a task's texts, for agents that write: they use `content_of` and `compose`.

    None for a task of no such domain, or of one whose texts agents put together themselves.

    Raises:
        ConfigError: The task was made by another version of the domain.
    """
    registered = gym.registry.get(spec.id)
    if registered is None or registered.entry_point is None:
        return None
    cls: Any = load_env_creator(registered.entry_point) if isinstance(registered.entry_point, str) else None
    found = getattr(cls, "domain_class", None)
    if not (isinstance(found, type) and issubclass(found, Domain) and found.composes):
        return None
    domain = found.load(configure(found.config_class, dict(spec.kwargs), spec.id))
    if domain.reward_version != spec.reward_version:
        raise ConfigError(
            f"The task {spec.id} has the reward {spec.reward_version!r}, and what is installed here is "
            f"{domain.reward_version!r}. Install the version that made it, or play the task anew."
        )
    return domain
