"""The engine of adaptive prompts: its configuration, its formula against a plain loop, its choices and its memory."""

import gymnasium as gym
import numpy as np
import pytest
from _prompts import bench as naive
from hypothesis import given, settings
from hypothesis import strategies as st

import hare_gym  # noqa: F401
from hare_agents.adaptive_prompts import AdaptivePrompts
from hare_agents.prompts import (
    Completion,
    Context,
    EntropyChange,
    Impression,
    Library,
    Prompt,
    PromptEngine,
    PromptsConfig,
    Selection,
    encode,
)
from hare_agents.prompts.context import decode, key_of
from hare_agents.prompts.diversity import diverse_choice
from hare_agents.prompts.scoring import ucb
from hare_gym.checks import check_agent
from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.prompts import cards_of

NOW = naive.NOW
HOUR = 3_600.0
VISIT = Context("skeptic", "ai-safety", 0.8, 1, 19)
KEY = "lens:skeptic|topic:ai-safety|entropy:high|depth:shallow|time:evening"


def library(count=6):
    return Library([Prompt(id=f"p{i}", topic=f"t{i % 3}", affinity={"lens:skeptic": 10.0 * i}) for i in range(count)])


def engine(count=6, **config):
    return PromptEngine(library(count), PromptsConfig.of(config))


def show(made, prompt, times=1, at=NOW, key=KEY, selected=0):
    for i in range(times):
        made.observe(Impression(prompt=prompt, context=key, at=at))
        if i < selected:
            made.observe(Selection(prompt=prompt, context=key))


# -- configuration ----------------------------------------------------------------------------------------------


def test_the_defaults_are_the_published_ones():
    config = PromptsConfig()
    assert (config.context.low, config.context.high, config.slate_size) == (0.3, 0.7, 3)
    assert (config.entropy.min_samples, config.ucb.c) == (10, 1.5)
    assert (config.freshness.floor, config.freshness.hours) == (0.5, 48.0)
    assert (config.new.impressions, config.new.bonus) == (50, 1.3)
    assert (config.diversity.min_distance, config.back_off.enabled) == (0.3, False)


def test_it_is_read_from_yaml(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("slate_size: 5\nucb: {c: 1}\ncontext: {lenses: [skeptic, builder]}\n")
    config = PromptsConfig.load(path)
    assert (config.slate_size, config.ucb.c, config.context.lenses) == (5, 1.0, ["skeptic", "builder"])
    path.write_text("")
    assert PromptsConfig.load(path) == PromptsConfig()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("ucb: {c: -1}", ConfigError, r"config\.yaml: ucb\.c: it must be greater than or equal to 0, not -1\."),
        ("ubc: {c: 1}", UnknownNameError, r"Unknown field 'ubc'\. Did you mean 'ucb'\?"),
        ("freshness: {hour: 1}", UnknownNameError, r"Unknown field 'hour'\. Did you mean 'hours'\? .*in freshness"),
        ("slate_size: '3'", ConfigError, r"slate_size: it must be a valid integer, not '3'\."),
        ("ucb: {c: .nan}", ConfigError, r"ucb\.c: it must be a finite number, not nan\."),
        ("context: {low: 0.9}", ConfigError, r"context: low \(0\.9\) lies above high \(0\.7\)\. Swap them\."),
        ("context: {deep_depth: 3}", ConfigError, r"medium_depth \(3\) must be below deep_depth \(3\)\."),
        ("context: {times: {day: 6, noon: 6}}", ConfigError, r"two times begin at the same hour"),
        ("context: {lenses: ['Anna Smith']}", ConfigError, r"context\.lenses\.0: .*pattern"),
        ("back_off: {levels: [[lens], [topic]]}", ConfigError, r"level \['topic'\] is no proper part of \['lens'\]"),
        ("back_off: {levels: [[lenz]]}", ConfigError, r"back_off\.levels\.0\.0: it must be 'lens', .*, not 'lenz'"),
        ("telemetry: {retention_days: 3}", ConfigError, r"retention_days: it must be greater than or equal to 7"),
        ("[1, 2]", ConfigError, r"must be a mapping of names to values, not list"),
        ("a: &x [1]\nb: *x", ConfigError, r"uses an alias"),
        ("{", ConfigError, r"is no YAML"),
    ],
)
def test_a_mistake_is_told_by_field_and_fix(tmp_path, text, error, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        PromptsConfig.load(path)


def test_a_missing_file_is_told():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        PromptsConfig.load("nowhere.yaml")


# -- contexts ---------------------------------------------------------------------------------------------------


def test_a_context_has_a_readable_key():
    assert encode(PromptsConfig().context, VISIT) == KEY
    buckets = decode(PromptsConfig().context, KEY)
    assert key_of(buckets) == KEY
    assert key_of(buckets, ["entropy", "lens"]) == "lens:skeptic|entropy:high"
    assert key_of(buckets, []) == "all"


@pytest.mark.parametrize(
    ("entropy", "depth", "hour", "buckets"),
    [
        (0.7, 0, 22, "entropy:medium|depth:shallow|time:night"),
        (0.71, 2, 3.5, "entropy:high|depth:shallow|time:night"),
        (0.3, 3, 6, "entropy:medium|depth:medium|time:morning"),
        (0.29, 7, 11.9, "entropy:low|depth:medium|time:morning"),
        (0, 8, 12, "entropy:low|depth:deep|time:afternoon"),
        (1, 99, 23.99, "entropy:high|depth:deep|time:night"),
    ],
)
def test_buckets_have_the_published_edges(entropy, depth, hour, buckets):
    assert encode(PromptsConfig().context, Context("a", "b", entropy, depth, hour)).endswith(buckets)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (Context(entropy=1.2), r"entropy must be a number from 0 to 1, not 1\.2\. Scale it"),
        (Context(entropy=float("nan")), r"entropy must be a number from 0 to 1, not nan"),
        (Context(depth=-1), r"depth must be a whole number of steps from 0, not -1"),
        (Context(hour=24), r"hour must be a number from 0 up to 24, not 24"),
        (Context(lens="anna@example.com"), r"lens must be a short name of a-z"),
        (Context(topic=""), r"topic must be a short name"),
    ],
)
def test_a_context_out_of_range_is_refused(context, message):
    with pytest.raises(DataError, match=message):
        engine().recommend(context, NOW)


def test_lenses_can_be_limited_to_those_that_exist():
    made = engine(context={"lenses": ["skeptic", "builder"]})
    with pytest.raises(UnknownNameError, match=r"Unknown lens 'sceptic'\. Did you mean 'skeptic'\?"):
        made.recommend(Context("sceptic"), NOW)


# -- prompts ----------------------------------------------------------------------------------------------------


def test_base_relevance_is_affinity_and_targeting():
    prompts = [
        Prompt(id="both", affinity={"lens:skeptic": 90, "topic:ai-safety": 30}),
        Prompt(id="missed", affinity={"lens:skeptic": 100}, targets={"entropy": ["low"], "depth": ["shallow"]}),
        Prompt(id="silent"),
        Prompt(id="wrong", targets={"entropy": ["low"], "time": ["morning", "night"]}),
    ]
    made = PromptEngine(Library(prompts))
    base = made.factors(KEY, NOW)["base"]
    assert dict(zip(made.library.ids, base.tolist(), strict=True)) == {
        "both": 60.0,
        "missed": 37.5,
        "silent": 50.0,
        "wrong": 12.5,
    }


def test_a_library_is_read_from_yaml(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text(
        "prompts:\n- {id: b, topic: x, text: Why?}\n- {id: a, topic: y, affinity: {'lens:skeptic': 80}}\n"
        "topics: {x: [1, 0], y: [1, 1]}\n"
    )
    read = Library.load(path)
    assert read.ids == ("a", "b")
    assert read.distances[0, 1] == pytest.approx(1 - 0.5**0.5)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("prompts: [{id: a}, {id: a}]", ConfigError, r"Two prompts have the id 'a'"),
        ("prompts: [{topic: a}]", ConfigError, r"prompts\.0\.id: it is missing"),
        (
            "prompts: [{id: a, affinity: {'lens:x': 101}}]",
            ConfigError,
            r"lens:x: it must be less than or equal to 100",
        ),
        ("prompts: [{id: a, affinity: {lense: 1}}]", ConfigError, r"affinity\.lense"),
        ("prompts: [{id: a, text: [1]}]", ConfigError, r"text: it must be a valid string"),
        ("prompts: [{id: a, titel: b}]", UnknownNameError, r"Unknown field 'titel'"),
        ("prompts: [{id: a, topic: x}]\ntopics: {y: [1]}", ConfigError, r"Topic 'x' of a prompt has no vector"),
        ("prompts: [{id: a, topic: x}]\ntopics: {x: [0.0]}", ConfigError, r"vector is zero or not finite"),
    ],
)
def test_a_bad_library_is_told(tmp_path, text, error, message):
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        Library.load(path)


# -- the formula ------------------------------------------------------------------------------------------------

CONFIGS = {
    "published": {},
    "back-off": {"back_off": {"enabled": True}},
    "back-off, few": {"back_off": {"enabled": True, "strength": 2.5, "levels": [["topic", "entropy"]]}},
    "completions": {"ucb": {"completion_weight": 0.4, "c": 0.3}},
    "freshness of the context": {"freshness": {"scope": "context"}},
    **{f"without {name}": {name: {"enabled": False}} for name in ("entropy", "ucb", "freshness", "new", "diversity")},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_agrees_with_a_plain_loop(name):
    rng = np.random.default_rng(0)
    config = PromptsConfig.of({"entropy": {"min_samples": 3}, **CONFIGS[name]})
    made = naive.made_library(60, rng, topics=8)
    events = naive.made_events(config, made, 4_000, rng)
    fast = PromptEngine(made, config)
    for event in events:
        fast.observe(event)
    counted = naive.naive_counts(config, events)
    for _ in range(25):
        context = naive.made_context(rng)
        scores = naive.naive_scores(config, made, counted, context, NOW)
        slate = fast.recommend(context, NOW, k=5)
        assert [one.prompt for one in slate] == naive.naive_choice(config, made, scores, 5)
        for one in slate:
            assert one.score == pytest.approx(scores[one.prompt], rel=1e-12)


def test_every_factor_moves_something():
    rng = np.random.default_rng(1)
    made = naive.made_library(60, rng, topics=8)
    config = {"entropy": {"min_samples": 3}, "freshness": {"floor": 0.1}, "back_off": {"enabled": True}}
    fast = PromptEngine(made, PromptsConfig.of(config))
    for event in naive.made_events(fast.config, made, 3_000, rng):
        fast.observe(event)
    parts = fast.factors(encode(fast.config.context, naive.made_context(rng)), NOW)
    assert {name: len(set(part.tolist())) > 5 for name, part in parts.items()} == dict.fromkeys(parts, True)


def test_with_nothing_known_it_falls_back_to_base_relevance():
    assert [one.prompt for one in engine().recommend(VISIT, NOW)] == ["p5", "p4", "p3"]
    made = engine(diversity={"enabled": False})
    base = np.array([5.0, 9.0, 1.0, 9.0, 0.0, 2.0])
    assert [one.prompt for one in made.recommend(VISIT, NOW, base=base)] == ["p1", "p3", "p0"]


def test_the_same_inputs_give_the_same_slate_in_whatever_order_they_came():
    rng = np.random.default_rng(2)
    made = naive.made_library(40, rng)
    events = naive.made_events(PromptsConfig(), made, 2_000, rng)
    slates = []
    for order in (np.arange(2_000), rng.permutation(2_000)):
        again = PromptEngine(Library(rng.permutation(made.prompts).tolist()))
        for i in order:
            again.observe(events[i])
        slates.append([again.recommend(Context(lens), NOW) for lens in naive.LENSES])
    assert slates[0] == slates[1]


def test_entropy_clarifies_explores_and_challenges():
    multipliers = {}
    for bucket, before in (("high", 0.8), ("medium", 0.5), ("low", 0.2)):
        for change in (-0.1, 0.05, 0.1, 0.15):
            made = engine()
            key = KEY.replace("high", bucket)
            for _ in range(10):
                made.observe(EntropyChange(prompt="p0", context=key, before=before, after=before + change))
            multipliers[bucket, change] = float(made.factors(key, NOW)["entropy"][0])
    assert multipliers["high", -0.1] == pytest.approx(1.5)
    assert multipliers["high", 0.1] == pytest.approx(0.7)
    assert multipliers["low", -0.1] == pytest.approx(0.7)
    assert multipliers["low", 0.05] == pytest.approx(1.25)
    assert multipliers["medium", 0.05] == pytest.approx(1.5)
    assert multipliers["medium", 0.1] == pytest.approx(1.1)
    assert multipliers["medium", 0.15] == pytest.approx(0.7)


def test_entropy_is_neutral_under_ten_samples():
    made = engine()
    for _ in range(9):
        made.observe(EntropyChange(prompt="p0", context=KEY, before=0.8, after=0.6))
    assert made.factors(KEY, NOW)["entropy"][0] == 1.0
    made.observe(EntropyChange(prompt="p0", context=KEY, before=0.8, after=0.6))
    assert made.factors(KEY, NOW)["entropy"][0] == 1.5


def test_freshness_recovers_within_a_day():
    made = engine()
    show(made, "p0")
    for hours, factor in ((0, 0.5), (12, 0.75), (24, 1.0), (1_000, 1.0)):
        assert made.factors(KEY, NOW + hours * HOUR)["freshness"][0] == pytest.approx(factor)
    assert made.factors(KEY, NOW - 99 * HOUR)["freshness"][0] == 0.5  # the clock went backwards
    assert made.factors(KEY, NOW)["freshness"][1] == 1.0


def test_the_bonus_of_the_new_decays():
    made = engine()
    bonuses = []
    for _ in range(51):
        bonuses.append(float(made.factors(KEY, NOW)["new"][0]))
        show(made, "p0")
    assert bonuses[0] == 1.3
    assert bonuses[25] == pytest.approx(1.15)
    assert bonuses[50] == 1.0


def test_unseen_prompts_are_tried_first():
    section = PromptsConfig().ucb
    factor = ucb(section, np.array([0.0, 100.0]), np.array([0.0, 100.0]))
    assert factor[0] == 2.5
    assert factor[1] == pytest.approx(1.0 + 1.5 * (np.log(101) / 100) ** 0.5)


def test_a_cold_context_borrows_from_coarser_ones():
    elsewhere = KEY.replace("evening", "night").replace("ai-safety", "climate")
    cold, warm = engine(), engine(back_off={"enabled": True})
    for made in (cold, warm):
        show(made, "p1", 200, key=elsewhere, selected=150)
        show(made, "p2", 200, key=elsewhere)
    assert cold.factors(KEY, NOW)["ucb"][1] == cold.factors(KEY, NOW)["ucb"][2]
    lent = warm.factors(KEY, NOW)["ucb"]
    assert lent[1] - lent[2] == pytest.approx(0.75)
    show(warm, "p1", 1_000)  # never selected here: own evidence outweighs what is lent
    assert warm.factors(KEY, NOW)["ucb"][1] < 0.1 + 1.5 * (np.log(1_100) / 1_000) ** 0.5


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([0.0, 0.3, 1.0, 2.0]))
def test_a_slate_is_diverse_while_it_can_be(seed, k, least):
    rng = np.random.default_rng(seed)
    scores, topics = rng.integers(0, 5, 12) * 1.0, rng.integers(0, 4, 12)
    distances = np.abs(np.subtract.outer(np.arange(4), np.arange(4))) * 0.5
    usable = rng.random(12) < 0.8
    chosen = diverse_choice(scores, k, topics, distances, least, usable)
    assert len(chosen) == len(set(chosen)) == min(k, usable.sum())
    assert usable[chosen].all()
    far = [all(distances[topics[a], topics[b]] >= least for b in chosen[:i]) for i, a in enumerate(chosen)]
    assert far == sorted(far, reverse=True)  # once none is far enough, the best of the rest follow
    if chosen:
        assert scores[chosen[0]] == scores[usable].max()


# -- counting ---------------------------------------------------------------------------------------------------


ON = {"prompt": "p0", "context": KEY}
BAD_EVENTS = [
    (Selection(**ON, dwell=-1.0), r"dwell must be a number of seconds from 0, not -1"),
    (Selection(**ON, dwell=float("inf")), r"dwell must be a number of seconds"),
    (Selection(**ON, dwell=1e6), r"more than telemetry\.max_dwell .* not milliseconds"),
    (EntropyChange(**ON, before=0.8, after=1.01), r"entropy after must be a number from 0 to 1, not 1\.01"),
    (EntropyChange(**ON, before=-0.1, after=0.5), r"entropy before must be a number from 0 to 1, not -0\.1"),
    (EntropyChange(**ON, before=0.2, after=0.5), r"entropy before is 0\.2, but the context says high"),
    (Completion(**ON, completed="yes"), r"completed must be true or false, not 'yes'"),
    (Impression(**ON), r"An impression needs a time"),
    (Impression(**ON, at=-5.0), r"seconds since 1970"),
    (Impression(prompt="p0", context="lens:a", at=NOW), r"'lens:a' is no context"),
    (Impression(**ON, at=NOW, id="user-42"), r"'user-42' is no random UUID"),
    (Impression(**ON, at=NOW, id="6fa459ea-ee8a-3ca4-894e-db77e160355e"), r"would identify somebody"),
]


@pytest.mark.parametrize(("event", "message"), BAD_EVENTS, ids=[message for _, message in BAD_EVENTS])
def test_an_event_that_cannot_be_true_is_not_counted(event, message):
    made = engine()
    with pytest.raises(DataError, match=message):
        made.observe(event)
    assert not made.statistics.contexts


def test_an_event_of_what_does_not_exist_is_not_counted():
    made = engine()
    with pytest.raises(UnknownNameError, match=r"Unknown prompt 'p9'"):
        made.observe(Impression(prompt="p9", context=KEY, at=NOW))
    with pytest.raises(UnknownNameError, match=r"Unknown entropy 'hi'"):
        made.observe(Impression(prompt="p0", context=KEY.replace("high", "hi"), at=NOW))
    assert not made.statistics.contexts


def test_contexts_are_bounded():
    made = engine(context={"max_contexts": 2})
    for lens in ("a", "b"):
        show(made, "p0", key=KEY.replace("skeptic", lens))
    with pytest.raises(DataError, match=r"There are 2 contexts already, and 'lens:c.*List the lenses and topics"):
        show(made, "p0", key=KEY.replace("skeptic", "c"))
    made.recommend(Context("d"), NOW)  # to ask makes no context
    assert len(made.statistics.contexts) == 2


def test_memory_grows_with_pairs_and_not_with_events():
    made = engine(back_off={"enabled": True})
    show(made, "p0", 10)
    before = made.state()
    show(made, "p0", 500)
    assert [array.nbytes for array in made.state().values()] == [array.nbytes for array in before.values()]


def test_state_is_taken_back():
    rng = np.random.default_rng(3)
    config = PromptsConfig.of({"back_off": {"enabled": True}})
    made = naive.made_library(30, rng)
    one, two = PromptEngine(made, config), PromptEngine(made, config)
    for event in naive.made_events(config, made, 3_000, rng):
        one.observe(event)
    two.load_state(one.state())
    for lens in naive.LENSES:
        assert one.recommend(Context(lens), NOW) == two.recommend(Context(lens), NOW)
        assert one.explain(Context(lens), made.ids[0], NOW) == two.explain(Context(lens), made.ids[0], NOW)
    with pytest.raises(DataError, match="The state is of 30 prompts, but there are 6"):
        engine().load_state(one.state())


def test_prompts_come_and_go_and_counts_stay():
    made = engine()
    show(made, "p3", 7, selected=3)
    kept = [prompt for prompt in made.library.prompts if prompt.id != "p1"]
    made.use(Library([*kept, Prompt(id="a-new-one")]))
    row = made.library.row("p3")
    assert made.statistics.contexts[KEY].tally(row).selections == 3
    assert made.statistics.impressions.sum() == made.statistics.impressions[row] == 7
    assert "a-new-one" in {one.prompt for one in made.recommend(VISIT, NOW)}


def test_shows_a_day_are_of_the_last_week():
    made = engine()
    show(made, "p0", 14, at=NOW - 6 * 24 * HOUR)
    assert made.statistics.shows_per_day(0, NOW) == 2.0
    assert made.statistics.shows_per_day(0, NOW + 24 * HOUR) == 0.0
    show(made, "p0", 7, at=NOW + 24 * HOUR)
    assert made.statistics.shows_per_day(0, NOW + 24 * HOUR) == 1.0


# -- as an agent --------------------------------------------------------------------------------------------------


def played(rounds=150, mode="slate", **knobs):
    """The actions, the selections and the agent of the beginning of one session."""
    env = gym.make("HarePrompts-v0", action_mode=mode, horizon=1_200, disable_env_checker=True)
    observation, _ = env.reset(seed=5)
    agent = AdaptivePrompts(**knobs)
    agent.reset(env.unwrapped.task, np.random.default_rng(0))
    actions, selected = [], 0.0
    for _ in range(rounds):
        action = agent.act(observation)
        after, reward, _, _, info = env.step(action)
        agent.feedback(observation, action, info["outcome"])
        agent.update(observation, action, reward)
        actions.append(np.atleast_1d(action).tolist())
        selected += info["selected"]
        observation = after
    return actions, selected, agent


def test_the_agent_keeps_the_contract_where_prompts_are_shown():
    check_agent(AdaptivePrompts(back_off=True), ["HarePrompts-v0"])
    actions, _, agent = played(mode="select")
    assert agent.engine.statistics.impressions.sum() == sum(map(len, actions))


SWITCHES = ["entropy", "ucb", "freshness", "new_bonus", "diversity"]


def test_each_switch_of_the_agent_changes_what_it_shows():
    whole = played(1_200)[0]  # the entropy multiplier waits for ten samples of a prompt
    for name in SWITCHES:
        rounds = 1_200 if name == "entropy" else 100
        assert played(rounds)[0] == whole[:rounds]
        assert played(rounds, **{name: False})[0] != whole[:rounds], name
    assert played(100, back_off=True)[0] != whole[:100]


def test_with_all_switches_off_the_agent_is_static_affinity():
    _, selected, agent = played(300, **dict.fromkeys(SWITCHES, False))
    base = agent.engine.factors(encode(agent.engine.config.context, Context("skeptic", "climate")), 0.0)["base"]
    assert base == pytest.approx(
        [(card.affinity["skeptic"] + (100 if card.topic == "climate" else 50)) / 2 for card in cards_of(agent.spec)]
    )
    assert played(300, back_off=True)[1] > selected


# -- explaining -------------------------------------------------------------------------------------------------


def test_a_recommendation_explains_itself():
    made = engine(back_off={"enabled": True})
    show(made, "p5", 20, selected=5)
    for _ in range(12):
        made.observe(EntropyChange(prompt="p5", context=KEY, before=0.8, after=0.76))
    told = made.explain(VISIT, "p5", NOW + 2 * HOUR)
    assert told.splitlines()[1:] == [
        f"  context {KEY}",
        "  base 50.00: affinity 50 to lens:skeptic and 50 to topic:ai-safety; 0 of 0 targets met",
        "  entropy 1.20: clarify (entropy is high); mean change -0.040 over 12 samples",
        "  ucb 0.84: rate 0.250 of 20 impressions + 1.5 sqrt(ln(20 + 1)/20)",
        "  freshness 0.54: shown anywhere 2.0 hours ago; 2.9 a day over 7 days",
        "  new 1.18: 20 impressions, new under 50",
    ]
    assert told.splitlines()[0] == "p5: 32.0 = base 50.00 x entropy 1.20 x ucb 0.84 x freshness 0.54 x new 1.18"
    assert "never shown in this context: 1 + 1.5" in made.explain(VISIT, "p0", NOW)
    warmed = made.explain(Context("skeptic", "climate", 0.8, 1, 8), "p5", NOW)
    assert "(0 here, the rest lent by coarser contexts)" in warmed
    with pytest.raises(UnknownNameError, match=r"Unknown prompt 'p55'\. Did you mean 'p5'"):
        made.explain(VISIT, "p55", NOW)


@pytest.mark.parametrize("name", ["entropy", "ucb", "freshness", "new"])
def test_what_is_switched_off_says_so(name):
    made = engine(**{name: {"enabled": False}})
    show(made, "p0", 3)
    assert f"  {name} 1.00: switched off" in made.explain(VISIT, "p0", NOW)


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ([1.0], r"base has shape \(1,\), but there are 6 prompts"),
        ([101.0] * 6, r"from 0 to 100"),
        ([np.nan] * 6, "finite"),
    ],
)
def test_somebodys_own_base_relevance_is_checked(base, message):
    with pytest.raises(DataError, match=message):
        engine().recommend(VISIT, NOW, base=base)


def test_a_slate_has_at_least_one_prompt():
    with pytest.raises(DataError, match="A slate has at least one prompt, not 0"):
        engine().recommend(VISIT, NOW, k=0)
    assert len(engine(2).recommend(VISIT, NOW)) == 2
