"""Recipes: the built-in corpus, the lexicon of ingredients, and what a recipe's text is in numbers.

The corpus is in one YAML file a cuisine. ``lexicon.yaml`` says what each ingredient is: its class, the allergen
families it belongs to, what it tastes of, the cuisines it speaks of, and what may stand in for it. ``needs.yaml``
holds what people ask for. `read` takes a text apart and measures it by the lexicon alone, so that any reader gets the
same.

The nine allergens are those that United States law has on labels (FALCPA 2004, FASTER Act 2021); meat and honey are
families too, because diets exclude them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.text.characters import HOMOGLYPHS, character_name, invisible
from hare_gym.text.domain import Measured
from hare_gym.text.measure import simplex
from hare_gym.text.space import contrasts

Array = NDArray[np.float64]

FOLDER = Path(__file__).parent
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ALLERGENS = ("milk", "egg", "fish", "shellfish", "peanut", "tree nut", "gluten", "soy", "sesame")
FAMILIES = (*ALLERGENS, "meat", "honey")
DIETS: dict[str, tuple[str, ...]] = {
    "omnivore": (),
    "pescatarian": ("meat",),
    "vegetarian": ("meat", "fish", "shellfish"),
    "vegan": ("meat", "fish", "shellfish", "milk", "egg", "honey"),
}
"""What each diet excludes."""
CUISINES = ("italian", "mexican", "indian", "east asian", "middle eastern", "northern")
KINDS = ("soup", "salad", "pan", "oven", "sweet")
FLAVOURS = ("hot", "sweet", "sour", "umami", "fresh", "rich")
SKILLS = ("easy", "medium", "hard")

# A portion of each class for one person, and the most that is believed, in grams.
PORTIONS = {
    "seasoning": (2.0, 12.0),
    "spice": (1.0, 8.0),
    "herb": (4.0, 40.0),
    "acid": (10.0, 80.0),
    "heat": (4.0, 30.0),
    "sauce": (10.0, 80.0),
    "sweetener": (10.0, 60.0),
    "fat": (10.0, 110.0),
    "aromatic": (25.0, 250.0),
    "vegetable": (80.0, 500.0),
    "fruit": (80.0, 450.0),
    "starch": (75.0, 300.0),
    "legume": (70.0, 250.0),
    "protein": (100.0, 450.0),
    "dairy": (40.0, 320.0),
    "nut": (15.0, 80.0),
    "liquid": (200.0, 900.0),
    "baking": (5.0, 60.0),
}
# Grams of a unit; a spoon of spice or herb is lighter than one of liquid.
UNITS = {
    "g": 1.0,
    "kg": 1000.0,
    "ml": 1.0,
    "l": 1000.0,
    "tsp": 5.0,
    "tbsp": 15.0,
    "cup": 200.0,
    "can": 400.0,
    "pinch": 0.4,
    "handful": 20.0,
    "slice": 1.0,
    "clove": 1.0,
    "sprig": 1.0,
    "stalk": 1.0,
    "leaf": 1.0,
}
_LIGHT = {"tsp": 2.5, "tbsp": 7.0}
# Units that count pieces: their grams are the ingredient's own.
_PIECES = frozenset({"", "slice", "clove", "sprig", "stalk", "leaf"})
_FREE = ("salt", "black pepper", "water", "ice")
MAX_CHARACTERS = 8192
MAX_SERVES, MAX_MINUTES, MAX_STEPS, MAX_INGREDIENTS = 12, 720, 16, 30
_BREACH = 0.7
# What each ingredient after the fourth, and each step after the second, asks of a cook.
PER_LINE, PER_STEP = 0.015, 0.02

# -- the content vector ---------------------------------------------------------------------------------------------

KIND_BASIS = _K = contrasts(len(KINDS))
CUISINE_BASIS = _C = contrasts(len(CUISINES))
KIND = slice(0, len(KINDS) - 1)
CUISINE = slice(KIND.stop, KIND.stop + len(CUISINES) - 1)
FLAVOUR = slice(CUISINE.stop, CUISINE.stop + len(FLAVOURS))
TIME, SKILL = FLAVOUR.stop, FLAVOUR.stop + 1
HOLDS = slice(SKILL + 1, SKILL + 1 + len(FAMILIES))
CONTENT_DIM = HOLDS.stop
RADIUS = 1.8
# Where a flavour's coordinate is zero, and how far the coordinates reach.
# What a dish speaks of each cuisine before any ingredient does.
CUISINE_FLOOR = 0.05
FLAVOUR_MIDDLE, FLAVOUR_SCALE, EFFORT_SCALE, HOLDS_SCALE = 0.2, 1.2, 0.5, 0.2


@dataclass(frozen=True, eq=False)
class Measures:
    """What phi says of a recipe; every array may have leading axes.

    Attributes:
        kind: Mix of `KINDS`, ``(..., 5)``, sum one.
        cuisine: Mix of `CUISINES`, ``(..., 6)``, sum one.
        flavour: Amounts of `FLAVOURS`, ``(..., 6)``, each 0 to 1.
        time: ``(...)``, 0 for 7.5 minutes to 1 for two hours, by the logarithm.
        skill: ``(...)``, 0 anybody to 1 a trained cook.
    """

    kind: Array
    cuisine: Array
    flavour: Array
    time: Array
    skill: Array


def measures(phi: Array) -> Measures:
    """Reads the measures off content vectors, ``(..., 28)``."""
    x = RADIUS * np.asarray(phi, dtype=np.float64)
    return Measures(
        _mix(x[..., KIND], _K),
        _mix(x[..., CUISINE], _C),
        np.clip(FLAVOUR_MIDDLE + x[..., FLAVOUR] / FLAVOUR_SCALE, 0.0, 1.0),
        np.clip(0.5 + x[..., TIME] / (2.0 * EFFORT_SCALE), 0.0, 1.0),
        np.clip(0.5 + x[..., SKILL] / (2.0 * EFFORT_SCALE), 0.0, 1.0),
    )


def content_of(measured: Measures, holds: Array) -> Array:
    """The content vector that measures exactly so: the inverse of `measures`, ``(..., 28)``.

    Args:
        measured: What it should measure.
        holds: Which families are in it, 0 or 1, ``(..., 11)``.
    """
    effort = EFFORT_SCALE * (2.0 * np.stack([measured.time, measured.skill], axis=-1) - 1.0)
    x = np.concatenate(
        [
            contrasted(measured.kind, _K),
            contrasted(measured.cuisine, _C),
            FLAVOUR_SCALE * (measured.flavour - FLAVOUR_MIDDLE),
            effort,
            HOLDS_SCALE * holds,
        ],
        axis=-1,
    )
    return np.asarray(x / RADIUS)


def contrasted(mix: Array, basis: Array) -> Array:
    """The contrasts of mixes of k names, ``(..., k - 1)``, added in order."""
    total = mix[..., :1] * basis[0]
    for k in range(1, len(basis)):
        total = total + mix[..., k : k + 1] * basis[k]
    return np.asarray(total)


def _mix(x: Array, basis: Array) -> Array:
    total = x[..., :1] * basis[:, 0]
    for j in range(1, basis.shape[1]):
        total = total + x[..., j : j + 1] * basis[:, j]
    return simplex(1.0 / len(basis) + total)


def cuisine_shares(sums: Array) -> Array:
    """The mix of cuisines from the sums of what ingredients speak of, ``(..., 6)`` both."""
    total: Any = sums[..., 0]
    for k in range(1, len(CUISINES)):
        total = total + sums[..., k]
    return np.asarray((sums + CUISINE_FLOOR) / (np.asarray(total)[..., None] + CUISINE_FLOOR * len(CUISINES)))


def flavour_amounts(sums: Array) -> Array:
    """Amounts of flavour from sums of strengths, ``(..., 6)`` both: half at a sum of one, never quite one."""
    return np.asarray(sums / (1.0 + sums))


# -- the lexicon ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Ingredient:
    """What one ingredient is.

    Attributes:
        index: Its place in the lexicon.
        name: What it is called.
        group: Its class, one of `PORTIONS`.
        families: The families it belongs to, of `FAMILIES`.
        taste: Strength of each flavour in one portion, ``(6,)``.
        cuisines: How much one portion speaks of each cuisine, ``(6,)``.
        swap: Names of what may stand in for it, the best first.
        piece: Grams of one; 0 where it is not counted in pieces.
        upto: Grams a person up to which something may stand in for it; more would change the dish.
        savoury: Whether a dish that has it is none of the sweet ones.
    """

    index: int
    name: str
    group: str
    families: frozenset[str]
    taste: Array
    cuisines: Array
    swap: tuple[str, ...]
    piece: float
    upto: float
    savoury: bool

    @property
    def portion(self) -> float:
        """A portion of its class, in grams."""
        return PORTIONS[self.group][0]


Phrase = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Lexicon:
    """All that is known of words.

    Attributes:
        ingredients: In order.
        by_name: By name.
        phrases: What a phrase of stems names: indices of ingredients, one for a name, several for a general word.
        names: By phrase, the ingredient that is so called.
        endings: By phrase, the ingredients whose names are longer and end so.
        techniques: How much a technique's stem asks of a cook.
        words: Stems of other words that steps may use.
        sweet: Names of what may season a sweet dish.
        only_sweet: Those that season nothing else.
        never_added: Names of what needs more than stirring in.
        longest: Words in the longest phrase.
    """

    ingredients: tuple[Ingredient, ...]
    by_name: Mapping[str, Ingredient]
    phrases: Mapping[Phrase, frozenset[int]]
    names: Mapping[Phrase, int]
    endings: Mapping[Phrase, frozenset[int]]
    techniques: Mapping[str, float]
    words: frozenset[str]
    sweet: frozenset[str]
    only_sweet: frozenset[str]
    never_added: frozenset[str]
    longest: int


_IRREGULAR = {"leaves": "leaf", "halves": "half", "loaves": "loaf", "knives": "knife"}


def stem(word: str) -> str:
    """A word in the singular, roughly; the same for both forms is all that is asked of it."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("oes", "shes", "ches", "sses", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


_WORD = re.compile(r"[^\W\d_]+")


def _phrase(name: str) -> Phrase:
    return tuple(stem(word) for word in _WORD.findall(name))


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The shipped lexicon."""
    raw = yaml.load((FOLDER / "lexicon.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    ingredients = tuple(_ingredient(k, name, told) for k, (name, told) in enumerate(raw["ingredients"].items()))
    by_name = {one.name: one for one in ingredients}
    names: dict[Phrase, int] = {}
    for one in ingredients:
        for name in (one.name, *raw["ingredients"][one.name].get("also", ())):
            names[_phrase(name)] = one.index
    endings: dict[Phrase, set[int]] = {}
    for one in ingredients:
        phrase = _phrase(one.name)
        for k in range(1, len(phrase)):
            endings.setdefault(phrase[k:], set()).add(one.index)
    general: dict[Phrase, set[int]] = {}
    for word, members in raw["general"].items():
        general.setdefault(_phrase(word), set()).update(by_name[name].index for name in members)
    for phrase, index in names.items():
        general.setdefault(phrase, set()).add(index)
    phrases = {phrase: frozenset(members) for phrase, members in general.items()}
    longest = max(map(len, phrases))
    words = {stem(word) for word in raw["words"]}
    for recipe in _raw_recipes():
        for step in recipe["steps"]:
            for _, _, phrase, named in _tokens(step.lower(), phrases, longest):
                if not named:  # words that are part of an ingredient's name are none on their own
                    words.update(phrase)
    return Lexicon(
        ingredients,
        by_name,
        phrases,
        names,
        {phrase: frozenset(found) for phrase, found in endings.items()},
        {form: worth for word, worth in raw["techniques"].items() for form in _forms(word)},
        frozenset(words) | {form for word in raw["techniques"] for form in _forms(word)},
        frozenset(raw["sweet"]),
        frozenset(raw["only sweet"]),
        frozenset(raw["never added"]),
        longest,
    )


def _forms(word: str) -> set[str]:
    """Stems of a verb's forms: fry, fried, frying; bake, baked, baking; chop, chopped, chopping."""
    word = word.split("-")[-1]
    base = word[:-1] if word.endswith("e") else word
    past = word[:-1] + "ied" if word.endswith("y") else base + "ed"
    double = word + word[-1]
    return {stem(form) for form in (word, past, base + "ing", double + "ed", double + "ing")}


def _ingredient(index: int, name: str, told: Mapping[str, Any]) -> Ingredient:
    taste = np.array([float(told.get("taste", {}).get(flavour, 0.0)) for flavour in FLAVOURS])
    group = told["is"]
    umami, sour = taste[FLAVOURS.index("umami")], taste[FLAVOURS.index("sour")]
    savoury = {
        "aromatic": name != "ginger",
        "legume": True,
        "protein": name != "eggs",
        "vegetable": name not in ("carrot", "squash", "sweet potatoes", "beetroot"),
        "sauce": bool(umami >= 0.3 or sour >= 0.5),
        "liquid": bool(umami >= 0.3),
        "dairy": bool(umami >= 0.4),
    }.get(group, False)
    return Ingredient(
        index,
        name,
        group,
        frozenset(told.get("has", ())),
        taste,
        np.array([float(told.get("from", {}).get(cuisine, 0.0)) for cuisine in CUISINES]),
        tuple(told.get("swap", ())),
        float(told.get("piece", 0.0)),
        float(told.get("upto", np.inf)),
        savoury,
    )


@lru_cache(maxsize=1)
def _raw_recipes() -> tuple[dict[str, Any], ...]:
    return tuple(
        {"cuisine": cuisine, **recipe}
        for cuisine in CUISINES
        for recipe in yaml.load(
            (FOLDER / f"{cuisine.replace(' ', '_')}.yaml").read_text(encoding="utf-8"), Loader=_Loader
        )
    )


# -- recipes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One ingredient of a recipe.

    Attributes:
        amount: How many of the unit, above 0; 0 where none is given.
        unit: One of `UNITS`, or empty for pieces.
        name: What it is called in the text.
        ingredient: Its place in the lexicon; -1 for one that is not known.
        note: What is said after a comma.
    """

    amount: float
    unit: str
    name: str
    ingredient: int
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One step: what to do, and the minutes it takes."""

    text: str
    minutes: int


@dataclass(frozen=True)
class Recipe:
    """A recipe, taken apart. `render` writes it out."""

    title: str
    cuisine: str
    diet: str
    serves: int
    minutes: int
    skill: str
    lines: tuple[Line, ...]
    steps: tuple[Step, ...]


def render(recipe: Recipe) -> str:
    """A recipe's text, in the layout that `read` reads."""
    rows = [
        f"# {recipe.title}",
        "",
        f"Cuisine: {recipe.cuisine} | Diet: {recipe.diet} | Serves: {recipe.serves} | "
        f"Time: {recipe.minutes} minutes | Skill: {recipe.skill}",
        "",
        "## Ingredients",
        "",
        *("- " + written(line) for line in recipe.lines),
        "",
        "## Steps",
        "",
        *(f"{n}. {step.text} ({step.minutes} min)" for n, step in enumerate(recipe.steps, 1)),
    ]
    return "\n".join(rows) + "\n"


def written(line: Line) -> str:
    """An ingredient with its quantity: ``2 tbsp olive oil``."""
    amount = f"{line.amount:g}"
    plural = "s" if line.unit in ("cup", "can", "clove", "slice", "sprig", "stalk") and line.amount > 1.0 else ""
    unit = "leaves" if line.unit == "leaf" and line.amount > 1.0 else line.unit + plural
    return " ".join(part for part in (amount, unit, line.name) if part) + (f", {line.note}" if line.note else "")


@dataclass(frozen=True, eq=False)
class Dish(Measured):
    """A recipe's text, measured. Its facts are which of `FAMILIES` are in it, then 1 if a word was not understood.

    Attributes:
        recipe: What was read; None for a text that cannot be.
        kind: One of `KINDS`, by what is done with which ingredients; empty if it cannot be read.
        portions: By line, portions a person.
        spots: By step, where ingredients are named: start, end, and the lines that may be meant.
    """

    recipe: Recipe | None = None
    kind: str = ""
    portions: tuple[float, ...] = ()
    spots: tuple[tuple[tuple[int, int, tuple[int, ...]], ...], ...] = ()


_TITLE = re.compile(r"# (\S.{0,119})")
_FACTS = re.compile(
    r"Cuisine: ([a-z ]+) \| Diet: ([a-z]+) \| Serves: (\d{1,4}) \| Time: (\d{1,5}) minutes \| Skill: ([a-z]+)"
)
_ITEM = re.compile(r"- (?:(\d{1,5}(?:\.\d{1,3})?)(?:/(\d{1,3}))? )?(.{1,200})")
_STEP = re.compile(r"(\d{1,3})\. (.{1,600}?)(?: \((\d{1,5}) min\))?")
_ODD = re.compile(r"[^a-z0-9\s.,;:'’()/|#%&+°\-–—!?\"]")
_UNIT_OF = {form: unit for unit in UNITS for form in (unit, unit + "s", unit + "es")} | {"leaves": "leaf"}
_HEADS = ("## Ingredients", "## Steps")

_OVEN = re.compile(r"(?:bak|roast|grill)(?:e|ed|es|ing|s)?|oven")
_STOVE = re.compile(
    r"(?:fr(?:y|ied|ies)|frying|simmer\w*|boil\w*|sear|seared|sears|searing|sweat|soften\w*|brown|browned|melt\w*|poach\w*"
    r"|steam\w*|toast\w*|char|charred|warm|warmed|brais\w+|stew\w*|bloom\w*|wilt\w*|scrambl\w+|reduc\w+|stir-fry)"
)


def plain(text: str) -> str:
    """A text with disguises taken off: look-alike letters, accents, styled letters; lower case."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", text.translate(HOMOGLYPHS)).translate(HOMOGLYPHS)
    text = "".join(c for c in text if not unicodedata.combining(c))
    return text.replace("\u2044", "/").casefold()


@dataclass(frozen=True)
class _Mentions:
    """Words of a line: the phrases that name ingredients, with their places, and what was not understood."""

    named: tuple[tuple[int, int, Phrase], ...]
    stems: tuple[str, ...]
    strange: tuple[str, ...]


def _tokens(
    text: str, phrases: Mapping[Phrase, frozenset[int]], longest: int
) -> Iterator[tuple[int, int, Phrase, bool]]:
    """Start, end and stems of the words of a line of plain text, and whether they name an ingredient."""
    words = [(match.start(), match.end(), stem(match[0])) for match in _WORD.finditer(text)]
    i = 0
    while i < len(words):
        reach = 1
        while reach < longest and i + reach < len(words):
            if text[words[i + reach - 1][1] : words[i + reach][0]] not in (" ", "-"):
                break
            reach += 1
        for length in range(reach, 0, -1):
            phrase = tuple(word[2] for word in words[i : i + length])
            if phrase in phrases:
                break
        named = phrase in phrases
        yield words[i][0], words[i + length - 1][1], phrase, named
        i += length


@lru_cache(maxsize=16_384)
def _mentions(text: str) -> _Mentions:
    """Reads one line of plain text."""
    known = lexicon()
    named: list[tuple[int, int, Phrase]] = []
    stems: list[str] = []
    strange = [character for character in _ODD.findall(text) if not character.isalpha()]
    for start, end, phrase, names in _tokens(text, known.phrases, known.longest):
        if names:
            named.append((start, end, phrase))
            continue
        stems += phrase
        if phrase[0] not in known.words:
            strange.append(text[start:end])
    return _Mentions(tuple(named), tuple(stems), tuple(dict.fromkeys(strange)))


def _unreadable(text: str, problem: str, facts: Array | None = None) -> Dish:
    facts = np.zeros(len(FAMILIES) + 1) if facts is None else facts
    facts[-1] = 1.0  # what cannot be read may hold anything
    return Dish(text, np.zeros(CONTENT_DIM), 0.0, facts, problems=(problem,))


def read(text: str) -> Dish:
    """A recipe's text, taken apart and measured; it never raises.

    Every breach of the format costs three tenths of what validity is left; a false diet on the label costs all of it.
    A text that is no recipe has validity 0 and content 0.
    """
    if len(text) > MAX_CHARACTERS:
        return _unreadable(text[:MAX_CHARACTERS], f"it is longer than {MAX_CHARACTERS:,} characters")
    if unseen := invisible(text):
        return _unreadable(text, f"it hides the character {character_name(unseen[0][1])}")
    rows = [row for row in re.split(r"\r?\n", text) if row.strip()]
    found = _taken_apart(rows)
    if isinstance(found, str):
        return _unreadable(text, found, _facts_of(rows))
    return _measured(text, *found)


def _facts_of(rows: Sequence[str]) -> Array:
    """The families that any line of a text names, for one whose layout cannot be read."""
    facts = np.zeros(len(FAMILIES) + 1)
    for row in rows[:200]:
        for _, _, phrase in _mentions(plain(row[:1000])).named:
            _hold(facts, lexicon().phrases[phrase])
    return facts


def _hold(facts: Array, members: frozenset[int] | set[int]) -> None:
    for index in members:
        for family in lexicon().ingredients[index].families:
            facts[FAMILIES.index(family)] = 1.0


def _taken_apart(rows: list[str]) -> tuple[Recipe, list[str], list[str]] | str:
    """The recipe, problems, and lines that stand where none should; or why it is no recipe."""
    if not rows or not (title := _TITLE.fullmatch(rows[0].rstrip())):
        return "its first line is no title: begin with '# ' and the dish"
    if any(rows.count(head) != 1 for head in _HEADS) or rows.index(_HEADS[0]) > rows.index(_HEADS[1]):
        return "it has not the sections '## Ingredients' and '## Steps', each once and in this order"
    first, second = rows.index(_HEADS[0]), rows.index(_HEADS[1])
    if first < 2 or not (facts := _FACTS.fullmatch(rows[1].strip())):
        layout = "Cuisine: ... | Diet: ... | Serves: ... | Time: ... minutes | Skill: ..."
        return f"its second line is not in the layout '{layout}'"
    problems: list[str] = []
    foreign = rows[2:first]
    lines: list[Line] = []
    for row in rows[first + 1 : second]:
        if not (item := _ITEM.fullmatch(row.rstrip())):
            foreign.append(row)
            continue
        lines.append(_line(item, problems))
    steps: list[Step] = []
    for row in rows[second + 1 :]:
        if not (step := _STEP.fullmatch(row.rstrip())):
            foreign.append(row)
            continue
        if int(step[1]) != len(steps) + 1:
            problems.append(f"step {len(steps) + 1} has the number {step[1]}")
        if step[3] is None:
            problems.append(f"step {len(steps) + 1} does not say how long it takes: end it with '(5 min)'")
        steps.append(Step(step[2], int(step[3] or 0)))
    if not lines or not steps:
        return "it lists no ingredient or no step"
    cuisine, diet, serves, minutes, skill = facts.groups()
    recipe = Recipe(title[1], cuisine, diet, int(serves), int(minutes), skill, tuple(lines), tuple(steps))
    return recipe, problems, foreign


def _line(item: re.Match[str], problems: list[str]) -> Line:
    amount, below, rest = item.groups()
    number = float(amount or 0.0) / float(below or 1.0) if float(below or 1.0) else 0.0
    words = rest.split(" ", 1)
    unit = _UNIT_OF.get(words[0], "") if amount and len(words) > 1 else ""
    name, _, note = (words[1] if unit else rest).partition(",")
    index = lexicon().names.get(_phrase(plain(name)), -1)
    if not amount or number <= 0.0:
        problems.append(f"'{name}' has no quantity")
    return Line(number, unit, name.strip(), index, note.strip())


def grams(line: Line) -> float:
    """What a line weighs, in grams."""
    one = lexicon().ingredients[line.ingredient]
    if line.unit in _PIECES:
        return line.amount * (one.piece or PORTIONS[one.group][0])
    if one.group in ("spice", "herb") and line.unit in _LIGHT:
        return line.amount * _LIGHT[line.unit]
    return line.amount * UNITS[line.unit]


def _measured(text: str, recipe: Recipe, problems: list[str], foreign: list[str]) -> Dish:
    known = lexicon()
    facts = np.zeros(len(FAMILIES) + 1)
    fatal = False
    strange: list[str] = []
    if recipe.cuisine not in CUISINES:
        problems.append(f"no cuisine is called '{recipe.cuisine}': use {', '.join(CUISINES)}")
    if not 1 <= recipe.serves <= MAX_SERVES:
        problems.append(f"it serves {recipe.serves}: 1 to {MAX_SERVES} are believed")
    serves = min(max(recipe.serves, 1), MAX_SERVES)
    if foreign:
        problems.append(f"'{foreign[0][:60]}' stands where no such line belongs")
    if not 3 <= len(recipe.lines) <= MAX_INGREDIENTS:
        problems.append(f"it has {len(recipe.lines)} ingredients: 3 to {MAX_INGREDIENTS} are believed")
    if not 2 <= len(recipe.steps) <= MAX_STEPS:
        problems.append(f"it has {len(recipe.steps)} steps: 2 to {MAX_STEPS} are believed")

    # what is in it, and how much
    listed: dict[int, int] = {}
    portions: list[float] = []
    sums, marks = np.zeros(len(FLAVOURS)), np.zeros(len(CUISINES))
    sweetness = liquid = 0.0
    savoury = False
    for place, line in enumerate(recipe.lines):
        if line.ingredient < 0:
            strange.append(line.name)
            for _, _, phrase in _mentions(plain(line.name)).named:
                _hold(facts, known.phrases[phrase])
            portions.append(0.0)
            continue
        one = known.ingredients[line.ingredient]
        if line.ingredient in listed:
            problems.append(f"'{one.name}' is listed twice")
        listed[line.ingredient] = place
        _hold(facts, {one.index})
        weight = grams(line) / serves
        if weight > PORTIONS[one.group][1]:
            problems.append(f"{weight:.0f} g of {one.name} a person is more than anybody eats")
        share = weight / one.portion
        portions.append(share)
        sums += one.taste * min(share, 3.0)
        marks += one.cuisines * min(share, 2.0)
        savoury = savoury or one.savoury
        if one.group in ("sweetener", "fruit", "baking") or one.name == "raisins":
            sweetness += one.taste[1] * min(share, 3.0)
        if one.group == "liquid":
            liquid += weight

    # whether steps use what is listed, and nothing else
    used: set[int] = set()
    spots: list[tuple[tuple[int, int, tuple[int, ...]], ...]] = []
    oven = stove = 0
    crafts: dict[str, float] = {}
    texts = [step.text for step in recipe.steps]
    loose = [recipe.title, *(line.note for line in recipe.lines if line.note), *foreign]
    for k, part in enumerate([*texts, *loose]):
        found = _mentions(plain(part))
        here: list[tuple[int, int, tuple[int, ...]]] = []
        for start, end, phrase in found.named:
            meant = _meant(phrase, listed, known)
            if meant:
                here.append((start, end, tuple(listed[index] for index in meant)))
                if k < len(texts):
                    used.update(meant)
            elif not any(known.ingredients[index].name in _FREE for index in known.phrases[phrase]):
                problems.append(f"'{' '.join(phrase)}' is named and not listed")
                _hold(facts, known.phrases[phrase])
        if k != len(texts):  # a dish may be called anything
            strange += found.strange
        if k < len(texts):
            spots.append(tuple(here))
            # a dish's own word may be a technique ("brown rice"), so phrases are not looked at
            words = found.stems
            if any(_OVEN.fullmatch(word) for word in words):
                oven += recipe.steps[k].minutes
            elif any(_STOVE.fullmatch(word) for word in words):
                stove += recipe.steps[k].minutes
            crafts.update((word, known.techniques[word]) for word in words if word in known.techniques)
    problems += [f"'{recipe.lines[p].name}' is listed and not used" for i, p in listed.items() if i not in used]
    if len(set(texts)) < len(texts):
        problems.append("a step is there twice")
    if strange:
        facts[-1] = 1.0
        problems += [f"'{word[:40]}' is not known, and may be anything" for word in dict.fromkeys(strange)]

    # what is stated of it
    total = sum(step.minutes for step in recipe.steps)
    if total != recipe.minutes:
        problems.append(f"the steps take {total} minutes and not {recipe.minutes}")
    if not 1 <= total <= MAX_MINUTES:
        problems.append(f"{total} minutes are not believed: 1 to {MAX_MINUTES}")
    worth = 0.0
    for craft in crafts.values():  # added in order: the same bits everywhere
        worth += craft
    skill = min(worth + PER_LINE * max(len(recipe.lines) - 4, 0) + PER_STEP * max(len(recipe.steps) - 2, 0), 1.0)
    if recipe.skill not in SKILLS or abs(SKILLS.index(recipe.skill) - SKILLS.index(skill_word(skill))) > 1:
        problems.append(f"it says '{recipe.skill}' and is {skill_word(skill)}")
    shares = cuisine_shares(marks)
    if recipe.cuisine in CUISINES and shares[CUISINES.index(recipe.cuisine)] < 0.2:
        problems.append(f"it says '{recipe.cuisine}', and little in it is")
    if recipe.diet not in DIETS:
        problems.append(f"no diet is called '{recipe.diet}': use {', '.join(DIETS)}")
    else:
        broken = [family for family in DIETS[recipe.diet] if facts[FAMILIES.index(family)]]
        if broken:
            problems.append(f"it says '{recipe.diet}' and has {broken[0]}")
            fatal = True

    kind = _kind(sweetness, savoury, oven, stove, liquid)
    one_hot = np.eye(len(KINDS))[KINDS.index(kind)]
    time = time_of(max(total, 1))
    measured = Measures(one_hot, shares, flavour_amounts(sums / 4.0), np.array(time), np.array(skill))
    phi = content_of(measured, facts[:-1])
    length = float(np.sqrt(portable.dot(phi, phi)))
    phi = phi / max(length, 1.0)
    validity = 0.0 if fatal else _BREACH ** len(problems)
    return Dish(
        text,
        phi,
        validity,
        facts,
        recipe.title,
        tuple(dict.fromkeys(problems)),
        recipe,
        kind,
        tuple(portions),
        tuple(spots),
    )


def _meant(phrase: Phrase, listed: Mapping[int, int], known: Lexicon) -> tuple[int, ...]:
    """The listed ingredients that a phrase may mean.

    A name means its ingredient, or one whose name ends so ("peas" for split peas) unless that would hide a family
    ("milk" for coconut milk).
    """
    members = known.phrases[phrase]
    direct = tuple(index for index in listed if index in members)
    if direct:
        return direct
    ending = known.endings.get(phrase, ())
    families = known.ingredients[known.names[phrase]].families if phrase in known.names else frozenset()
    return tuple(index for index in listed if index in ending and families <= known.ingredients[index].families)


def _kind(sweetness: float, savoury: bool, oven: int, stove: int, liquid: float) -> str:
    if not savoury and sweetness >= 0.8:
        return "sweet"
    if oven >= 8:
        return "oven"
    if stove and liquid >= 180.0:
        return "soup"
    return "pan" if stove else "salad"


def time_of(minutes: float) -> float:
    """Minutes on the scale of `Measures`."""
    return min(max(portable.log(minutes / 7.5) / (4.0 * portable.log(2.0)), 0.0), 1.0)


def skill_word(skill: float) -> str:
    """easy, medium or hard."""
    return SKILLS[0] if skill < 0.25 else SKILLS[1] if skill < 0.45 else SKILLS[2]


def diet_word(holds: Array) -> str:
    """The strictest diet that a dish with these families keeps."""
    present = {family for family, there in zip(FAMILIES, holds, strict=False) if there}
    return next(diet for diet in reversed(DIETS) if not present & set(DIETS[diet]))


# -- the corpus -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """What somebody asks for.

    Attributes:
        text: Their words.
        kind: One of `KINDS`.
        pace: -1 for less time than usual, 0, or 1 for more.
    """

    text: str
    kind: str
    pace: int = 0


@lru_cache(maxsize=1)
def load_recipes() -> tuple[Recipe, ...]:
    """The built-in recipes."""
    recipes = []
    for raw in _raw_recipes():
        problems: list[str] = []
        items = [_ITEM.fullmatch(f"- {row}") for row in raw["ingredients"]]
        lines = tuple(_line(item, problems) for item in items if item)
        steps = [_STEP.fullmatch(f"1. {row}") for row in raw["steps"]]
        recipes.append(
            Recipe(
                raw["name"],
                raw["cuisine"],
                raw["diet"],
                raw["serves"],
                raw["minutes"],
                raw["skill"],
                lines,
                tuple(Step(step[2], int(step[3])) for step in steps if step),
            )
        )
    return tuple(recipes)


@lru_cache(maxsize=1)
def load_needs() -> tuple[Need, ...]:
    """The built-in needs."""
    raw = yaml.load((FOLDER / "needs.yaml").read_text(encoding="utf-8"), Loader=_Loader)
    return tuple(Need(**need) for need in raw)
