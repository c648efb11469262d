"""The engine of the text environments, on the domain of docs/add_a_domain.md: a third one, in one file."""

import hashlib
import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import hare_gym
from hare_agents.decoders import make_decoder
from hare_agents.decoders.pool import reader_of
from hare_gym.checks import check_task
from hare_gym.contract import sanitise
from hare_gym.errors import ActionError, ConfigError, UnknownNameError
from hare_gym.text import domain as domains
from hare_gym.text.domain import Content, Domain, domain_of, inner, stacked, taken
from hare_gym.text.engine import MODES, TEXT_LENGTH, TextEnvironment, TextVectorEnvironment

PAGE = Path(__file__).parents[1] / "docs/add_a_domain.md"
ID = "HareTea-v0"


@pytest.fixture(scope="module", autouse=True)
def tea(tmp_path_factory):
    """The page's file as a module of its own, registered as the page says."""
    folder = tmp_path_factory.mktemp("tea")
    (folder / "tea.py").write_text(
        re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[0]
    )
    sys.path.insert(0, str(folder))
    hare_gym.register_environment(ID, "tea:HareTea", "tea:HareTeaVector")
    yield importlib.import_module("tea")
    sys.path.remove(str(folder))


def make(mode="select", **knobs):
    return gym.make(ID, disable_env_checker=True, action_mode=mode, **{"horizon": 300, **knobs}).unwrapped


def make_vec(size, mode="select", **knobs):
    return gym.make_vec(
        ID, num_envs=size, vectorization_mode="vector_entry_point", action_mode=mode, **{"horizon": 300, **knobs}
    )


def play(env, choose, rounds, seed=0):
    observation, _ = env.reset(seed=seed)
    seen = []
    for _ in range(rounds):
        action = choose(env, observation)
        following, reward, _, _, info = env.step(action)
        seen.append((observation, action, reward, info))
        observation = following
    return seen


# -- a domain of one file is a whole environment --------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_it_keeps_the_contract(mode):
    check_task(gym.make(ID, disable_env_checker=True, action_mode=mode))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("knobs", [{}, {"drift": 0.2, "late_users": 0.5, "num_users": 7}], ids=["plain", "moving"])
def test_the_vector_form_gives_the_single_environments_bits(mode, knobs):
    size, knobs = 4, {**knobs, "horizon": 140}
    vector, singles = make_vec(size, mode, **knobs), [make(mode, **knobs) for _ in range(size)]
    seen, _ = vector.reset(seed=40)
    expected = [env.reset(seed=40 + i)[0] for i, env in enumerate(singles)]
    vector.action_space.seed(1)
    texts = singles[0].task.pool_texts
    for t in range(140):
        for key, values in seen.items():
            assert np.array_equal(values, np.stack([observation[key] for observation in expected])), (t, key)
        if mode == "write":
            actions = tuple(texts[(7 * t + lane) % len(texts)][: 400 - t] for lane in range(size))
        else:
            actions = vector.action_space.sample()
        seen, rewards, _, truncated, infos = vector.step(actions)
        played = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        expected = [one[0] for one in played]
        assert rewards.tolist() == [one[1] for one in played], t
        assert truncated.tolist() == [one[3] for one in played]
        for key in played[0][4]:
            assert infos[key].tolist() == [one[4][key] for one in played], (t, key)


def test_the_noise_of_a_round_depends_on_the_seed_and_the_round_alone():
    """Two agents that show different items until round 50 have the same luck after it."""
    runs = [play(make(), lambda env, _, item=item: item if env._t < 50 else 7, 150, seed=4) for item in (0, 30)]
    assert [r for _, _, r, _ in runs[0][:50]] != [r for _, _, r, _ in runs[1][:50]]
    assert [r for _, _, r, _ in runs[0][50:]] == [r for _, _, r, _ in runs[1][50:]]
    assert [o["query_text"] for o, _, _, _ in runs[0]] == [o["query_text"] for o, _, _, _ in runs[1]]


def test_no_knob_shifts_the_luck_of_others():
    plain = play(make(), lambda env, _: 3, 200)
    for knobs in ({"drift": 0.3}, {"concentration": 5.0}, {"horizon": 200}):
        other = play(make(**knobs), lambda env, _: 3, 200)
        assert [o["query_text"] for o, _, _, _ in plain] == [o["query_text"] for o, _, _, _ in other]
    still = [i["fit"] for _, _, _, i in plain]
    assert still[:20] == [i["fit"] for _, _, _, i in play(make(drift=0.3), lambda env, _: 3, 200)][:20]


def test_users_come_and_drift_and_say_their_constraints_every_time(tea):
    env = make(late_users=0.5, late_from=0.4, drift=0.3)
    first = None
    for t, (observation, _, _, _) in enumerate(play(env, lambda env, _: 0, 299)):
        user = int(observation["user"])
        assert user < 10 or t >= 120
        assert (tea.NO_CAFFEINE in observation["query_text"]) == bool(env.users.sleepless[user])
        first = env.users if first is None else first
    before = make().unwrapped
    before.reset(seed=0)
    assert not np.array_equal(before.users.taste, env.users.taste)
    assert np.array_equal(before.users.sleepless, env.users.sleepless)
    env.reset()
    assert np.array_equal(before.users.taste, env.users.taste)


def test_lanes_share_the_users_of_the_first_and_have_needs_of_their_own():
    vector, single = make_vec(4, shared_world=True), make()
    seen, _ = vector.reset(seed=9)
    observation, _ = single.reset(seed=9)
    texts = set()
    for t in range(100):
        assert seen["query_text"][0] == observation["query_text"]
        texts.add(seen["query_text"])
        seen, rewards, _, _, _ = vector.step(np.full(4, t % 70))
        observation, reward, _, _, _ = single.step(t % 70)
        assert rewards[0] == reward
    assert any(len(set(four)) > 1 for four in texts)
    assert np.array_equal(vector.users_of(3).taste, single.users.taste)


# -- judging --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [2**16, 64, 1000], ids=["all at once", "a round at a time", "in pieces"])
def test_the_best_item_is_the_best_of_all(monkeypatch, values):
    monkeypatch.setattr(domains, "_CHUNK_VALUES", values)
    env = make()
    pool = Content.of(env.domain.items)
    for observation, item, _, info in play(env, lambda env, _: env._t % 72, 200, seed=2):
        user = env.users[int(observation["user"])]
        need = [words for words, _ in sys.modules["tea"].NEEDS].index(observation["query_text"].split(" No caf")[0])
        parts = env.domain.parts_of(user, np.array(need), pool)
        means = env.domain.combine(parts)
        assert info["catalogue_oracle_reward"] == means.max()
        assert info["expected_reward"] == means[item]
        assert {name: info[name] for name in parts} == {name: float(value[item]) for name, value in parts.items()}
        assert info["expected_reward"] == pytest.approx(info["validity"] * info["safety"] * info["fit"], abs=1e-15)


def test_a_text_an_item_and_a_content_are_judged_alike():
    select, write, synthesize = make(), make("write"), make("synthesize")
    runs = [
        play(select, lambda env, _: env._t % 72, 150),
        play(write, lambda env, _: env.task.pool_texts[env._t % 72], 150),
        play(synthesize, lambda env, _: env.task.pool[env._t % 72].copy(), 150),
    ]
    for (_, _, reward, item), (_, _, same, text), (_, _, _, content) in zip(*runs, strict=True):
        assert (reward, item["expected_reward"]) == (same, text["expected_reward"])
        assert content["fit"] == item["fit"] and content["safety"] == content["validity"] == 1.0
        assert text["oracle_reward"] == pytest.approx(1.0)
        assert text["oracle_width"] == pytest.approx(1.0 - text["catalogue_oracle_reward"])


def test_a_breach_that_hurts_makes_the_reward_nothing():
    env = make("write", sleepless=1.0)
    env.reset(seed=0)
    _, _, _, _, info = env.step("# Strong\n\n- 4 g assam\n")
    assert info["expected_reward"] == info["safety"] == 0.0 < info["fit"]
    assert info["problems"] == "it holds caffeine, which you may not have"
    assert env.step("# Mild\n\n- 4 g rooibos\n")[4]["problems"] == ""


def test_no_content_is_better_than_the_oracle_says():
    env = make("synthesize")
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    y = rng.uniform(-0.6, 0.6, (3000, 3))
    for user in range(0, 20, 5):
        means = env.domain.combine(
            env.domain.parts_of(env.users[user], np.array(1), Content(y, np.ones(len(y)), None))
        )
        assert means.max() <= float(env.domain.oracle(env.users[user], np.array(1))) == 1.0


@pytest.mark.parametrize(
    ("mode", "action", "message"),
    [
        ("write", 3, "must be a str, not int"),
        ("write", "a" * 9000, r"may have 8,192 characters; this one has 9,000\. Cut it"),
        ("select", 72, "Item 72 is not in the pool of 72"),
        ("synthesize", np.full(3, np.nan), "must be finite"),
    ],
)
def test_wrong_actions_are_refused_and_the_round_is_not_spent(mode, action, message):
    env = make(mode)
    env.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        env.step(action)
    assert env._t == 0


@pytest.mark.parametrize(
    ("mode", "actions", "message"),
    [
        ("select", np.zeros(2, dtype=int), "must be 3 integers"),
        ("select", np.array([0, 72, 0]), "Item 72 is not in the pool of 72: use 0 to 71"),
        ("synthesize", np.zeros((3, 4), dtype=np.float32), r"must be float32 of shape \(3, 3\)"),
        ("synthesize", np.full((3, 3), np.inf), "must be finite"),
        ("write", ("one", "two"), "must be 3 texts"),
    ],
)
def test_wrong_actions_of_the_vector_form_are_refused(mode, actions, message):
    vector = make_vec(3, mode)
    vector.reset(seed=0)
    with pytest.raises(ActionError, match=message):
        vector.step(actions)
    assert vector._t == 0


def test_wrong_knobs_are_named():
    with pytest.raises(UnknownNameError, match=r"knob of HareTea 'sleeples'\. Did you mean 'sleepless'"):
        make(sleeples=0.2)
    with pytest.raises(UnknownNameError, match="knob of HareTea 'sleeples'"):
        make_vec(2, sleeples=0.2)
    with pytest.raises(ConfigError, match="sleepless must be at most 1"):
        make(sleepless=2)
    with pytest.raises(ConfigError, match="num_envs must be a whole number"):
        make_vec(0)
    with pytest.raises(ConfigError, match="seed must be one number or 2 of them, not 3"):
        make_vec(2).reset(seed=[1, 2, 3])


def test_strangers_texts_earn_nothing_and_cannot_move_the_terminal():
    env = make("write", render_mode="ansi")
    env.reset(seed=0)
    for text in ("", "\ud800", "\x1b[2J" * 500, "# a\n- 99 g hemlock", "\u202e" * TEXT_LENGTH, "- 3 g assam"):
        info = env.step(text)[4]
        assert info["expected_reward"] == info["validity"] == 0.0 and info["problems"]
        assert all(c.isprintable() or c == "\n" for c in env.render())


def test_a_round_can_be_read():
    for mode in MODES:
        env = make(mode, render_mode="ansi", sleepless=1.0)
        env.reset(seed=0)
        assert "nothing played yet" in env.render()
        words = env._observation()["query_text"]
        info = env.step(env.optimal_action())[4]
        shown = env.render()
        assert " ".join(words.split()) in " ".join(shown.split()) and "no caffeine   (hidden" in shown
        assert f"expected {info['expected_reward']:.2f}" in shown
        assert ("which no text has yet" in shown) == (mode == "synthesize")
        assert max(map(len, shown.splitlines())) <= 96


# -- arrays of users ------------------------------------------------------------------------------------------------


def test_users_are_taken_and_stacked(tea):
    users = tea.Drinkers(np.arange(12.0).reshape(4, 3), np.arange(4) > 1)
    assert len(users) == 4 and users[2].taste.tolist() == [6.0, 7.0, 8.0] and bool(users[2].sleepless)
    two = stacked([users, users[::-1]])
    assert two.taste.shape == (2, 4, 3)
    assert np.array_equal(taken(two, (np.array([1, 0]), np.array([0, 0]))).taste, users[[3, 0]].taste)
    assert set(users.attributes()) == {"taste", "sleepless"}


def test_inner_has_the_same_bits_for_every_shape():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 40, 33, 19))
    whole = inner(a, b)
    assert whole == pytest.approx((a * b).sum(axis=-1))
    assert all(inner(a[i, j], b[i, j]) == whole[i, j] for i in range(40) for j in range(0, 33, 8))
    assert np.array_equal(inner(a[:, :1], b[0]), np.stack([inner(a[i, 0], b[0]) for i in range(40)]))


# -- rewards that are looked up -------------------------------------------------------------------------------------


@pytest.fixture
def separable(tea):
    """Tea whose reward is a product of what the need says and of what the user is."""

    class Looked(domains.Separable, tea.Teas):
        parts = ("validity", "safety", "fit", "asked", "taste")
        need_parts, both_parts = ("validity", "asked"), ("fit",)

        def parts_by_need(self, needs, content):
            asked = 0.6 + 0.5 * inner(content.phi, self.query_vectors(None, needs))
            return {"validity": content.validity, "asked": asked}

        def parts_by_user(self, users, content):
            wakes = 0.0 if content.facts is None else content.facts[..., 0]
            return {"taste": 0.5 + 0.5 * inner(content.phi, users.taste), "safety": 1.0 - users.sleepless * wakes}

        def parts_by_both(self, users, needs, content):
            return {"fit": tea.Teas.parts_of(self, users, needs, content)["fit"]}

    class Two(Looked):
        parts, both_parts = ("validity", "safety", "asked", "taste"), ()

    return Looked, Two


@pytest.mark.parametrize("drift", [0.0, 0.2])
@pytest.mark.parametrize("values", [2**16, 100])
@pytest.mark.parametrize("which", [0, 1], ids=["with parts of both", "apart"])
def test_looking_up_gives_the_bits_of_judging_round_by_round(separable, monkeypatch, drift, values, which):
    monkeypatch.setattr(domains, "_CHUNK_VALUES", values)
    looked = separable[which]
    infos = []
    for found in (looked, type("Plain", (looked,), {"judge": Domain.judge})):
        single = type("HareLooked", (TextEnvironment,), {"domain_class": found})(horizon=150, drift=drift)
        vector = type("Lanes", (TextVectorEnvironment,), {"domain_class": found})(4, horizon=150, drift=drift)
        one = [info for _, _, _, info in play(single, lambda env, _: env._t % 72, 150)]
        vector.reset(seed=0)
        many = [vector.step(np.arange(4) + t % 60)[4] for t in range(150)]
        infos.append((one, [{key: value.tolist() for key, value in info.items() if key[0] != "_"} for info in many]))
    assert infos[0] == infos[1]
    assert tuple(infos[0][0][0])[4:] == looked.parts
    assert len({info["taste"] for info in infos[0][0]}) > 50


# -- agents, unchanged ----------------------------------------------------------------------------------------------

WRITER = {"decoder": "composer"}
PLAYERS = [
    *[("select", name, {}) for name in ("random", "linucb", "lints", "rag", "rag-profile", "hare")],
    ("synthesize", "hare", {}),
    ("synthesize", "rag", {}),
    ("write", "writer", {"agent": "hare"}),
    ("write", "writer", {"agent": "rag"}),
    ("write", "writer", {"agent": "linucb", "choose": "select", "selected": "decoded"}),
    ("write", "writer", {"agent": "linucb", "choose": "select"}),
    ("write", "writer", {"agent": "rag", "decoder": "verbatim"}),
    ("write", "writer", {"agent": "random", "conditioned": False}),
]


def session(mode, name, knobs, rounds, seed=0):
    env = make(mode, horizon=rounds)
    agent = hare_gym.make_agent(name, **knobs)
    observation, _ = env.reset(seed=seed)
    agent.reset(env.task, np.random.default_rng(seed))
    infos, texts = [], []
    for _ in range(rounds):
        action = agent.act(observation)
        following, reward, _, _, info = env.step(action)
        agent.update(observation, action, reward)
        infos.append(info)
        texts.append((observation["query_text"], action))
        observation = following
    return infos, texts, agent


@pytest.mark.parametrize(("mode", "name", "knobs"), PLAYERS)
def test_agents_play_it_unchanged(mode, name, knobs):
    infos, _, agent = session(mode, name, knobs, 40)
    assert all(0.0 <= info["expected_reward"] <= info["oracle_reward"] + 1e-12 for info in infos)
    if mode == "write" and knobs.get("decoder") != "verbatim" and agent.config.selected != "verbatim":
        assert all(info["validity"] == 1.0 and not info["problems"] for info in infos)


def test_what_is_written_obeys_what_is_said(tea):
    infos, texts, _ = session("write", "writer", {"agent": "hare"}, 120)
    said = [text for query, text in texts if tea.NO_CAFFEINE in query]
    assert len(said) > 10 and not [text for text in said if "assam" in text or "sencha" in text]
    assert [info["safety"] for info in infos] == [1.0] * 120


def test_the_inner_agent_learns_what_the_text_turned_out_to_be():
    _, texts, agent = session("write", "writer", {"agent": "hare"}, 3)
    env = make("write")
    assert np.array_equal(agent.content(texts[-1][1]), env.domain.measure(texts[-1][1]).phi)
    assert np.array_equal(reader_of(env.task)("no tea"), np.zeros(3))


def test_writing_for_a_user_beats_retrieval():
    """Hidden taste matters and can be learned: the last 150 of 300 rounds, two seeds."""
    lost = {
        name: [
            np.mean([info["regret"] for info in session("write", "writer", {"agent": name}, 300, seed)[0][150:]])
            for seed in range(2)
        ]
        for name in ("hare", "rag")
    }
    assert np.mean(lost["hare"]) < 0.7 * np.mean(lost["rag"])


# -- the registry, and what a domain need not have ------------------------------------------------------------------


def test_a_domain_is_found_by_its_tasks_id():
    env = make("write", sleepless=0.5)
    found = domain_of(env.task)
    assert found is env.domain is make(horizon=7, sleepless=0.5).domain and found.config.sleepless == 0.5
    assert domain_of(replace(env.task, id="SomeTea-v0")) is None
    for id in ("HareBilinear-v0", "HareSkills-v0"):
        other = gym.make(id, disable_env_checker=True).unwrapped
        other.reset(seed=0)
        assert domain_of(other.task) is None
    with pytest.raises(ConfigError, match=r"'tea-0', and what is installed here is 'tea-1'\. Install the version"):
        domain_of(replace(env.task, reward_version="tea-0"))


def test_a_decoder_takes_one_domain_after_another(tea):
    decoder = make_decoder("composer")
    task = make("write").task
    decoder.prepare(task)
    weights, rng = np.full(task.num_items, 1.0 / task.num_items), np.random.default_rng(0)
    first = decoder.decode(task.pool[3], np.zeros(3), tea.NO_CAFFEINE, task.pool_texts, weights, rng)
    assert domain_of(task).measure(first).validity == 1.0
    plain, mean = (
        decoder.decode(z, np.zeros(3), "", task.pool_texts, weights, rng)
        for z in (np.full(3, np.nan), task.pool.mean(axis=0))
    )
    assert plain == mean != first
    skills = gym.make("HareSkills-v0", disable_env_checker=True).unwrapped
    skills.reset(seed=0)
    decoder.prepare(skills.task)
    even = np.full(192, 1.0 / 192)
    text = decoder.decode(skills.task.pool[5], np.zeros(17), "", skills.task.pool_texts, even, rng)
    assert text.startswith("---\nname: ")
    decoder.prepare(task)
    assert decoder.decode(task.pool[3], np.zeros(3), tea.NO_CAFFEINE, task.pool_texts, weights, rng) == first


def test_a_domain_without_tools_says_so(tea):
    class Plain(tea.Teas):
        composes = False

    class HarePlain(TextEnvironment):
        domain_class = Plain

    env = HarePlain(action_mode="write")
    env.reset(seed=0)
    assert env.optimal_action() in env.task.pool_texts
    with pytest.raises(ConfigError, match="HareTea-v0 has no tools that put texts together; use the decoder 'verb"):
        env.domain.compose(np.zeros(3), "", env.task.pool_texts, np.ones(72) / 72, np.random.default_rng(0))


def test_the_engine_walks_along_variants_to_what_is_asked_for(tea):
    domain = make().domain
    even = np.full(72, 1.0 / 72)
    rng = np.random.default_rng(0)
    for said in ("", tea.NO_CAFFEINE):
        reached, shown = [], []
        for z in rng.standard_normal((10, 3)):
            z /= np.linalg.norm(z)
            text = domain.compose(z, said, domain.texts, even, rng)
            assert text == domain.compose(z, said, domain.texts, even, rng)
            read = domain.measure(text)
            assert read.validity == 1.0 and domain.obeys(read, said)
            items = [item for item in domain.items if domain.obeys(item, said)]
            reached.append(np.sum((read.phi - z) ** 2))
            shown.append(min(np.sum((item.phi - z) ** 2) for item in items))
            assert reached[-1] <= shown[-1] + 1e-12
        assert np.mean(reached) < 0.9 * np.mean(shown)

    # nothing can be changed, and nothing obeys
    class Stubborn(tea.Teas):
        def variants(self, text, query_text):
            return ()

        def obeys(self, read, query_text):
            return False

    with pytest.raises(
        ConfigError, match="HareTea-v0: no text of the pool can be changed into one that is valid and"
    ):
        Stubborn(tea.TeaConfig()).compose(z, "", domain.texts, even, rng)


def test_texts_lie_in_the_charset_and_skills_keep_their_bits():
    task = make().task
    assert all(sanitise(text, TEXT_LENGTH) == text for text in task.pool_texts)
    digest = hashlib.sha256()
    env = gym.make("HareSkills-v0", disable_env_checker=True, drift=0.1, late_users=0.3).unwrapped
    for t, (observation, _, reward, info) in enumerate(play(env, lambda env, _: env._t % 192, 300, seed=11)):
        numbers = [reward, *(info[name] for name in sorted(info))]
        digest.update(repr((t, observation["query_text"], int(observation["user"]), numbers)).encode())
    # from before the engine was taken out of the skills: a published id never changes behaviour
    assert digest.hexdigest() == "3babdf1516e2848756d4ebe22ac823cd25dc17328cf20413b1b2b880fdba05aa"
