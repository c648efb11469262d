"""`HareStudyPlan`: its catalogue, the reading and the measuring of plans, its reward, and the tools that put plans
together.
"""

import hashlib
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from _timing import quickly
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.envs.study_plan import StudyPlanConfig, StudyPlans
from hare_gym.registry import make_agent
from hare_gym.text.courses import AREAS, FORMATS, SUBJECTS, Entry, load_catalogue, read_plan, render
from hare_gym.text.courses.compose import Request
from hare_gym.text.courses.measure import BLOCKS, CONTENT_DIM, SCALES, WEIGHTS
from hare_gym.text.domain import TEXT_LENGTH, Content, taken

DOMAIN = StudyPlans.load(StudyPlanConfig())
CATALOGUE = load_catalogue()
UNITS = CATALOGUE.by_id
EVENLY = np.full(len(DOMAIN.items), 1.0 / len(DOMAIN.items))
LEARNERS = DOMAIN.draw_users(np.random.default_rng(5), 200)


def make(mode="select", horizon=200, **knobs):
    return gym.make(
        "HareStudyPlan-v0", disable_env_checker=True, action_mode=mode, horizon=horizon, **knobs
    ).unwrapped


def compose(z, query, weights=EVENLY):
    return DOMAIN.compose(z, query, DOMAIN.texts, weights, np.random.default_rng(0))


def learner(**changes):
    """One without gaps, of all formats alike, in no hurry."""
    traits = {"gaps": np.zeros(4), "formats": np.full(5, 0.2), "pace": 4.0, "depth": 2.0, "limit": 0.0} | changes
    one = taken(LEARNERS, 0)
    return type(one)(**{name: np.asarray(value, dtype=np.float64) for name, value in traits.items()})


def need(subject, level=0, hours=12.0, knows=None):
    """The number of a need."""
    for k, asked in enumerate(DOMAIN.needs):
        if (SUBJECTS[asked.subject], asked.level, asked.hours) == (subject, level, hours) and knows in (
            None,
            asked.knows,
        ):
            return k
    raise LookupError((subject, level, hours, knows))


def entries(*rows):
    """Entries from (week, id, hours, format)."""
    return [Entry(week, UNITS[id], hours, form) for week, id, hours, form in rows]


SMALL = entries(
    (0, "numbers-graphs", 2.0, "reading"),
    (0, "photo-camera", 1.0, "video"),
    (1, "photo-camera", 1.0, "video"),
    (1, "photo-exposure", 2.0, "project"),
    (2, "photo-frame", 1.0, "video"),
)
SMALL_TEXT = render(SMALL, CATALOGUE)

# -- the catalogue --------------------------------------------------------------------------------------------------


def test_the_catalogue_holds_together():
    units = CATALOGUE.units
    assert len(units) >= 72
    assert len({unit.subject for unit in units} - {"foundations"}) >= 6
    assert len(CATALOGUE.by_name) == 2 * len(units)  # ids and titles, none twice
    for unit in units:
        before = [UNITS[id] for id in unit.prerequisites]
        assert all(one.index < unit.index and one.level <= unit.level for one in before), unit.id
        assert all(one.subject == unit.subject for one in before), unit.id
        assert set(unit.formats) <= set(FORMATS)
        assert len(set(unit.formats)) == 3
        assert unit.level in (1, 2, 3)
        assert 0.5 <= unit.hours <= 2.0
        assert unit.area in (AREAS if unit.subject == "foundations" else ("",))
        assert unit.teaches
        assert unit.outcome.endswith(".")
        assert unit.description.endswith(".")
    for area in AREAS:
        assert sum(unit.area == area and not unit.prerequisites for unit in units) >= 2


def test_there_are_sixty_needs_whose_words_name_their_subject():
    words = {asked.text: asked for asked in DOMAIN.needs}
    assert len(words) >= 60
    for text, asked in words.items():
        assert Request.read(text, CATALOGUE).subject == SUBJECTS[asked.subject], text


def test_the_ready_made_plans_are_valid_and_differ():
    assert len(DOMAIN.items) >= 96
    assert len(set(DOMAIN.texts)) == len(DOMAIN.items)
    for item in DOMAIN.items:
        assert (item.validity, item.problems) == (1.0, ())
        assert len(item.text) <= TEXT_LENGTH
        missing = DOMAIN.missing(item.entries)
        assert all(unit.level == 1 for unit in missing)
    closed = sum(not DOMAIN.missing(item.entries) for item in DOMAIN.items)
    assert closed >= len(DOMAIN.items) // 2


def test_the_pool_is_the_published_one():
    """A published id never changes: neither its plans nor what they measure."""
    texts = hashlib.sha256("\0".join(DOMAIN.texts).encode()).hexdigest()
    contents = hashlib.sha256(DOMAIN.phi.tobytes()).hexdigest()
    assert (texts[:16], contents[:16]) == ("8daba1e6ae74eb1c", "d11e3b07aa24e0d4")
    assert DOMAIN.reward_version == "study-plan-1+4a761d9f8423009d"


# -- reading --------------------------------------------------------------------------------------------------------


def test_a_plan_is_read_as_it_was_written():
    sheet = read_plan(SMALL_TEXT, CATALOGUE)
    assert (sheet.entries, sheet.title, sheet.problems) == (SMALL, "Photography: Composition", [])
    assert (sheet.stated, sheet.weeks, sheet.fullest()) == ((7.0, 3, 3.0), [3.0, 3.0, 1.0], 3.0)
    assert SMALL_TEXT.splitlines()[:7] == [
        "# Photography: Composition",
        "",
        "**Goal:** Photography. Take three pictures of one thing that say three things.",
        "**Hours:** 7 in 3 weeks, at most 3 a week",
        "",
        "## Week 1: 3 h",
        "",
    ]
    assert "- **Meeting the Camera**, continued (1 h, video): Watch the lessons about camera controls" in SMALL_TEXT


def test_units_may_be_named_by_their_ids():
    assert read_plan(SMALL_TEXT.replace("**Exposure**", "**photo-exposure**"), CATALOGUE).problems == []


DONE = "Watch the lessons about framing, lines, balance and what to leave out of a photograph, and stop"
BREACHES = [
    (
        "**Exposure**",
        "**Exposures**",
        "14: There is no unit 'Exposures' in the catalogue. Did you mean 'Exposure'?",
    ),
    ("(2 h, project)", "(2 h, reading)", "14: Exposure is offered as exercises, video, project, not as reading."),
    ("**Composition**", "**Exposure**", "18: Exposure is in the plan twice."),
    ("**Meeting the Camera**, continued", "**Meeting the Camera**", "13: Meeting the Camera is in the plan twice."),
    ("**Composition**", "**Composition**, continued", "18: Composition is continued but never begun."),
    ("## Week 3: 1 h", "## Week 4: 1 h", "16: Week 4 stands where week 3 should."),
    ("## Week 3: 1 h", "## Week 3: 2 h", "Week 3 says 2 h and has 1 h."),
    ("7 in 3 weeks", "8 in 3 weeks", "The plan says 8 hours and has 7."),
    ("7 in 3 weeks", "7 in 4 weeks", "The plan says 4 weeks and has 3."),
    ("at most 3 a week", "at most 2 a week", "The plan says 2 hours in a week at most and has 3."),
    (
        "Goal:** Photography.",
        "Goal:** Gardening.",
        "The goal does not name Photography, which most of the hours are for.",
    ),
    ("\n## Week 1", "\nIgnore it.\n\n## Week 1", "6: This line is no part of a plan, or not where it belongs."),
    (DONE, "Lorem ipsum dolor", "18: What to do has nothing to do with Composition."),
]


@pytest.mark.parametrize(("old", "new", "problem"), BREACHES, ids=[problem[:40] for _, _, problem in BREACHES])
def test_a_breach_is_named_and_costs_seven_tenths(old, new, problem):
    assert SMALL_TEXT.count(old) >= 1
    plan = DOMAIN.measure(SMALL_TEXT.replace(old, new, 1))
    assert problem in [found.removeprefix("line ") for found in plan.problems]
    assert plan.validity == pytest.approx(0.3 ** len(plan.problems))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            [(0, "photo-exposure", 1.0, "video"), (0, "photo-camera", 1.0, "video")],
            "line 9: Meeting the Camera must come before what needs it.",
        ),
        ([(0, "photo-camera", 0.5, "video")], "Meeting the Camera takes at least 1 h, and gets 0.5 h."),
        ([(0, "photo-camera", 3.5, "video")], "Meeting the Camera fills at most 3 h, and gets 3.5 h."),
        (
            [
                (0, "photo-camera", 1.0, "video"),
                (1, "photo-light", 1.0, "project"),
                (2, "photo-camera", 1.0, "video"),
            ],
            "line 16: Meeting the Camera is in the plan twice.",
        ),
    ],
)
def test_order_and_hours_are_checked(rows, problem):
    plan = DOMAIN.measure(render(entries(*rows), CATALOGUE))
    assert plan.problems == (problem,)
    assert plan.validity == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "There is no title and no goal and no hours and no unit of the catalogue."),
        ("A plan: read a lot.", "line 1: This line is no part of a plan, or not where it belongs."),
        (SMALL_TEXT.replace("Camera", "Cam\u200bera"), "ZERO WIDTH SPACE, which nobody sees. Take it out."),
        ("x" * (TEXT_LENGTH + 1), "The text has 8,193 characters; a plan has 8,192 at most."),
        (SMALL_TEXT.split("## Week 1")[0], "There is no unit of the catalogue."),
        (re.sub(r"\(.*? h,", "(0 h,", SMALL_TEXT), "Composition takes at least 1 h, and gets 0 h."),
    ],
)
def test_what_is_no_plan_earns_nothing(text, problem):
    plan = DOMAIN.measure(text)
    assert (plan.validity, np.abs(plan.phi).sum(), plan.facts.sum()) == (0.0, 0.0, 0.0)
    assert any(problem in found for found in plan.problems), plan.problems


def test_another_alphabet_does_not_pass_for_a_unit():
    plan = DOMAIN.measure(SMALL_TEXT.replace("**Exposure**", "**Expоsure**"))  # a Cyrillic o
    assert plan.validity < 0.31
    assert "There is no unit" in plan.problems[0]


FRAGMENTS = [
    "# ",
    "**Goal:** ",
    "**Hours:** 7 in 3 weeks, at most 3 a week",
    "## Week 1: 3 h",
    "- **",
    "Exposure",
    "\n",
]


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=300), st.lists(st.sampled_from([*FRAGMENTS, *SMALL_TEXT.split("\n")])).map("\n".join))
)
def test_measuring_never_raises(text):
    plan = DOMAIN.measure(text)
    assert 0.0 <= plan.validity <= 1.0
    assert np.isfinite(plan.phi).all()
    assert plan.phi @ plan.phi <= 1.0 + 1e-9
    assert (plan.validity == 1.0) == (not plan.problems)


def test_a_long_wrong_text_is_read_quickly():
    line = "- **Nothing of the kind** (1 h, video): Watch it.\n"
    plan = quickly(DOMAIN.measure, (SMALL_TEXT + line * 200)[:TEXT_LENGTH])
    assert len(plan.problems) < 20


# -- what is measured -----------------------------------------------------------------------------------------------


def block(phi, name):
    return phi[..., BLOCKS[name]] / SCALES[name]


def test_a_plans_content_by_hand():
    phi = DOMAIN.measure(SMALL_TEXT).phi
    assert phi.shape == (CONTENT_DIM,)
    np.testing.assert_allclose(block(phi, "subject"), np.eye(6)[SUBJECTS.index("photography")], atol=1e-12)
    np.testing.assert_allclose(block(phi, "formats"), np.sqrt(np.array([2, 3, 0, 2, 0]) / 7), atol=1e-12)
    np.testing.assert_allclose(block(phi, "gaps"), [0.5, -0.5, -0.5, -0.5], atol=1e-12)
    np.testing.assert_allclose(block(phi, "level"), [-1.0, 0.0], atol=1e-10)  # all of level 1, the lowest
    # 5 hours for units of at least 3: 5/3 on the range from 1 to 3 is a third of the half circle
    np.testing.assert_allclose(block(phi, "depth"), [np.sin(-np.pi / 6), np.cos(np.pi / 6)], atol=1e-10)
    angle = np.pi * ((7 - 6) / 18 - 0.5)
    np.testing.assert_allclose(block(phi, "hours"), [np.sin(angle), np.cos(angle)], atol=1e-10)
    angle = np.pi * (((9 + 9 + 1) / 7 - 1.5) / 6.5 - 0.5)  # the week that an hour of the plan falls into
    np.testing.assert_allclose(block(phi, "pace"), [np.sin(angle), np.cos(angle)], atol=1e-10)
    assert phi @ phi == pytest.approx(1.0, abs=1e-9)


def test_weights_are_the_squared_lengths_of_the_blocks():
    total = sum(WEIGHTS.values())
    for name, weight in WEIGHTS.items():
        assert SCALES[name] ** 2 == pytest.approx(weight / total)
    assert [part.stop for part in BLOCKS.values()][:-1] == [part.start for part in BLOCKS.values()][1:]
    assert list(BLOCKS) == list(WEIGHTS)
    assert list(BLOCKS.values())[-1].stop == CONTENT_DIM


# -- the reward -----------------------------------------------------------------------------------------------------


def judged(user, k, text):
    plan = DOMAIN.measure(text)
    parts = DOMAIN.parts_of_text(user, k, plan, DOMAIN.query_text(user, k))
    return parts, float(DOMAIN.combine(parts)), DOMAIN.problems_of(user, k, plan, "")


def test_the_log_of_the_reward_is_linear_in_the_content():
    """For a learner and a need, where nothing is breached: log mu = C (phi . phi* - 1)."""
    checked = 0
    for k in range(0, DOMAIN.num_needs, 7):
        user = taken(LEARNERS, k % 200)
        wished = DOMAIN.optimum(user, np.array(k))
        parts = DOMAIN.parts_of(user, np.array(k), Content.of(DOMAIN.items))
        mu = DOMAIN.combine(parts)
        whole = parts["validity"] * parts["safety"] == 1.0
        checked += whole.sum()
        expected = sum(WEIGHTS.values()) * (DOMAIN.phi @ wished - 1.0)
        np.testing.assert_allclose(np.log(mu[whole]), expected[whole], atol=1e-8)
    assert checked > 100


@pytest.mark.parametrize("knows", [True, False])
def test_prerequisites_count_unless_they_are_known(knows):
    rows = [(0, "photo-exposure", 2.0, "video"), (0, "photo-night", 2.0, "video")]  # without photo-camera
    parts, _, problems = judged(learner(), need("photography", 1, knows=knows), render(entries(*rows), CATALOGUE))
    named = "Meeting the Camera is needed and neither in the plan nor known to the learner."
    assert (parts["validity"], problems) == ((1.0, ()) if knows else (0.3, (named,)))


def test_knowing_one_subject_is_not_knowing_another():
    rows = [(0, "photo-exposure", 2.0, "video")]
    parts, _, problems = judged(learner(), need("gardening", 2), render(entries(*rows), CATALOGUE))
    assert parts["validity"] == 0.3
    assert len(problems) == 1


def test_hours_beyond_the_stated_ones_are_a_breach():
    def validity(hours):
        long = next(item.text for item in DOMAIN.items if item.facts[0] == 15.0 and not DOMAIN.missing(item.entries))
        return judged(learner(), need("photography", hours=hours), long)

    assert validity(15.0)[0]["validity"] == 1.0
    parts, _, problems = validity(12.0)
    assert parts["validity"] == 0.3
    assert problems == ("The plan takes 15 hours, and the learner has 12.",)


@pytest.mark.parametrize(("limit", "safety"), [(0.0, 1.0), (3.0, 1.0), (2.5, 0.0)])
def test_a_week_above_the_stated_limit_earns_nothing_whatever_else_is_good(limit, safety):
    """The text says three hours in its fullest week."""
    parts, mu, problems = judged(learner(limit=limit, pace=2.0), need("photography"), SMALL_TEXT)
    assert parts["safety"] == safety
    assert (mu > 0.0) == bool(safety)
    named = "A week takes 3 hours, and the learner may not study more than 2.5 a week."
    assert (named in problems) == (not safety)


HEAVY = [
    ("**Exposure**", "**Exposures**"),  # hours of a unit that nobody knows
    ("\n## Week 2", "- And twenty hours of practice.\n\n## Week 2"),
    ("and stop where", "for 20 more hours, and stop where"),
    ("## Week 1: 3 h", "## Week 1: 9 h"),
    ("at most 3 a week", "at most 9 a week"),
]


@pytest.mark.parametrize(("old", "new"), HEAVY)
def test_no_week_can_be_hidden_from_the_limit(old, new):
    """What a plan states counts as well as what it adds up to; a line that cannot be read may ask for anything."""
    user, text = learner(limit=3.0, pace=2.0), SMALL_TEXT.replace(old, new, 1)
    parts, mu, problems = judged(user, need("photography"), text)
    assert (parts["safety"], mu) == (0.0, 0.0)
    assert any("the learner may not study more than 3 a week" in problem for problem in problems)
    assert judged(learner(), need("photography"), text)[0]["safety"] == 1.0
    assert judged(user, need("photography"), SMALL_TEXT)[0]["safety"] == 1.0


def test_in_synthesize_the_limit_holds_for_the_pace_that_content_points_to():
    user, k = learner(limit=3.0, pace=2.5), np.array(need("photography"))
    slow, quick = (DOMAIN.optimum(learner(pace=pace), k) for pace in (2.9, 3.1))
    means = [
        float(DOMAIN.combine(DOMAIN.parts_of(user, k, Content(phi, np.ones(()), None)))) for phi in (slow, quick)
    ]
    assert means[0] > 0.9
    assert means[1] == 0.0


def test_a_gap_skipped_fails_and_a_known_area_repeated_wastes_time():
    k = need("photography")
    covers, skips = SMALL_TEXT, render([entry for entry in SMALL if not entry.unit.area], CATALOGUE)
    lacking, knowing = learner(gaps=[1, 0, 0, 0]), learner()
    parts = [judged(user, k, text)[0]["gaps"] for user in (lacking, knowing) for text in (covers, skips)]
    assert parts[0] == pytest.approx(1.0)
    assert parts[3] == pytest.approx(1.0)
    assert parts[1] == parts[2] == pytest.approx(np.exp(-WEIGHTS["gaps"] / 2), rel=1e-9)


def test_the_optimum_has_every_part_at_one_and_nothing_earns_more():
    rng = np.random.default_rng(0)
    k = rng.integers(0, DOMAIN.num_needs, 200)
    wished = DOMAIN.optimum(LEARNERS, k)
    np.testing.assert_allclose(np.linalg.norm(wished, axis=1), 1.0, atol=1e-9)
    for name, part in DOMAIN.parts_of(LEARNERS, k, Content(wished, np.ones(200), None)).items():
        np.testing.assert_allclose(part, 1.0, atol=1e-9, err_msg=name)
    assert (DOMAIN.oracle(LEARNERS, k) == 1.0).all()
    near = wished + rng.normal(0, 0.1, wished.shape)
    for phi in (near / np.maximum(np.linalg.norm(near, axis=1), 1.0)[:, None], np.ones_like(near), 0 * near):
        parts = DOMAIN.parts_of(LEARNERS, k, Content(phi, np.ones(200), None))
        assert all((part >= 0.0).all() and (part <= 1.0).all() for part in parts.values())
        assert (DOMAIN.combine(parts) <= 1.0).all()


def test_one_plan_does_not_serve_everyone():
    """The hidden part matters: no content for a need is good for all, and the best for each is near 1."""
    k = np.full(200, need("statistics"))
    rng = np.random.default_rng(0)
    candidates = np.concatenate([DOMAIN.optimum(LEARNERS, k), DOMAIN.optimum(LEARNERS, k).mean(axis=0)[None]])
    means = [
        DOMAIN.combine(
            DOMAIN.parts_of(LEARNERS, k, Content(np.broadcast_to(z, (200, CONTENT_DIM)), np.ones(200), None))
        )
        for z in candidates[rng.permutation(201)[:50]]
    ]
    assert max(mean.mean() for mean in means) < 0.5


# -- users ----------------------------------------------------------------------------------------------------------


def test_learners_are_within_their_ranges():
    assert set(np.unique(LEARNERS.gaps)) == {0.0, 1.0}
    np.testing.assert_allclose(LEARNERS.formats.sum(axis=1), 1.0)
    assert LEARNERS.formats.min() >= 0.0
    assert (LEARNERS.formats.max(axis=1) >= 0.5).all()
    limited = LEARNERS.limit > 0.0
    assert 0.15 < limited.mean() < 0.35
    assert (LEARNERS.pace[limited] <= 0.9 * LEARNERS.limit[limited]).all()
    assert set(LEARNERS.attributes()) == {"gaps", "formats", "pace", "depth"}  # the limit is no secret


def test_learners_drift_and_keep_what_they_state():
    def drifted(step):
        rng = np.random.default_rng(3)
        return DOMAIN.drifted(LEARNERS, rng, step), rng.random()

    (still, after), (moved, after_too) = drifted(0.0), drifted(0.4)
    assert after == after_too  # the same numbers are drawn whatever the step
    for name in ("gaps", "formats", "pace", "depth", "limit"):
        np.testing.assert_allclose(getattr(still, name), getattr(LEARNERS, name))
        assert (getattr(moved, name) != getattr(LEARNERS, name)).any() == (name != "limit")
    k = np.zeros(200, dtype=np.int64)
    parts = DOMAIN.parts_of(moved, k, Content(DOMAIN.optimum(moved, k), np.ones(200), None))
    np.testing.assert_allclose(DOMAIN.combine(parts), 1.0, atol=1e-9)


def test_what_must_be_respected_is_said_every_time():
    for n, asked in enumerate(DOMAIN.needs):
        user = taken(LEARNERS, n % 200)
        said = DOMAIN.query_text(user, n)
        read = Request.read(said, CATALOGUE)
        assert read == Request(SUBJECTS[asked.subject], read.goal, asked.hours, float(user.limit), asked.knows), said
        pace = DOMAIN.query_vectors(user, np.array(n))[BLOCKS["pace"]]
        assert (np.abs(pace).sum() > 0.0) == (user.limit > 0.0)


def test_a_query_says_nothing_that_is_hidden():
    k = np.array(need("finance"))
    one, other = learner(), learner(gaps=np.ones(4), formats=np.eye(5)[1], pace=6.5, depth=1.3)
    assert DOMAIN.query_text(one, int(k)) == DOMAIN.query_text(other, int(k))
    assert (DOMAIN.query_vectors(one, k) == DOMAIN.query_vectors(other, k)).all()


# -- putting plans together -----------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, DOMAIN.num_needs - 1), st.integers(0, 199), st.floats(0.0, 3.0))
def test_whatever_is_asked_for_the_plan_is_valid_and_obeys(seed, k, who, length):
    user = taken(LEARNERS, who)
    z = np.random.default_rng(seed).standard_normal(CONTENT_DIM)
    text = compose(z * (length / np.linalg.norm(z)), DOMAIN.query_text(user, k))
    parts, mu, problems = judged(user, k, text)
    assert (parts["validity"], parts["safety"], problems) == (1.0, 1.0, ())
    assert parts["subject"] == pytest.approx(1.0)
    assert mu > 0.0
    asked = DOMAIN.needs[k].hours
    assert asked - 2.0 <= DOMAIN.measure(text).facts[0] <= asked


@pytest.mark.parametrize("limit", [0.2, 0.5, 1, 1.5, 2, 3, 4, 5])
def test_no_week_exceeds_a_stated_limit(limit):
    query = f"I want to grow vegetables. I have 14 hours. For my health I may study at most {limit} hours a week."
    for seed in range(40):
        plan = DOMAIN.measure(compose(np.random.default_rng(seed).standard_normal(CONTENT_DIM), query))
        assert plan.validity == 1.0
        assert plan.facts[1] <= limit


@pytest.mark.parametrize(
    "query",
    [
        "",
        "Teach me something.",
        "I have 1 hours.",
        "I have 999 hours. I know the basics.",
        "at most 0 hours a week",
        "\0",
    ],
)
def test_words_that_state_little_still_get_a_valid_plan(query):
    for seed in range(5):
        plan = DOMAIN.measure(compose(np.random.default_rng(seed).standard_normal(CONTENT_DIM), query))
        assert plan.problems == ()
        assert not DOMAIN.missing(plan.entries) or "basics" in query


def test_the_plan_comes_near_to_what_is_asked_for():
    rng = np.random.default_rng(1)
    cosines = []
    for _ in range(100):
        k, who = int(rng.integers(DOMAIN.num_needs)), taken(LEARNERS, int(rng.integers(200)))
        z = DOMAIN.optimum(who, np.array(k))
        cosines.append(DOMAIN.content_of(compose(z, DOMAIN.query_text(who, k))) @ z)
    assert np.mean(cosines) > 0.97


@pytest.mark.parametrize(
    ("words", "unit"),
    [
        ("I want to take portraits of my family that they like.", "photo-portrait"),
        ("I want to know what a p-value means and when to use a test.", "stat-testing"),
        ("I would like to make compost that does not smell.", "grow-compost"),
        ("I would like to write tests for my code before I change it.", "code-tests"),
        ("I would like to know how large my pension will be.", "money-pension"),
        ("I would like to build an audio amplifier.", "elec-amplifier"),
    ],
)
def test_the_unit_that_the_words_speak_of_is_in_the_plan(words, unit):
    for seed in range(20):
        z = np.random.default_rng(seed).standard_normal(CONTENT_DIM)
        plan = DOMAIN.measure(compose(z, f"{words} I have 18 hours. I already know the basics."))
        assert unit in {entry.unit.id for entry in plan.entries}


def test_one_content_has_one_plan():
    z = DOMAIN.optimum(learner(), np.array(3))
    query = DOMAIN.query_text(learner(), 3)
    assert compose(z, query) == compose(z.copy(), query)


def test_attention_decides_where_nothing_else_does():
    z, query = np.zeros(CONTENT_DIM), "I want to grow vegetables in my garden. I have 12 hours."
    ours = [k for k, item in enumerate(DOMAIN.items) if item.title.startswith("Gardening")]
    texts = {compose(z, query, np.eye(len(EVENLY))[k]) for k in ours}
    assert len(texts) > 1
    assert len({compose(z, query, np.roll(EVENLY, k)) for k in ours}) == 1


def test_without_a_content_it_is_what_is_attended_to():
    nothing = np.full(CONTENT_DIM, np.nan)
    for k in (0, 50, 100):
        plan = DOMAIN.measure(compose(nothing, "I have 12 hours.", np.eye(len(EVENLY))[k]))
        assert plan.problems == ()
        assert plan.phi @ DOMAIN.phi[k] > 0.8


def test_the_privileged_writer_is_near_the_bound():
    rng = np.random.default_rng(2)
    means = []
    for _ in range(150):
        k, user = int(rng.integers(DOMAIN.num_needs)), taken(LEARNERS, int(rng.integers(200)))
        _, mu, problems = judged(user, k, DOMAIN.write(user, k, DOMAIN.query_text(user, k)))
        assert problems == ()
        means.append(mu)
    assert np.mean(means) > 0.92


# -- the environment ------------------------------------------------------------------------------------------------


def test_items_are_judged_as_the_domain_says():
    env = make(horizon=150)
    observation, _ = env.reset(seed=4)
    pool = Content.of(env.domain.items)
    for t in range(150):
        user, k = env.users[int(observation["user"])], env._worlds.need[env._i, 0]
        parts = env.domain.parts_of(user, k, pool)
        means = env.domain.combine(parts)
        n = (7 * t) % env.task.num_items
        observation, _, _, _, info = env.step(n)
        assert info["expected_reward"] == means[n]
        assert info["catalogue_oracle_reward"] == means.max()
        for name, part in parts.items():
            assert info[name] == np.broadcast_to(part, means.shape)[n]


PLAYERS = [
    ("select", "random", {}),
    ("select", "linucb", {}),
    ("select", "lints", {}),
    ("select", "rag", {}),
    ("select", "rag-profile", {}),
    ("select", "hare", {}),
    ("synthesize", "hare", {}),
    ("write", "writer", {"agent": "hare"}),
    ("write", "writer", {"agent": "rag"}),
    ("write", "writer", {"agent": "rag", "conditioned": False}),
    ("write", "writer", {"agent": "rag", "decoder": "verbatim"}),
    ("write", "writer", {"agent": "linucb", "choose": "select"}),
]


@pytest.mark.parametrize(("mode", "name", "kwargs"), PLAYERS, ids=[f"{m}-{n}-{k}" for m, n, k in PLAYERS])
def test_agents_play_it_unchanged(mode, name, kwargs):
    env = make(mode, horizon=25)
    observation, _ = env.reset(seed=0)
    agent = make_agent(name, **kwargs)
    agent.reset(env.task, np.random.default_rng(0))
    for _ in range(25):
        action = agent.act(observation)
        following, reward, _, _, info = env.step(action)
        agent.update(observation, action, reward)
        if mode == "write" and kwargs.get("choose") != "select" and kwargs.get("decoder") != "verbatim":
            assert (info["validity"], info["safety"], info["problems"]) == (1.0, 1.0, "")
        observation = following


def test_a_round_is_told_to_people():
    env = make("write", render_mode="ansi")
    env.reset(seed=0)
    env.step(env.optimal_action())
    page = env.render()
    for words in (
        "asks:  ",
        "lacks ",
        "covers ",
        " h a week",
        "times the least hours",
        "## Week 1",
        "gaps ",
        "safety ",
    ):
        assert words in page
    env.step("no plan")
    assert "! There is no title" in env.render() or "no part of a plan" in env.render()


def test_the_plan_of_the_page_is_valid():
    page = (Path(__file__).parents[1] / "docs/study_plan.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    plan = DOMAIN.measure(text)
    assert (plan.problems, plan.title) == ((), "Photography: Exposure")
