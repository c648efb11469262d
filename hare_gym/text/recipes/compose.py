"""Writes recipes from recipes: a tool that knows documents and the lexicon, and neither users nor the reward.

It takes a recipe whose kind, time and craft are near what is asked for, lets something safe stand in for what must
not be in it, and seasons it: it scales, exchanges and adds flavourings until the content comes no nearer. Whatever it
gives has been read again, and is valid and free of what the words exclude.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from hare_gym.errors import ConfigError
from hare_gym.text.recipes import (
    CUISINE,
    CUISINE_BASIS,
    CUISINE_FLOOR,
    CUISINES,
    DIETS,
    EFFORT_SCALE,
    FAMILIES,
    FLAVOUR,
    FLAVOUR_MIDDLE,
    FLAVOUR_SCALE,
    FLAVOURS,
    HOLDS,
    KIND,
    MAX_INGREDIENTS,
    MAX_STEPS,
    PER_LINE,
    PER_STEP,
    PORTIONS,
    RADIUS,
    SKILL,
    TIME,
    Dish,
    Ingredient,
    Line,
    Recipe,
    Step,
    cuisine_shares,
    diet_word,
    flavour_amounts,
    grams,
    lexicon,
    measures,
    render,
    skill_word,
    stem,
)

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

# What may be added, and in what class one thing may stand for another.
_ADDED = ("spice", "herb", "acid", "heat", "sauce", "sweetener", "fat", "nut", "dairy", "baking")
_EXCHANGED = ("spice", "herb", "heat", "sweetener", "nut")
_SCALED = ("spice", "herb", "acid", "heat", "sauce", "sweetener", "nut")
_LEVELS = (0.5, 1.0, 2.0)
_SCALES = (0.4, 1.6, 2.5)
_CHANGES = 8
# What a change must gain, in squared units of RADIUS * phi.
_WORTHWHILE = 0.004
# How much less flavour and cuisine count than the rest while a recipe is looked for: they can be changed.
_CHANGEABLE = 0.25
_LOOKED_AT = 4
_ATTENDED = 32
_CITRUS = ("lemon", "lime")
_FINISHING = ("herb", "acid", "nut", "dairy")
_COOKED_IN = re.compile(r"\b(?:bak|roast|grill)(?:e|es|ing)?\b|\boven\b")
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "ten": 10}
_NUMBER = rf"(\d{{1,2}}|{'|'.join(_NUMBERS)})"
_SERVES = re.compile(rf"\b(?:for|of|are) (?:the |a party of )?{_NUMBER}\b|\b{_NUMBER} (?:people|guests|of us)\b")
_EXCLUDING = re.compile(r"\b(?:allerg\w*|intoleran\w*|without|avoid\w*|no|not|cannot|can't|free)\b")
_DISH_WORDS = {"soup": "Soup", "salad": "Salad", "pan": "Pan", "oven": "Bake", "sweet": "Dessert"}


def stated(query: str) -> tuple[frozenset[str], int]:
    """What a query's words exclude, as families, and for how many it asks; 0 where they do not say.

    Families are excluded by a diet, or by a sentence that speaks of an allergy or of doing without.
    """
    text = query.lower()
    excluded: set[str] = set()
    for diet, families in DIETS.items():
        if re.search(rf"\b{diet}\b", text):
            excluded.update(families)
    for sentence in re.split(r"[.!?;:]", text):
        if _EXCLUDING.search(sentence):
            words = " ".join(stem(word) for word in re.findall(r"[a-z]+", sentence))
            excluded.update(family for family in FAMILIES if re.search(rf"\b{family}\b", words))
            if re.search(r"\b(?:nut)\b", words.replace("tree nut", "")):
                excluded.update(("tree nut", "peanut"))
            if re.search(r"\b(?:wheat|celiac|coeliac)\b", words):
                excluded.add("gluten")
            if re.search(r"\b(?:dairy|lactose)\b", words):
                excluded.add("milk")
    found = _SERVES.search(text)
    number = next(filter(None, found.groups()), "") if found else ""
    return frozenset(excluded), int(number) if number.isdigit() else _NUMBERS.get(number, 0)


@dataclass(frozen=True, eq=False)
class _Pool:
    """A pool's recipes, read: the places of the N that can be used, and their RADIUS * phi, ``(N, 28)``."""

    dishes: tuple[Dish, ...]
    places: Indices
    x: Array
    reach: float


@dataclass(frozen=True, eq=False)
class _Draft:
    """A recipe without what is excluded."""

    dish: Dish
    recipe: Recipe
    swapped: bool
    # by line, whether something else may stand in every place where it is named
    alone: tuple[bool, ...]
    spots: tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...]
    moves: _Moves


@dataclass(frozen=True, eq=False)
class _Options:
    """What may be added under some exclusions: ingredients at levels, K of them."""

    ingredients: Indices
    levels: Array


@dataclass(frozen=True, eq=False)
class _Change:
    """One change of a draft: so many portions of an ingredient in place of a line, or on a new one (-1)."""

    line: int
    ingredient: int
    portions: float


class Composer:
    """Writes recipes near a content vector.

    Args:
        read: Measures a text; give one that remembers.
    """

    def __init__(self, read: Callable[[str], Dish]) -> None:
        self.read = read
        self._pool = lru_cache(maxsize=4)(self._read_pool)
        self._draft = lru_cache(maxsize=512)(self._make_draft)

    def write(self, z: Array, query: str, texts: Sequence[str], weights: Array) -> str:
        """The nearest of a few recipes that obey the query.

        Raises:
            ConfigError: No recipe of the pool can be made to obey it.
        """
        return self.candidates(z, query, texts, weights, 1)[0]

    def candidates(self, z: Array, query: str, texts: Sequence[str], weights: Array, count: int) -> list[str]:
        """Some recipes that obey the query, the nearest first as far as was looked.

        Raises:
            ConfigError: No recipe of the pool can be made to obey it.
        """
        pool = self._pool(tuple(texts))
        excluded, serves = stated(query)
        target = RADIUS * np.asarray(z, dtype=np.float64)
        if not np.isfinite(target).all():
            target = pool.x.mean(axis=0)
        # Which families are in it the words say, and not the content. What is left is asked for at the length of
        # recipes that exist, as its direction says which dish, and its length how surely.
        target[HOLDS] = 0.0
        target *= pool.reach / max(float(np.sqrt(np.vecdot(target, target))), 1e-12)
        order = self._order(pool, target, np.asarray(weights)[pool.places])
        found: list[str] = []
        while len(found) < count:
            plans = list(islice(self._plans(pool, order, target, excluded), max(_LOOKED_AT, count)))
            if not plans:
                break
            for _, draft, changes in sorted(plans, key=lambda plan: plan[0]):
                text = _written(draft, changes, serves)
                dish = self.read(text)
                fits = dish.kind == draft.dish.kind and not dish.facts[-1]
                if fits and dish.validity >= 1.0 and not _holds(dish) & excluded:
                    found.append(text)
                    if len(found) >= count:
                        break
        if not found:
            raise ConfigError(
                f"No recipe of the pool can do without {', '.join(sorted(excluded))}. Give a pool with one that has "
                "none of it, or more that can be changed."
            )
        return found

    def _plans(
        self, pool: _Pool, order: Iterator[int], target: Array, excluded: frozenset[str]
    ) -> Iterator[tuple[float, _Draft, list[_Change]]]:
        """Drafts that can do without what is excluded, with how to season them and how far they will be then."""
        for place in order:
            draft = self._draft(pool.dishes[place], excluded)
            if draft is not None:
                apart, changes = _seasoned(draft, target)
                x = pool.x[place].copy()
                x[SKILL] += (
                    2.0 * EFFORT_SCALE * (PER_LINE + PER_STEP / 4.0) * sum(change.line < 0 for change in changes)
                )
                kept = (x - target) ** 2
                yield float(kept[KIND].sum() + kept[TIME] + kept[SKILL]) + apart, draft, changes

    def _order(self, pool: _Pool, target: Array, weights: Array) -> Iterator[int]:
        """Places in the pool: attended ones first and by nearness, then the others."""
        apart = (pool.x - target) ** 2
        near = apart[:, KIND].sum(axis=1) + apart[:, TIME] + apart[:, SKILL]
        near += _CHANGEABLE * (apart[:, CUISINE].sum(axis=1) + apart[:, FLAVOUR].sum(axis=1))
        order = np.argsort(near, kind="stable")
        attended = np.ones(len(near), dtype=bool)
        if np.ptp(weights) > 0.0:
            attended[np.argsort(-weights, kind="stable")[_ATTENDED:]] = False
        yield from order[attended[order]].tolist()
        yield from order[~attended[order]].tolist()

    def _read_pool(self, texts: tuple[str, ...]) -> _Pool:
        dishes = [self.read(text) for text in texts]
        places = np.array([k for k, dish in enumerate(dishes) if dish.recipe is not None and dish.validity >= 1.0])
        if not len(places):
            raise ConfigError(
                "The pool has no valid recipe to take from. Give it texts in the layout of docs/recipe.md."
            )
        x = RADIUS * np.stack([dishes[k].phi for k in places])
        x[:, HOLDS] = 0.0
        lengths = np.sqrt(np.vecdot(x, x))
        return _Pool(tuple(dishes[k] for k in places), places, x, float(np.median(lengths)))

    # -- doing without ----------------------------------------------------------------------------------------------

    def _make_draft(self, dish: Dish, excluded: frozenset[str]) -> _Draft | None:
        """The recipe without what is excluded; None where nothing can stand in."""
        recipe, known = dish.recipe, lexicon()
        assert recipe is not None
        lines = list(recipe.lines)
        portions = list(dish.portions)
        listed = {line.ingredient for line in lines}
        names: dict[int, str] = {}
        for place, line in enumerate(lines):
            old = known.ingredients[line.ingredient]
            if not old.families & excluded:
                continue
            new = _stand_in(old, excluded, listed, portions[place] * old.portion)
            if new is None:
                return None
            listed.add(new.index)
            portions[place] = min(portions[place], 0.9 * PORTIONS[new.group][1] / new.portion)
            lines[place] = line_of(new, portions[place], recipe.serves)
            names[place] = new.name
        steps, spots = recipe.steps, dish.spots
        if names:
            steps, spots = _renamed(steps, spots, names)
        alone = tuple(
            all(places == (place,) for here in spots for _, _, places in here if place in places)
            for place in range(len(lines))
        )
        changed = replace(recipe, lines=tuple(lines), steps=steps)
        moves = _moves(changed, portions, alone, _options(excluded, dish.kind == "sweet"))
        return _Draft(dish, changed, bool(names), alone, spots, moves)


def _holds(dish: Dish) -> set[str]:
    return {family for family, there in zip(FAMILIES, dish.facts, strict=False) if there}


def _stand_in(old: Ingredient, excluded: frozenset[str], listed: set[int], weight: float) -> Ingredient | None:
    if weight > old.upto:
        return None
    known = lexicon()
    for name in old.swap:
        new = known.by_name[name]
        if not new.families & excluded and new.index not in listed:
            return new
    return None


def _renamed(
    steps: tuple[Step, ...], spots: tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...], names: dict[int, str]
) -> tuple[tuple[Step, ...], tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...]]:
    """Steps with other names for some lines, and where names stand then."""
    new_steps, new_spots = [], []
    for step, here in zip(steps, spots, strict=True):
        text, moved, shift = step.text, [], 0
        for start, end, places in here:
            start, end = start + shift, end + shift
            if len(places) == 1 and places[0] in names:
                name = names[places[0]]
                name = name[0].upper() + name[1:] if text[start].isupper() else name
                text = text[:start] + name + text[end:]
                shift += len(name) - (end - start)
                end = start + len(name)
            moved.append((start, end, places))
        new_steps.append(Step(text, step.minutes))
        new_spots.append(tuple(moved))
    return tuple(new_steps), tuple(new_spots)


@lru_cache(maxsize=4096)
def _options(excluded: frozenset[str], sweet: bool) -> _Options:
    known = lexicon()
    chosen = [
        one
        for one in known.ingredients
        if one.group in _ADDED
        and not one.families & excluded
        and (one.taste.any() or one.cuisines.any())
        and one.name not in known.never_added
        and (one.name in known.sweet and not one.savoury if sweet else one.name not in known.only_sweet)
    ]
    pairs = [
        (one, level) for one in chosen for level in _LEVELS if level * one.portion <= 0.9 * PORTIONS[one.group][1]
    ]
    return _Options(
        np.array([one.index for one, _ in pairs]),
        np.array([level for _, level in pairs]),
    )


@lru_cache(maxsize=1)
def _arrays() -> tuple[Array, Array, Array, NDArray[np.str_], NDArray[np.bool_]]:
    """Tastes and cuisines of all ingredients, portions that are believed, classes, and what is counted in pieces."""
    known = lexicon().ingredients
    return (
        np.array([one.taste for one in known]),
        np.array([one.cuisines for one in known]),
        np.array([0.9 * PORTIONS[one.group][1] / one.portion for one in known]),
        np.array([one.group for one in known]),
        np.array([one.piece > 0.0 for one in known]),
    )


@dataclass(frozen=True, eq=False)
class _Moves:
    """All single changes of a draft, K of them, and the sums that they start from.

    Attributes:
        line: The line that is changed; -1 for a new one, ``(K,)``.
        new: The ingredient, ``(K,)``.
        amount: Portions a person, ``(K,)``.
        strengths: Sums of flavour and of cuisine now, ``(12,)``.
        gained: What each change adds to them, ``(K, 12)``.
    """

    line: Indices
    new: Indices
    amount: Array
    strengths: Array
    gained: NDArray[np.float32]


def _moves(recipe: Recipe, shares: Sequence[float], alone: Sequence[bool], options: _Options) -> _Moves:
    taste, cuisines, most, groups, counted = _arrays()
    place = np.array([line.ingredient for line in recipe.lines])
    portions = np.array(shares)
    there = np.concatenate(
        [taste[place] * np.minimum(portions, 3.0)[:, None], cuisines[place] * np.minimum(portions, 2.0)[:, None]],
        axis=1,
    )
    listed = np.zeros(len(taste), dtype=bool)
    listed[place] = True
    fresh = np.flatnonzero(~listed[options.ingredients])
    codes = groups[options.ingredients[fresh]]
    lines, new, amounts = [np.full(len(fresh), -1)], [options.ingredients[fresh]], [options.levels[fresh]]
    for k, index in enumerate(place.tolist()):
        group = groups[index]
        if group in _SCALED:
            # less of what sweetens would make another dish of a dessert
            scaled = portions[k] * np.array(_SCALES if group != "sweetener" else _SCALES[1:])
            scaled = scaled[scaled <= most[index]]
            lines.append(np.full(len(scaled), k))
            new.append(np.full(len(scaled), index))
            amounts.append(scaled)
        if alone[k] and group in _EXCHANGED:
            # "dice the chilli" holds of another chilli, and not of a paste
            others = fresh[(codes == group) & (counted[options.ingredients[fresh]] == counted[index])]
            if group == "sweetener":
                others = others[options.levels[others] >= portions[k]]
            lines.append(np.full(len(others), k))
            new.append(options.ingredients[others])
            amounts.append(options.levels[others])
    line, chosen, amount = np.concatenate(lines), np.concatenate(new), np.concatenate(amounts)
    gained = np.concatenate(
        [taste[chosen] * np.minimum(amount, 3.0)[:, None], cuisines[chosen] * np.minimum(amount, 2.0)[:, None]],
        axis=1,
    )
    gained[line >= 0] -= there[line[line >= 0]]
    return _Moves(line, chosen, amount, there.sum(axis=0), gained.astype(np.float32))


def _seasoned(draft: _Draft, target: Array) -> tuple[float, list[_Change]]:
    """Changes that bring flavour and cuisine nearest to the target, found one by one, and how far they stay."""
    moves = draft.moves
    wanted = np.concatenate([target[FLAVOUR], target[CUISINE]])
    strengths = moves.strengths
    possible = np.ones(len(moves.line), dtype=bool)
    changes: list[_Change] = []
    now = float(_apart(strengths[None], wanted)[0])
    for _ in range(min(_CHANGES, MAX_INGREDIENTS - len(draft.recipe.lines))):
        apart = np.where(possible, _apart(strengths + moves.gained, wanted), np.inf)
        best = int(np.argmin(apart))
        if apart[best] > now - _WORTHWHILE:
            break
        now = float(apart[best])
        strengths = strengths + moves.gained[best]
        k, new = int(moves.line[best]), int(moves.new[best])
        changes.append(_Change(k, new, float(moves.amount[best])))
        possible &= moves.new != new
        if k >= 0:
            possible &= moves.line != k
    return now, changes


def _apart(strengths: Array, wanted: Array) -> Array:
    """Squared distances of sums of strengths, ``(K, 12)``, from what is wanted, ``(11,)``: ``(K,)``."""
    strengths = np.maximum(strengths, 0.0)
    s, c = strengths[:, : len(FLAVOURS)] / 4.0, strengths[:, len(FLAVOURS) :]
    flavour = FLAVOUR_SCALE * (flavour_amounts(s) - FLAVOUR_MIDDLE) - wanted[: len(FLAVOURS)]
    shares = (c + CUISINE_FLOOR) / (c.sum(axis=1) + CUISINE_FLOOR * len(CUISINES))[:, None]
    cuisine = shares @ CUISINE_BASIS - wanted[len(FLAVOURS) :]
    return np.asarray(np.vecdot(flavour, flavour) + np.vecdot(cuisine, cuisine))


def _sums(ingredients: list[Ingredient], lines: list[Line], serves: int) -> Array:
    total = np.zeros(len(CUISINES))
    for one, line in zip(ingredients, lines, strict=True):
        total += one.cuisines * min(grams(line) / serves / one.portion, 2.0)
    return total


# -- putting it into words ------------------------------------------------------------------------------------------


def _written(draft: _Draft, changes: list[_Change], serves: int) -> str:
    """The text of a draft with changes, for so many people; 0 for as many as it serves."""
    known, recipe = lexicon(), draft.recipe
    serves = serves or recipe.serves
    lines = [_served(line, recipe.serves, serves) for line in recipe.lines]
    names: dict[int, str] = {}
    added: list[Ingredient] = []
    for change in changes:
        one = known.ingredients[change.ingredient]
        line = line_of(one, change.portions, serves)
        if change.line < 0:
            lines.append(line)
            added.append(one)
        else:
            if recipe.lines[change.line].ingredient != one.index:
                names[change.line] = one.name
            lines[change.line] = line
    steps = _renamed(recipe.steps, draft.spots, names)[0] if names else recipe.steps
    steps = _with_seasoning(steps, added, draft.dish.kind)
    ingredients = [known.ingredients[line.ingredient] for line in lines]
    held = {family for one in ingredients for family in one.families}
    shares = cuisine_shares(_sums(ingredients, lines, serves))
    cuisine = CUISINES[int(np.argmax(shares))]
    skill = float(measures(draft.dish.phi).skill) + PER_LINE * len(added)
    return render(
        Recipe(
            _title(draft, lines, added, bool(names), cuisine),
            cuisine,
            diet_word(np.array([family in held for family in FAMILIES])),
            serves,
            sum(step.minutes for step in steps),
            skill_word(skill),
            tuple(lines),
            steps,
        )
    )


def line_of(one: Ingredient, portions: float, serves: int) -> Line:
    """So many portions a person of an ingredient, in the unit in which a cook would measure it."""
    weight = portions * one.portion * serves
    if one.group == "spice" and not one.piece:
        return Line(max(round(weight / 2.5 * 2.0) / 2.0, 0.5), "tsp", one.name, one.index)
    if one.piece and one.group not in ("herb", "vegetable", "nut", "dairy"):
        return Line(max(round(weight / one.piece * 2.0) / 2.0, 0.5), "", one.name, one.index)
    if one.group in ("acid", "sauce", "sweetener", "fat", "heat"):
        if weight < 15.0:
            return Line(max(round(weight / 5.0 * 2.0) / 2.0, 0.5), "tsp", one.name, one.index)
        return Line(round(weight / 15.0 * 2.0) / 2.0, "tbsp", one.name, one.index)
    return Line(
        _rounded(weight), "ml" if one.group == "liquid" or one.name.endswith("milk") else "g", one.name, one.index
    )


def _rounded(weight: float) -> float:
    step = 1.0 if weight < 20.0 else 5.0 if weight < 200.0 else 10.0
    return max(round(weight / step) * step, 1.0)


def _served(line: Line, old: int, new: int) -> Line:
    """A line for another number of people."""
    if old == new:
        return line
    amount = line.amount * new / old
    if line.unit in ("g", "ml"):
        return replace(line, amount=_rounded(amount))
    if line.unit in ("kg", "l"):
        return replace(line, amount=max(round(amount, 1), 0.1))
    return replace(line, amount=max(round(amount * 4.0) / 4.0, 0.25))


def _with_seasoning(steps: tuple[Step, ...], added: list[Ingredient], kind: str) -> tuple[Step, ...]:
    if not added or len(steps) + 2 > MAX_STEPS:
        return steps
    early = [one for one in added if one.group not in _FINISHING]
    late = [one for one in added if one.group in _FINISHING]
    result = list(steps)
    if early:
        verb = {"salad": "Toss with", "sweet": "Flavour with"}.get(kind, "Season with")
        before = len(result)
        if kind == "oven":
            before = next((k for k, step in enumerate(steps) if _COOKED_IN.search(step.text.lower())), before)
        elif kind in ("soup", "pan"):
            before -= 1
        result.insert(before, Step(f"{verb} {_listing(early)}.", 1 if kind in ("salad", "sweet") else 2))
    if late:
        result.append(Step(f"Finish with {_listing(late)}.", 1))
    return tuple(result)


def _listing(several: list[Ingredient]) -> str:
    words = [f"the juice of the {one.name}" if one.name in _CITRUS else f"the {one.name}" for one in several]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _title(draft: _Draft, lines: list[Line], added: list[Ingredient], renamed: bool, cuisine: str) -> str:
    """The recipe's own title while it holds, with what is new; else one of what is most in it."""
    known = lexicon()
    if draft.swapped or renamed:
        main = sorted(
            (line for line in lines if known.ingredients[line.ingredient].group in _MAIN),
            key=lambda line: -grams(line) / known.ingredients[line.ingredient].portion,
        )
        names = [line.name.title() for line in main[:2]]
        return f"{cuisine.title()} {_DISH_WORDS[draft.dish.kind]}" + (" with " + " and ".join(names) if names else "")
    title = draft.recipe.title
    if added:
        title += (" and " if " with " in title else " with ") + added[0].name.title()
    return title


_MAIN = ("vegetable", "fruit", "starch", "legume", "protein", "nut", "dairy")
