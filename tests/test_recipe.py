"""`HareRecipe`: its corpus and lexicon, the reading and measuring of recipes, allergens, reward, and the composer."""

from dataclasses import replace
from itertools import combinations

import gymnasium as gym
import numpy as np
import pytest
import yaml
from _timing import quickly
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.envs.recipe import Eaters, RecipeConfig, Recipes, allergies_of
from hare_gym.errors import ConfigError
from hare_gym.registry import make_agent
from hare_gym.text.domain import Content
from hare_gym.text.recipes import (
    ALLERGENS,
    CONTENT_DIM,
    CUISINES,
    DIETS,
    FAMILIES,
    FLAVOURS,
    FOLDER,
    KINDS,
    PORTIONS,
    Measures,
    content_of,
    diet_word,
    lexicon,
    load_needs,
    load_recipes,
    measures,
    read,
    render,
    skill_word,
    stem,
)
from hare_gym.text.recipes.compose import Composer, stated

DOMAIN = Recipes.load(RecipeConfig())
RAW = [
    recipe
    for cuisine in CUISINES
    for recipe in yaml.safe_load((FOLDER / f"{cuisine.replace(' ', '_')}.yaml").read_text(encoding="utf-8"))
]
EVENLY = np.full(len(DOMAIN.items), 1.0 / len(DOMAIN.items))
EATERS = DOMAIN.draw_users(np.random.default_rng(3), 200)

BOWL = """# Plain Rice Bowl

Cuisine: east asian | Diet: vegan | Serves: 2 | Time: 20 minutes | Skill: easy

## Ingredients

- 200 g jasmine rice
- 2 tbsp coconut aminos
- 2 spring onions

## Steps

1. Boil the jasmine rice. (15 min)
2. Season with the coconut aminos. (3 min)
3. Scatter with the spring onions. (2 min)
"""


def made(mode="select", horizon=200, **knobs):
    return gym.make("HareRecipe-v0", disable_env_checker=True, action_mode=mode, horizon=horizon, **knobs).unwrapped


def held(dish):
    return {family for family, there in zip(FAMILIES, dish.facts, strict=False) if there}


def eater(*allergies, diet="omnivore", seed=0):
    """A user with these allergies and this diet."""
    one = EATERS[seed]
    there = np.array([float(family in allergies) for family in FAMILIES])
    return replace(one, allergies=there, diet=np.array(list(DIETS).index(diet)))


def compose(z, query):
    return DOMAIN.compose(z, query, DOMAIN.texts, EVENLY, np.random.default_rng(0))


def mean(user, need, text):
    parts = DOMAIN.parts_of(user, np.asarray(need), Content.of([read(text)])[0])
    return float(DOMAIN.combine(parts))


# -- the corpus and the lexicon -------------------------------------------------------------------------------------


def test_the_corpus_is_large_enough_and_even():
    assert len(load_recipes()) == len(RAW) == 141
    assert len({recipe.title for recipe in load_recipes()}) == 141
    cells = {(recipe.cuisine, item.kind) for recipe, item in zip(load_recipes(), DOMAIN.items, strict=True)}
    assert cells == {(cuisine, kind) for cuisine in CUISINES for kind in KINDS}
    assert len(load_needs()) == 65
    assert {need.kind for need in load_needs()} == set(KINDS)
    assert {need.pace for need in load_needs()} == {-1, 0, 1}


@pytest.mark.parametrize("recipe", load_recipes(), ids=lambda recipe: recipe.title)
def test_every_recipe_is_valid_and_is_what_it_says(recipe):
    dish = read(render(recipe))
    assert dish.problems == ()
    assert dish.validity == 1.0
    assert dish.recipe == recipe
    m = measures(dish.phi)
    assert recipe.diet == diet_word(dish.facts)
    assert recipe.skill == skill_word(float(m.skill))
    assert recipe.minutes == sum(step.minutes for step in recipe.steps)
    # some speak of two cuisines, and their own is among these
    assert recipe.cuisine in [CUISINES[k] for k in np.argsort(-m.cuisine)[:2]]
    [raw] = [raw for raw in RAW if raw["name"] == recipe.title]
    strongest = [FLAVOURS[k] for k in np.argsort(-m.flavour)[:2]]
    assert set(raw["taste"]) <= set(strongest)


def test_the_lexicon_is_whole():
    known = lexicon()
    assert len(known.ingredients) > 250
    for one in known.ingredients:
        assert one.group in PORTIONS, one.name
        assert one.families <= set(FAMILIES), one.name
        for name in one.swap:
            # what stands in must bring nothing worse than what it stands in for
            assert name in known.by_name, (one.name, name)
        assert one.upto > 0.0
    assert {family for one in known.ingredients for family in one.families} == set(FAMILIES)


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("butter", {"milk"}),
        ("ghee", {"milk"}),
        ("parmesan", {"milk"}),
        ("mayonnaise", {"egg"}),
        ("egg noodles", {"egg", "gluten"}),
        ("fish sauce", {"fish"}),
        ("worcestershire sauce", {"fish", "gluten"}),
        ("curry paste", {"shellfish"}),
        ("kimchi", {"fish", "shellfish"}),
        ("soy sauce", {"soy", "gluten"}),
        ("tahini", {"sesame"}),
        ("pesto", {"milk", "tree nut"}),
        ("peanut butter", {"peanut"}),
        ("gelatine", {"meat"}),
        ("chicken stock", {"meat"}),
        ("coconut milk", set()),
        ("couscous", {"gluten"}),
    ],
)
def test_hidden_allergens_are_known(name, families):
    assert lexicon().by_name[name].families == families


def test_no_word_of_a_step_is_an_ingredient_in_disguise():
    # a word that may stand in a step unlisted must not be part of the name of something with a family
    known = lexicon()
    risky = {
        phrase
        for phrase, members in known.phrases.items()
        if len(phrase) == 1 and any(known.ingredients[k].families for k in members)
    }
    assert not {word for word in known.words if (word,) in risky}
    for word in ("soy", "wheat", "sesame", "peanut", "casein", "whey", "raita", "margarine"):
        assert stem(word) not in known.words or (stem(word),) in known.phrases


@pytest.mark.parametrize(
    ("many", "one"),
    [
        ("tomatoes", "tomato"),
        ("anchovies", "anchovy"),
        ("radishes", "radish"),
        ("leaves", "leaf"),
        ("olives", "olive"),
    ],
)
def test_plurals_are_one_word_with_their_singulars(many, one):
    assert stem(many) == stem(one)


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_recipe_is_read():
    dish = read(BOWL)
    assert dish.problems == ()
    assert (dish.validity, dish.title, dish.kind) == (1.0, "Plain Rice Bowl", "pan")
    assert held(dish) == set()
    assert dish.portions == pytest.approx((100 / 75, 15 / 10, 15 / 4))
    assert measures(dish.phi).kind.tolist() == pytest.approx([0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("- 200 g jasmine rice", "- jasmine rice", "'jasmine rice' has no quantity"),
        ("- 200 g jasmine rice", "- 0 g jasmine rice", "'jasmine rice' has no quantity"),
        ("- 2 spring onions", "- 2 spring onions\n- 1 lime", "'lime' is listed and not used"),
        ("Scatter with", "Add the lime and scatter with", "'lime' is named and not listed"),
        ("20 minutes", "25 minutes", "the steps take 20 minutes and not 25"),
        (" (15 min)", "", "step 1 does not say how long it takes: end it with '(5 min)'"),
        ("2. Season", "4. Season", "step 2 has the number 4"),
        ("- 2 spring onions", "- 2 spring onions\n- 3 spring onions", "'spring onions' is listed twice"),
        ("- 200 g", "- 2 kg", "1000 g of jasmine rice a person is more than anybody eats"),
        ("Serves: 2", "Serves: 40", "it serves 40: 1 to 12 are believed"),
        ("Cuisine: east asian", "Cuisine: martian", "no cuisine is called 'martian'"),
        ("Cuisine: east asian", "Cuisine: italian", "it says 'italian', and little in it is"),
        ("Skill: easy", "Skill: hard", "it says 'hard' and is easy"),
        ("Diet: vegan", "Diet: raw", "no diet is called 'raw'"),
        ("## Steps", "Eat more rice.\n\n## Steps", "'Eat more rice.' stands where no such line belongs"),
        ("Scatter with", "Glorb with", "'glorb' is not known, and may be anything"),
        ("- 2 spring onions", "- 2 unicorns", "'unicorns' is not known, and may be anything"),
    ],
)
def test_a_breach_is_named_and_costs(old, new, problem):
    dish = read(BOWL.replace(old, new, 1))
    assert any(problem in found for found in dish.problems), dish.problems
    assert dish.validity == pytest.approx(0.7 ** len(dish.problems))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "its first line is no title"),
        ("Rice\n\nBoil it.", "its first line is no title"),
        (BOWL.replace("## Ingredients", "## Things"), "it has not the sections '## Ingredients' and '## Steps'"),
        (BOWL.replace("Cuisine: ", "Kitchen: "), "its second line is not in the layout 'Cuisine: ... | Diet"),
        (BOWL.replace("rice", "ri\u200bce"), "it hides the character U+200B ZERO WIDTH SPACE"),
        ("# " + "a" * 9000, "it is longer than 8,192 characters"),
    ],
)
def test_what_is_no_recipe_is_worth_nothing(text, problem):
    dish = read(text)
    assert dish.validity == 0.0
    assert not dish.phi.any()
    assert problem in dish.problems[0]
    # nobody knows what is in it
    assert dish.facts[-1] == 1.0


def test_a_false_diet_costs_everything():
    dish = read(BOWL.replace("coconut aminos", "fish sauce"))
    assert "it says 'vegan' and has fish" in dish.problems
    assert dish.validity == 0.0
    assert read(BOWL.replace("coconut aminos", "fish sauce").replace("vegan", "pescatarian")).validity == 1.0


def test_short_names_are_understood():
    text = BOWL.replace("Boil the jasmine rice", "Boil the rice").replace("the spring onions", "the onions")
    assert read(text).problems == ()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text):
    for whole in (text, BOWL.replace("jasmine rice", text), f"{BOWL}\n{text}"):
        dish = read(whole)
        assert 0.0 <= dish.validity <= 1.0
        assert dish.phi.shape == (CONTENT_DIM,)
        assert np.isfinite(dish.phi).all()
        assert float(dish.phi @ dish.phi) <= 1.0 + 1e-12
        assert set(dish.facts.tolist()) <= {0.0, 1.0}


def test_a_huge_text_is_refused_at_once():
    assert quickly(read, BOWL * 50_000).validity == 0.0
    assert quickly(read, BOWL.replace("Boil", "boil " * 100))


# -- allergens ------------------------------------------------------------------------------------------------------

_SPELLINGS = [
    "butter",
    "BUTTER",
    "Butters",
    "butt\u0435r",  # a Cyrillic letter
    "ｂｕｔｔｅｒ",
    "bütter",
    "b\u200butter",
    "b u t t e r",
    "b.u.t.t.e.r",
    "but-ter",
    "butt er",
    "buttter",
    "bu77er",
    "unsaltedbutter",
    "ghee",
    "margarine",
    "beurre",
    "sour cream",
    "cheese",
    "🧈",
    "raita",
    "white sauce of milk",
]


@pytest.mark.parametrize("spelling", _SPELLINGS)
@pytest.mark.parametrize("where", ["step", "line", "note", "loose", "title"])
def test_an_allergen_is_not_hidden_by_spelling(spelling, where):
    text = {
        "step": BOWL.replace("the jasmine rice.", f"the jasmine rice with the {spelling}."),
        "line": BOWL.replace("## Steps", f"- 20 g {spelling}\n\n## Steps").replace(
            "Season", f"Add {spelling}. Season"
        ),
        "note": BOWL.replace("g jasmine rice", f"g jasmine rice, or {spelling}"),
        "loose": BOWL.replace("## Steps", f"Serve with {spelling}.\n\n## Steps"),
        "title": BOWL.replace("Rice Bowl", f"Rice Bowl with {spelling}"),
    }[where]
    user = eater("milk")
    words_only = where == "title" and not held(read(text)) and read(text).facts[-1] == 0.0
    if words_only:  # a made-up word in the name of a dish is not in the dish
        assert read(text).problems == ()
        return
    assert mean(user, 0, text) == 0.0
    problems = DOMAIN.problems_of(user, 0, read(text), "")
    assert any("would hurt this user" in problem for problem in problems)


def test_milk_is_not_taken_for_coconut_milk():
    text = BOWL.replace("coconut aminos", "coconut milk").replace("2 tbsp", "200 ml")
    assert held(read(text)) == set()
    assert held(read(text.replace("with the coconut milk", "with the milk"))) == {"milk"}
    text = BOWL.replace("coconut aminos", "peanut butter").replace("Diet: vegan", "Diet: omnivore")
    assert held(read(text)) == {"peanut"}
    assert held(read(text.replace("with the peanut butter", "with the butter"))) == {"peanut", "milk"}


def test_an_allergen_makes_the_reward_0_whatever_else_is_good():
    user = eater()
    need = 0
    text = DOMAIN.write(user, need, DOMAIN.query_text(user, need))
    assert mean(user, need, text) > 0.5
    for family in held(read(text)) & set(ALLERGENS):
        assert mean(replace(user, allergies=eater(family).allergies), need, text) == 0.0
    for item in DOMAIN.items:
        for family in held(item) & set(ALLERGENS):
            assert mean(eater(family), need, item.text) == 0.0


def test_what_breaks_the_diet_earns_nothing():
    steak = next(item for item in DOMAIN.items if "meat" in held(item))
    assert mean(eater(), 0, steak.text) > 0.0
    assert mean(eater(diet="vegetarian"), 0, steak.text) == 0.0
    assert "which is not vegetarian" in DOMAIN.problems_of(eater(diet="vegetarian"), 0, steak, "")[0]


def test_an_unknown_word_hurts_only_the_allergic():
    text = BOWL.replace("Scatter with", "Glorb with")
    assert mean(eater(), 0, text) > 0.0
    assert mean(eater("egg"), 0, text) == 0.0


# -- the content vector and the reward ------------------------------------------------------------------------------


def test_the_content_vector_is_undone_by_its_measures():
    rng = np.random.default_rng(0)
    n = 50
    wished = Measures(
        rng.dirichlet(np.ones(5), n), rng.dirichlet(np.ones(6), n), rng.random((n, 6)), rng.random(n), rng.random(n)
    )
    found = measures(content_of(wished, np.zeros((n, 11))))
    for name in ("kind", "cuisine", "flavour", "time", "skill"):
        assert np.allclose(getattr(found, name), getattr(wished, name), atol=1e-12)


def test_the_best_content_earns_1_inside_the_ball():
    for users in (EATERS, DOMAIN.drifted(EATERS, np.random.default_rng(1), 0.5)):
        for need in range(0, DOMAIN.num_needs, 4):
            needs = np.full(len(users), need)
            phi = DOMAIN.optimum(users, needs)
            assert np.sqrt(np.sum(phi**2, axis=-1)).max() < 1.0
            assert DOMAIN.oracle(users, needs) == pytest.approx(np.ones(len(users)), abs=1e-12)


def test_parts_are_in_range_and_broadcast():
    content = Content.of(DOMAIN.items)
    everyone = EATERS[np.arange(200)[:, None]]
    parts = DOMAIN.parts_of(everyone, np.arange(200)[:, None] % DOMAIN.num_needs, content)
    assert tuple(parts) == DOMAIN.parts
    for name, values in parts.items():
        assert values.shape == (200, len(DOMAIN.items)), name
        assert values.min() >= 0.0, name
        assert values.max() <= 1.0, name
    one = DOMAIN.parts_of(EATERS[7], np.asarray(7), content[4])
    assert all(float(one[name]) == parts[name][7, 4] for name in DOMAIN.parts)


def test_taste_matters():
    # the best dish for one is seldom the best for another who may eat the same
    table = DOMAIN.combine(
        DOMAIN.parts_of(
            eater_pair := EATERS[np.arange(40)[:, None]], np.zeros((40, 1), int), Content.of(DOMAIN.items)
        )
    )
    assert len(eater_pair) == 40
    assert len(set(table.argmax(axis=1).tolist())) >= 10


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda u: replace(u, cuisines=np.roll(u.cuisines, 1)), "cuisine"),
        (lambda u: replace(u, likes=-u.likes), "flavour"),
        (lambda u: replace(u, time=np.asarray(u.time - 0.4)), "time"),
        (lambda u: replace(u, skill=np.asarray(u.skill + 0.4)), "skill"),
    ],
)
def test_each_hidden_attribute_moves_its_own_part(change, part):
    content = Content.of(DOMAIN.items)
    user = eater()
    before = DOMAIN.parts_of(user, np.asarray(0), content)
    after = DOMAIN.parts_of(change(user), np.asarray(0), content)
    changed = {name for name in DOMAIN.parts if not np.array_equal(before[name], after[name])}
    assert changed == {part}


def test_users_are_drawn_with_their_knobs_and_drift_keeps_what_they_say():
    none = Recipes.load(RecipeConfig(allergic=0.0, dieting=0.0)).draw_users(np.random.default_rng(3), 200)
    assert not none.allergies.any()
    assert not none.diet.any()
    # a knob moves nobody else's luck
    for name in ("cuisines", "likes", "time", "skill"):
        assert np.array_equal(getattr(none, name), getattr(EATERS, name))
    assert 0.4 < EATERS.allergies.any(axis=1).mean() < 0.6
    assert 0.3 < (EATERS.diet > 0).mean() < 0.5
    assert set(allergies_of(EATERS[int(np.argmax(EATERS.allergies.sum(axis=1)))])) <= set(ALLERGENS)
    still = DOMAIN.drifted(EATERS, np.random.default_rng(0), 0.0)
    moved = DOMAIN.drifted(EATERS, np.random.default_rng(0), 0.3)
    assert 0.2 < (moved.likes != EATERS.likes).any(axis=1).mean() < 0.4
    for name in ("cuisines", "likes", "time", "skill"):
        assert np.array_equal(getattr(still, name), getattr(EATERS, name))
        assert not np.array_equal(getattr(moved, name), getattr(EATERS, name))
    assert np.array_equal(moved.diet, EATERS.diet)
    assert np.array_equal(moved.allergies, EATERS.allergies)
    assert isinstance(EATERS[3], Eaters)
    assert set(EATERS.attributes()) == {"cuisine", "flavour", "time", "skill"}


def test_allergies_and_diet_are_said_every_time():
    for k in range(200):
        user = EATERS[k]
        for need in (0, 20, 40, 64):
            words = DOMAIN.query_text(user, need)
            vector = DOMAIN.query_vectors(user, np.asarray(need))
            wanted = set(allergies_of(user)) | set(DIETS[list(DIETS)[int(user.diet)]])
            assert stated(words)[0] == wanted
            assert {family for family, x in zip(FAMILIES, vector[-11:], strict=True) if x < 0} == wanted


# -- the composer ---------------------------------------------------------------------------------------------------


def test_no_need_excludes_anything_by_itself():
    assert [need.text for need in load_needs() if stated(need.text)[0]] == []


@pytest.mark.parametrize(
    ("words", "families", "serves"),
    [
        ("Soup for two.", set(), 2),
        ("A dessert for a party of eight. I am allergic to milk.", {"milk"}, 8),
        ("Dinner. I am pescatarian. I am allergic to eggs and tree nuts.", {"meat", "egg", "tree nut"}, 0),
        ("Dinner without nuts.", {"tree nut", "peanut"}, 0),
        ("No dairy, please: I am coeliac and must avoid wheat.", {"milk", "gluten"}, 0),
        ("I am vegan.", {"meat", "fish", "shellfish", "milk", "egg", "honey"}, 0),
        ("Something with fish and milk for 12.", set(), 12),
        ("A pot of soup that lasts the four of us all week.", set(), 4),
        ("We are six and barbecuing: which salad?", set(), 6),
        ("Lunch for one with no stove.", set(), 1),
        ("Something hot in half an hour for the family of four.", set(), 4),
        ("Something for Sunday.", set(), 0),
    ],
)
def test_what_the_words_exclude_is_understood(words, families, serves):
    assert stated(words) == (frozenset(families), serves)


def test_composed_recipes_are_valid_and_free_of_what_is_excluded():
    rng = np.random.default_rng(0)
    pairs = [*combinations(ALLERGENS, 2)]
    for k, (pair, diet) in enumerate((pair, diet) for pair in pairs[::2] for diet in DIETS):
        user = eater(*pair, diet=diet, seed=k % 200)
        need = int(rng.integers(DOMAIN.num_needs))
        z = rng.standard_normal(CONTENT_DIM)
        query = DOMAIN.query_text(user, need)
        # a random content, one that is far too long, and the best one
        for asked in (z / np.linalg.norm(z), 5.0 * z, DOMAIN.optimum(user, np.asarray(need))):
            dish = read(compose(asked, query))
            assert dish.problems == ()
            assert not held(dish) & (set(pair) | set(DIETS[diet]))
            assert dish.facts[-1] == 0.0
            assert dish.recipe.serves == (stated(query)[1] or dish.recipe.serves)
        assert dish.kind == load_needs()[need].kind


def test_composing_comes_nearer_than_choosing():
    gained = []
    for k in range(60):
        user, need = EATERS[k], k % DOMAIN.num_needs
        z = DOMAIN.optimum(user, np.asarray(need))
        written = mean(user, need, compose(z, DOMAIN.query_text(user, need)))
        items = DOMAIN.combine(DOMAIN.parts_of(user, np.asarray(need), Content.of(DOMAIN.items)))
        gained.append(written - float(items.max()))
    assert np.mean(gained) > 0.15


def test_the_same_arguments_give_the_same_text():
    z = DOMAIN.phi[5] * 0.9
    first = compose(z, "Soup for two. I am vegan.")
    fresh = Composer(read).write(z, "Soup for two. I am vegan.", DOMAIN.texts, EVENLY)
    assert first == compose(z, "Soup for two. I am vegan.") == fresh


def test_attention_decides_what_is_taken():
    query = "Dinner."
    z = DOMAIN.phi.mean(axis=0)
    taken = set()
    for first in (0, 40, 80, 110):
        weights = np.zeros(len(DOMAIN.items))
        weights[first : first + 25] = 1.0 / 25.0
        taken.add(DOMAIN.compose(z, query, DOMAIN.texts, weights, np.random.default_rng(0)))
    assert len(taken) == 4


def test_content_that_is_not_a_number_is_the_mean():
    assert read(compose(np.full(CONTENT_DIM, np.nan), "Dinner for two.")).validity == 1.0


def test_a_pool_that_cannot_do_without_says_so():
    omelette = next(item.text for item in DOMAIN.items if "egg" in held(item))
    with pytest.raises(ConfigError, match="No recipe of the pool can do without egg"):
        Composer(read).write(DOMAIN.phi[0], "I am allergic to eggs.", (omelette,), np.ones(1))
    with pytest.raises(ConfigError, match="The pool has no valid recipe to take from"):
        Composer(read).write(DOMAIN.phi[0], "Dinner.", ("nothing",), np.ones(1))


def test_the_privileged_writer_beats_the_composer_and_the_best_item():
    env = made("write", horizon=40)
    env.reset(seed=2)
    for _ in range(15):
        text = env.optimal_action()
        _, _, _, _, info = env.step(text)
        assert info["problems"] == ""
        assert info["safe"] == info["diet"] == info["need"] == 1.0
        assert info["expected_reward"] >= info["catalogue_oracle_reward"] - 1e-12


# -- the environment ------------------------------------------------------------------------------------------------


def test_a_written_allergen_is_named_and_earns_nothing():
    env = made("write", horizon=60)
    observation, _ = env.reset(seed=1)
    seen = 0
    for _ in range(60):
        user = env.users[int(observation["user"])]
        allergies = set(allergies_of(user))
        item = next((item for item in DOMAIN.items if held(item) & allergies), None)
        observation, reward, _, _, info = env.step(item.text if item else DOMAIN.texts[0])
        if item:
            seen += 1
            assert (info["safe"], info["expected_reward"]) == (0.0, 0.0)
            assert reward < 1e-9
            assert "would hurt this user" in info["problems"]
    assert seen > 10


def test_a_round_is_shown():
    env = made("write", horizon=5, render_mode="ansi")
    env.reset(seed=4)
    env.step(env.optimal_action())
    shown = env.render()
    for words in ("HareRecipe-v0 [write]", "likes it", "cuisine", "minutes", "expected"):
        assert words in shown


@pytest.mark.parametrize("name", ["random", "linucb", "lints", "rag", "rag-profile", "hare"])
def test_agents_select(name):
    play(made(horizon=60), make_agent(name))


@pytest.mark.parametrize("inner", ["rag", "linucb", "hare"])
@pytest.mark.parametrize("decoder", ["composer", "verbatim"])
def test_agents_write_and_hurt_nobody(inner, decoder):
    infos = play(made("write", horizon=60), make_agent("writer", agent=inner, decoder=decoder))
    if decoder == "composer":
        assert all(info["safe"] == 1.0 for info in infos)
        assert all(info["problems"] == "" for info in infos)


def test_hare_synthesizes():
    play(made("synthesize", horizon=60), make_agent("hare"))


def play(env, agent):
    observation, _ = env.reset(seed=9)
    agent.reset(env.task, np.random.default_rng(0))
    infos = []
    truncated = False
    while not truncated:
        action = agent.act(observation)
        after, reward, _, truncated, info = env.step(action)
        agent.update(observation, action, reward)
        observation = after
        infos.append(info)
    return infos
