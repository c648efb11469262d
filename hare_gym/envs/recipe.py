"""``HareRecipe-v0``: somebody says what they need and must not eat, and gets a recipe that is judged on its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.text.domain import Content, Domain, Population, TextConfig, inner
from hare_gym.text.engine import TextEnvironment, TextVectorEnvironment
from hare_gym.text.recipes import (
    ALLERGENS,
    CONTENT_DIM,
    CUISINES,
    DIETS,
    EFFORT_SCALE,
    FAMILIES,
    FLAVOUR_MIDDLE,
    FLAVOURS,
    HOLDS,
    KIND,
    KIND_BASIS,
    KINDS,
    RADIUS,
    TIME,
    Dish,
    Measures,
    content_of,
    contrasted,
    load_needs,
    load_recipes,
    measures,
    read,
    render,
    skill_word,
)
from hare_gym.text.recipes.compose import Composer

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Hidden users are drawn from these; part of what a seed means.
_MAIN_SHARE = (0.6, 0.85)
_LIKES = (1.0, 0.7, -0.7)
_OFFSET = 0.25
_TWO_ALLERGIES = 0.35
# The reward: the floor, weights and widths of its parts; the liking that is worth nothing and that which is enough.
_FLOOR = 0.1
_NEED, _CUISINE, _FLAVOUR = 0.3, 0.6, 0.6
_LEAST_LIKING, _ENOUGH_LIKING = -0.1, 0.6
_TIME_WIDTH, _SKILL_WIDTH = 0.6, 0.5
# What a dish of each kind usually takes, on the scales of `Measures`; medians of the corpus.
_USUAL_TIME = np.array([0.58, 0.26, 0.46, 0.73, 0.58])
_USUAL_SKILL = np.array([0.20, 0.08, 0.23, 0.23, 0.16])
_PACE = 0.15
# How loudly a query says that a family must not be there, in units of phi.
_EXCLUDED = 0.5
_SAID = {"egg": "eggs", "peanut": "peanuts", "tree nut": "tree nuts"}


@dataclass(frozen=True)
class RecipeConfig(TextConfig):
    """The knobs of `HareRecipe`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        allergic: Share of the users who are allergic to something, a third of them to two things.
        dieting: Share of the users who keep a diet: half of them vegetarian, the others vegan or pescatarian.
    """

    allergic: float = field(default=0.5, metadata={"low": 0, "high": 1})
    dieting: float = field(default=0.4, metadata={"low": 0, "high": 1})


@dataclass(frozen=True, eq=False)
class Eaters(Population):
    """U users. Diet and allergies they say every time; the rest is hidden.

    Attributes:
        cuisines: The mix of cuisines that they like, ``(U, 6)``, sum one: a main one with 0.6 to 0.85, a second with
            the rest.
        likes: What they think of each flavour, ``(U, 6)``: 1 for one, 0.7 for another, -0.7 for a third, else 0.
        time: How much more time than usual they spend, ``(U,)``, -0.25 to 0.25 on the scale of
            `hare_gym.text.recipes.Measures`.
        skill: The same of skill, ``(U,)``.
        diet: Index in `hare_gym.text.recipes.DIETS`, ``(U,)``.
        allergies: Which of `hare_gym.text.recipes.FAMILIES` would hurt them, 0 or 1, ``(U, 11)``.
    """

    cuisines: Array
    likes: Array
    time: Array
    skill: Array
    diet: Indices
    allergies: Array

    def attributes(self) -> dict[str, Array]:
        """What is hidden, by name; ``(U,)`` or ``(U, k)`` each."""
        return {"cuisine": self.cuisines, "flavour": self.likes, "time": self.time, "skill": self.skill}


_DIET_TABLE = np.array([[float(family in families) for family in FAMILIES] for families in DIETS.values()])


class Recipes(Domain[Eaters, Dish]):
    """Recipes: the built-in corpus, needs of everyday cooking, and eaters with tastes, diets and allergies."""

    id = "HareRecipe-v0"
    harm = "safe"
    parts = ("validity", "safe", "diet", "need", "cuisine", "flavour", "time", "skill")
    config_class = RecipeConfig
    reward_version = "recipe-1"
    content_dim = CONTENT_DIM
    query_dim = CONTENT_DIM

    def __init__(self, config: RecipeConfig) -> None:
        super().__init__(config)
        self.recipes = load_recipes()
        self.items = [read(render(recipe)) for recipe in self.recipes]
        self.needs = load_needs()
        self.num_needs = len(self.needs)
        self._kind = np.array([KINDS.index(need.kind) for need in self.needs])
        self._pace = np.array([_PACE * need.pace for need in self.needs])

    def measure(self, text: str) -> Dish:
        """A text in numbers, by the lexicon of `hare_gym.text.recipes`."""
        return read(text)

    # -- users and needs --------------------------------------------------------------------------------------------

    def draw_users(self, rng: np.random.Generator, num_users: int) -> Eaters:
        """Draws users; neighbours differ in their main cuisine, so that few users still cover many."""
        U, C = num_users, len(CUISINES)
        main = np.concatenate([rng.permutation(C) for _ in range(-(-U // C))])[:U]
        second = (main + rng.integers(1, C, U)) % C
        share = rng.uniform(*_MAIN_SHARE, U)
        cuisines = np.zeros((U, C))
        cuisines[np.arange(U), main], cuisines[np.arange(U), second] = share, 1.0 - share
        likes = np.zeros((U, len(FLAVOURS)))
        for row in likes:
            row[rng.permutation(len(FLAVOURS))[: len(_LIKES)]] = _LIKES
        time, skill = rng.uniform(-_OFFSET, _OFFSET, (2, U))
        has, two, keeps, which = rng.random((4, U))
        diet = np.where(keeps < self.config.dieting, 1 + np.searchsorted([0.2, 0.7], which), 0)
        allergies = np.zeros((U, len(FAMILIES)))
        for row, one, other in zip(allergies, has < self.config.allergic, two < _TWO_ALLERGIES, strict=True):
            first, next_one = rng.permutation(len(ALLERGENS))[:2]
            row[first], row[next_one] = float(one), float(one and other)
        return Eaters(cuisines, likes, time, skill, diet.astype(np.int64), allergies)

    def drifted(self, users: Eaters, rng: np.random.Generator, step: float) -> Eaters:
        """Cuisines blend with a new user's, likes become a new user's with chance ``step``, time and skill walk.

        Diet and allergies stay.
        """
        other = self.draw_users(rng, len(users))
        walk = rng.standard_normal((2, len(users))) * step * _OFFSET
        anew = rng.random(len(users)) < step
        return replace(
            users,
            cuisines=(1.0 - step) * users.cuisines + step * other.cuisines,
            likes=np.where(anew[:, None], other.likes, users.likes),
            time=np.clip(users.time + walk[0], -_OFFSET, _OFFSET),
            skill=np.clip(users.skill + walk[1], -_OFFSET, _OFFSET),
        )

    def query_vectors(self, users: Eaters, needs: Indices) -> Array:
        """The kind of dish, more or less time, and below zero what must not be in it, ``(..., 28)``."""
        excluded = np.maximum(users.allergies, _DIET_TABLE[users.diet])
        shape = np.broadcast_shapes(excluded.shape[:-1], np.shape(needs))
        x = np.zeros((*shape, CONTENT_DIM))
        x[..., KIND] = contrasted(np.eye(len(KINDS)), KIND_BASIS)[self._kind[needs]] / RADIUS
        x[..., TIME] = 2.0 * EFFORT_SCALE * self._pace[needs] / RADIUS
        x[..., HOLDS] = -_EXCLUDED * excluded
        return x

    def query_text(self, user: Eaters, need: int) -> str:
        """The need, the diet, and every time the allergies."""
        words = [self.needs[need].text]
        if diet := int(user.diet):
            words.append(f"I am {list(DIETS)[diet]}.")
        if allergies := allergies_of(user):
            words.append(f"I am allergic to {' and '.join(_SAID.get(name, name) for name in allergies)}.")
        return " ".join(words)

    # -- the reward -------------------------------------------------------------------------------------------------

    def parts_of(self, users: Eaters, needs: Indices, content: Content) -> dict[str, Array]:
        """The reward's parts, each ``(...)``."""
        m = measures(content.phi)
        whole = np.ones(np.broadcast_shapes(np.shape(users.time), np.shape(needs), content.phi.shape[:-1]))
        safe = diet = whole
        if content.facts is not None:
            holds = _bits(content.facts[..., :-1])
            allergies = _bits(users.allergies)
            strange = (content.facts[..., -1] > 0.0) & (allergies > 0)
            safe = np.where(((holds & allergies) != 0) | strange, 0.0, whole)
            diet = np.where((holds & _bits(_DIET_TABLE)[users.diet]) != 0, 0.0, whole)
        kind = self._kind[needs]
        # by kind first, which is less to compute
        kinds = np.broadcast_to(_powered(m.kind, _NEED), (*whole.shape, len(KINDS)))
        asked = np.take_along_axis(kinds, np.broadcast_to(kind, whole.shape)[..., None], axis=-1)[..., 0]
        shared = np.minimum(users.cuisines, m.cuisine)
        liking = inner(users.likes, m.flavour)
        enough = (liking - _LEAST_LIKING) / (_ENOUGH_LIKING - _LEAST_LIKING)
        time, skill = self._wished(users, needs)
        return {
            "validity": content.validity * whole,
            "safe": safe,
            "diet": diet,
            "need": asked,
            "cuisine": _powered(inner(shared, np.ones(len(CUISINES))), _CUISINE) * whole,
            "flavour": _powered(enough, _FLAVOUR) * whole,
            "time": _bell((m.time - time) / _TIME_WIDTH) * whole,
            "skill": _bell((m.skill - skill) / _SKILL_WIDTH) * whole,
        }

    def _wished(self, users: Eaters, needs: Indices) -> tuple[Array, Array]:
        """The time and skill that are wished for, ``(...)`` each."""
        kind = self._kind[needs]
        time = np.clip(_USUAL_TIME[kind] + users.time + self._pace[needs], 0.0, 1.0)
        return time, np.clip(_USUAL_SKILL[kind] + users.skill, 0.0, 1.0)

    def optimum(self, users: Eaters, needs: Indices) -> Array:
        """Content that measures as the user wishes, ``(..., 28)``.

        The kind is the one asked for, the mix of cuisines the user's own, flavours are moved along the user's likes
        until the liking is enough, time and skill are those wished for. Every part is then 1, which none exceeds, and
        its length is below 1 for every user that can be drawn: the best content, exactly.
        """
        kind = np.eye(len(KINDS))[self._kind[needs]]
        time, skill = self._wished(users, needs)
        shape = time.shape
        total = inner(users.likes, np.ones(len(FLAVOURS)))
        squares = inner(users.likes, users.likes)
        step = (1.001 * _ENOUGH_LIKING - FLAVOUR_MIDDLE * total) / np.maximum(squares, 1e-9)
        flavour = FLAVOUR_MIDDLE + np.asarray(step)[..., None] * users.likes
        wished = Measures(
            np.broadcast_to(kind, (*shape, len(KINDS))),
            np.broadcast_to(users.cuisines, (*shape, len(CUISINES))),
            np.broadcast_to(np.clip(flavour, 0.0, 1.0), (*shape, len(FLAVOURS))),
            time,
            skill,
        )
        return content_of(wished, np.zeros((*shape, len(FAMILIES))))

    def problems_of(self, user: Eaters, need: int, read: Dish, query_text: str) -> tuple[str, ...]:
        """What is wrong with the text, and what in it would hurt this user or breaks their diet."""
        present = [family for family, there in zip(FAMILIES, read.facts, strict=False) if there]
        allergies = allergies_of(user)
        name = list(DIETS)[int(user.diet)]
        found = [f"it has {family}, which would hurt this user" for family in present if family in allergies]
        found += [f"it has {family}, which is not {name}" for family in present if family in DIETS[name]]
        if read.facts[-1] and allergies:
            found.append(f"what is not known in it may be {allergies[0]}, which would hurt this user")
        return (*found, *read.problems)

    # -- tools ------------------------------------------------------------------------------------------------------

    @cached_property
    def _composer(self) -> Composer:
        return Composer(self.shown)

    def compose(
        self, z: Array, query_text: str, pool_texts: Sequence[str], weights: Array, rng: np.random.Generator
    ) -> str:
        """A valid recipe whose content is near z: one of the pool, made safe for what is said, and seasoned."""
        return self._composer.write(z, query_text, pool_texts, weights)

    def write(self, user: Eaters, need: int, query_text: str) -> str | None:
        """The privileged writer: the best for this user of twelve recipes that were written for the best content."""
        z = self.optimum(user, np.asarray(need))
        even = np.full(len(self.texts), 1.0 / len(self.texts))
        texts = self._composer.candidates(z, query_text, self.texts, even, 12)

        def worth(text: str) -> float:
            parts = self.parts_of(user, np.asarray(need), Content.of([self.shown(text)])[0])
            return float(self.combine(parts))

        return max(texts, key=worth)

    # -- for people -------------------------------------------------------------------------------------------------

    def user_words(self, user: Eaters) -> str:
        """A hidden user in one line."""
        main, second = np.argsort(-user.cuisines, kind="stable")[:2]
        order = np.argsort(-user.likes, kind="stable")
        cuisines = " and ".join(f"{CUISINES[k]} {user.cuisines[k]:.0%}" for k in (main, second))
        taste = f"{FLAVOURS[order[0]]} and {FLAVOURS[order[1]]}, not {FLAVOURS[order[-1]]}"
        effort = f"{'longer' if user.time > 0.0 else 'shorter'} and {'harder' if user.skill > 0.0 else 'easier'}"
        return f"{cuisines}; likes it {taste}; {effort} than usual"

    def content_words(self, phi: Array, user: Eaters, need: int) -> dict[str, str]:
        """By part, what was measured."""
        m = measures(phi)
        kind, cuisine = int(np.argmax(m.kind)), int(np.argmax(m.cuisine))
        strong = np.argsort(-m.flavour, kind="stable")[:2]
        return {
            "need": f"asked for {self.needs[need].kind}, got {KINDS[kind]}",
            "cuisine": f"{CUISINES[cuisine]} {m.cuisine[cuisine]:.0%}",
            "flavour": " and ".join(f"{FLAVOURS[k]} {m.flavour[k]:.2f}" for k in strong),
            "time": f"{7.5 * 16.0 ** float(m.time):.0f} minutes",
            "skill": skill_word(float(m.skill)),
        }


def allergies_of(user: Eaters) -> list[str]:
    """The families that would hurt one user."""
    return [family for family, there in zip(FAMILIES, user.allergies, strict=True) if there]


def _bits(flags: Array) -> Indices:
    """Flags of families as the bits of whole numbers, ``(..., 11)`` to ``(...)``."""
    weights = 2.0 ** np.arange(len(FAMILIES))
    return inner(flags, weights).astype(np.int64)


def _powered(x: Any, exponent: float) -> Array:
    """A share of what was wished for, with a floor, to the power of its weight; 1 stays 1."""
    floored = np.asarray(_FLOOR + (1.0 - _FLOOR) * np.clip(x, 0.0, 1.0))
    return np.asarray(portable.exp(exponent * portable.log(floored)))


def _bell(x: Any) -> Array:
    return np.asarray(portable.exp(np.maximum(np.asarray(-0.5 * x * x), -60.0)))


class HareRecipe(TextEnvironment):
    """Somebody says what they would like to eat and what they must not; the agent answers with a recipe.

    Users have a hidden mix of cuisines, flavours that they like and one that they do not, more or less time than
    others, and more or less skill. Each round one of them states a need ("Something warm in a bowl for two on a
    weekday."), and every time their diet and their allergies. The agent shows one of 141 recipes, gives the content
    vector of one, or writes one. The reward measures the text (`hare_gym.text.recipes`)::

        mu     = validity safe diet n^0.3 c^0.6 f^0.6 time skill      kind of dish, cuisines, flavours
        reward ~ Beta(kappa mu, kappa (1 - mu)), whose mean is exactly mu

    The parts multiply and none exceeds 1, so what one loses no other makes up. An allergen of the user, by name or by
    its family (butter is milk), makes ``safe`` and with it the reward 0, however good the rest is; so does a word
    that the lexicon does not know in a text for an allergic user, as it may be anything. What breaks the user's diet
    makes ``diet`` 0.

    The users are drawn by ``reset(seed=...)``; a reset without a seed starts another session with the same users. The
    noise of round t depends on the seed and t alone, so agents that are compared on a seed meet the same needs, users
    and luck.

    **Action space.** ``select``: ``Discrete(141)``. ``synthesize``: ``Box(-1, 1, (28,), float32)``, a content vector
    in the coordinates of ``task.pool``; one longer than 1 is pulled back to the unit ball. ``write``: a text of at
    most 8,192 characters in the layout of the items' texts. What cannot be read as a recipe earns nothing.

    **Observation space.** ``query``: ``Box(28)``, float64, the need in the coordinates of ``task.pool``: the kind of
    dish, more or less time, and -0.5 for every family that the user must not eat. ``user``: ``Discrete(num_users)``.
    ``query_text``: what is said, in words. The items' vectors are in ``task.pool`` and their texts in
    ``task.pool_texts``. The observation after the last round repeats the last round's.

    **Reward.** In [0, 1], Beta-distributed with mean mu. ``info`` holds the parts by name. ``validity``: 0.7 for each
    breach of the format (no quantity, an ingredient that no step uses or that is not listed, times that do not add
    up, a word that is not known, ...), 0 for a label that names a diet which the dish does not keep. ``safe`` and
    ``diet``: 0 or 1. ``need``, ``cuisine`` and ``flavour``: n, c and f with their exponents, which are whether it is
    the kind of dish asked for, how much of the dish's mix of cuisines is the user's, and how much there is of what
    the user likes, each from 0.1 to 1. ``time`` and ``skill``: bells around what the user wishes for such a dish. In
    ``synthesize`` validity, safe and diet are 1. In ``write`` ``info["problems"]`` says in words what is wrong with
    the text, ``invalid`` is 1 where ``validity`` is below 1, and ``harmful`` where ``safe`` is 0.

    **Oracle.** In ``synthesize`` it is exact: content that measures as the user wishes lies inside the unit ball and
    has every part at 1, so the best content earns 1 (`Recipes.optimum`). In ``write`` this is an upper bound, as no
    recipe need measure exactly so; ``info["oracle_width"]`` is the bound minus what the text of the best item earns.
    The privileged writer, which knows the user, gives the closer lower bound: ``optimal_action()`` is its text, or
    the best item's where that earns more. In ``select`` regret is counted against the best item, in the others
    against 1.

    **Knobs.** `RecipeConfig` lists them all. ``allergic`` and ``dieting`` set how many users must not eat everything,
    ``drift`` moves every user's taste once in ``num_users`` rounds, and ``late_users`` arrive after ``late_from`` of
    the session.

    **Version history.** v0: first version.
    """

    domain_class = Recipes


class HareRecipeVector(TextVectorEnvironment):
    """Many `HareRecipe` in lockstep, in NumPy: lane i with ``seed + i`` gives the single environment's bits."""

    domain_class = Recipes
