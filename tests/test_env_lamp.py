"""`HareLaMP` against the official metric, its knobs, the published files' layout, and bad input."""

import json

import gymnasium as gym
import numpy as np
import pytest

import hare_gym
from hare_gym.contract import pool_texts_of, sanitise
from hare_gym.errors import ActionError, ConfigError, DataError, UnknownNameError
from hare_gym.lamp import metrics
from hare_gym.lamp.features import Features
from hare_gym.lamp.reading import answered_item, question_of, task_of_spec
from hare_gym.lamp.synthetic import write_files
from hare_gym.lamp.tasks import OLD_TASK_2, TASKS, query_of

every_task = pytest.mark.parametrize("number", TASKS)
both_modes = pytest.mark.parametrize("mode", ["select", "write"])


def make(task=3, mode="select", **knobs):
    return gym.make(f"HareLaMP{task}-v0", disable_env_checker=True, action_mode=mode, **knobs).unwrapped


def make_vec(number, size, mode="select", **knobs):
    return gym.make_vec(
        f"HareLaMP{number}-v0", num_envs=size, vectorization_mode="vector_entry_point", action_mode=mode, **knobs
    )


def asked_in(env, rounds, seed=0, action=None):
    """Users and questions of a session, as they come."""
    env.reset(seed=seed)
    found = []
    for _ in range(rounds):
        found.append((env._user, env.question))
        env.step("x" if env.action_mode == "write" else 0)
    return found


@every_task
@both_modes
def test_the_reward_is_the_official_metric(number, mode):
    env = make(number, mode, horizon=40)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    for _ in range(40):
        question, task = env.question, env.lamp_task
        answers = task.labels or tuple(item.fields[task.answered] for item in question.profile)
        k = int(rng.integers(len(answers)))
        earned = [metrics.score(task, question.output, answer) for answer in answers]
        _, reward, _, _, info = env.step(k if mode == "select" else answers[k])
        assert reward == info["expected_reward"] == pytest.approx(earned[k])
        assert info["catalogue_oracle_reward"] == pytest.approx(max(earned))
        assert info["oracle_reward"] == 1.0
        assert info["regret"] == pytest.approx((max(earned) if mode == "select" else 1.0) - reward)


@every_task
@both_modes
def test_the_optimal_action_is_optimal(number, mode):
    env = make(number, mode, horizon=30)
    env.reset(seed=2)
    for _ in range(30):
        action = env.optimal_action()
        assert action in env.action_space
        assert env.step(action)[4]["regret"] == 0.0


@every_task
def test_the_pool_holds_the_features_of_the_answers(number):
    env = make(number, horizon=5)
    observation, _ = env.reset(seed=3)
    task = env.lamp_task
    answers = task.labels or tuple(item.fields[task.answered] for item in env.question.profile)
    assert observation["pool_mask"].sum() == len(answers)
    features = Features(task)
    assert np.array_equal(observation["pool"][: len(answers)], features(env.question, answers))
    assert np.array_equal(observation["query"], features.query(env.question))
    assert observation["query_text"] == env.question.input


@every_task
def test_a_writer_can_measure_what_a_selector_is_shown(number):
    select, write = make(number, horizon=10), make(number, "write", horizon=10)
    shown, _ = select.reset(seed=4)
    seen, _ = write.reset(seed=4)
    task = task_of_spec(write.task)
    assert task == TASKS[number]
    features = Features(task)
    for _ in range(10):
        assert len(pool_texts_of(seen)) == seen["pool_mask"].sum() == 16
        question = question_of(task, seen)
        assert question.profile
        answers = task.labels or tuple(item.fields[task.answered] for item in question.profile)
        assert np.array_equal(features(question, answers), shown["pool"][shown["pool_mask"] == 1])
        assert np.array_equal(features.profile(question), seen["pool"][seen["pool_mask"] == 1])
        assert write._round.question.input == select._round.question.input
        shown, seen = select.step(0)[0], write.step("x")[0]


def test_labels_are_compared_after_strip():
    env = make(2, "write", horizon=3)
    env.reset(seed=0)
    assert env.step(f"  {env.question.output}\n")[1] == 1.0
    assert env.step(env.question.output.upper())[1] == 0.0
    assert env.step("")[1] == 0.0


def test_ratings_earn_by_their_distance():
    env = make(3, "write", horizon=3)
    env.reset(seed=0)
    gold = int(env.question.output)
    other = 1 if gold > 3 else 5
    assert env.step(str(other))[1] == pytest.approx(1.0 - abs(other - gold) / 4.0)
    assert env.step("no number")[1] == 0.0


@pytest.mark.parametrize(("number", "chance"), [(1, 0.5), (2, 1 / 15)])
def test_nothing_gives_the_answer_away_by_its_place(number, chance):
    env = make(number, horizon=400)
    env.reset(seed=5)
    hits = [env.step(k % env.task.num_items)[1] for k in range(400)]
    assert np.mean(hits) == pytest.approx(chance, abs=0.08)


@pytest.mark.parametrize(
    ("number", "name", "sign", "chance"),
    [(1, "likeness to the nearest three", 1, 0.5), (2, "share of like items", 1, 1 / 15)],
)
def test_profiles_tell_answers(number, name, sign, chance):
    env = make(number, horizon=600)
    observation, _ = env.reset(seed=6)
    column, rewards = env._rounds.features.names.index(name), []
    for _ in range(600):
        observation, reward, *_ = env.step(int(np.argmax(sign * observation["pool"][:, column])))
        rewards.append(reward)
    assert np.mean(rewards) > chance + 0.08


def test_users_questions_come_in_order_and_users_at_random():
    env = make(6, horizon=200, num_users=4)
    session = asked_in(env, 200)
    for user in range(4):
        own = [int(question.id[-4:]) for of, question in session if of == user]
        assert own == list(range(16, 16 + len(own)))
        assert len(own) > 25
    env.reset(seed=0)
    again = asked_in(env, 200, seed=None)
    assert {question.id for _, question in again} & {question.id for _, question in session}
    assert [user for user, _ in again] != [user for user, _ in session]


def test_limited_questions_are_shared_out_and_fresh_ones_follow():
    env = make(6, horizon=40, num_users=4, questions=5)
    session = asked_in(env, 40)
    for half in (session[:20], session[20:]):
        assert sorted(user for user, _ in half) == sorted([0, 1, 2, 3] * 5)
    assert len({question.id for _, question in session}) == 40


@every_task
def test_growing_profiles_hold_what_was_answered(number):
    env = make(number, "write", horizon=60, num_users=3, profile_size=40, growing=True)
    observation, _ = env.reset(seed=0)
    answered = {user: [] for user in range(3)}
    for _ in range(60):
        user, question = env._user, env.question
        items = answered[user]
        fields = [dict(item.fields) for item in question.profile]
        assert len(fields) == 40 == observation["pool_mask"].sum()
        assert fields[40 - len(items) :] == items
        answered[user].append(dict(answered_item(env.lamp_task, question).fields))
        observation = env.step("x")[0]


def test_growing_is_off_by_default_and_not_for_shared_lanes():
    env = make(6, horizon=30, num_users=1)
    profiles = {id(question.profile) for _, question in asked_in(env, 30)}
    assert len(profiles) == 1
    with pytest.raises(ConfigError, match=r"tell each other answers before they are asked\. Use growing=False"):
        make_vec(6, 3, growing=True, shared_world=True)
    make_vec(6, 3, growing=True)


# -- the published files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["user", "time"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(f"lamp-{request.param}")
    for number in TASKS:
        write_files(
            path / f"LaMP_{number}", number, train=8, dev=12, test=3, profile_size=6, num_users=4, split=request.param
        )
    path.joinpath("kind").write_text(request.param)
    return path


@every_task
@both_modes
def test_files_are_played(folder, number, mode):
    timed = (folder / "kind").read_text() == "time"
    env = make(number, mode, data=str(folder / f"LaMP_{number}"), horizon=30)
    assert env.task.num_users == (4 if timed else 12)
    session = asked_in(env, 24)
    for half in (session[:12], session[12:]):  # each question once before any comes again
        assert len({question.id for _, question in half}) == 12
    if timed:
        sizes = [len(question.profile) for user, question in session[:12] if user == 0]
        assert sizes == list(range(6, 6 + len(sizes)))
    else:
        assert all(len(question.profile) == 6 for _, question in session)
    assert env.task.reward_version.endswith(f"LaMP_{number} {TASKS[number].name}")
    assert env.task.digest != make(number, mode, horizon=30).task.digest


def test_files_can_be_cut_short(folder):
    path = str(folder / "LaMP_4")
    env = make(4, data=path, num_users=2, profile_size=3, questions=1, horizon=10, growing=False)
    session = asked_in(env, 10)
    assert {user for user, _ in session} == {0, 1}
    assert len({question.id for _, question in session}) == 2
    assert all(len(question.profile) == 3 for _, question in session)
    assert env.task.num_items == 3
    assert make(4, data=path).task.num_items == 100


def test_the_latest_items_are_kept(folder):
    path = str(folder / "LaMP_4")
    whole, cut = (make(4, data=path, profile_size=size, growing=False) for size in (None, 2))
    for one, two in zip(asked_in(whole, 5), asked_in(cut, 5), strict=True):
        assert one[1].profile[-2:] == two[1].profile


def test_lanes_share_files(folder):
    vector = make_vec(4, 3, data=str(folder / "LaMP_4"), growing=False, horizon=5)
    seen, _ = vector.reset(seed=0)
    assert seen["pool"].shape[0] == 3
    for _ in range(5):
        vector.step(np.zeros(3, dtype=np.int64))
    assert len(vector._rounds._kept) <= 12


def test_the_test_part_cannot_be_played(folder):
    with pytest.raises(DataError, match=r"the test part has no outputs.*split='dev' or split='train'"):
        make(4, data=str(folder / "LaMP_4"), split="test")


def test_a_missing_folder_says_what_to_get(tmp_path):
    with pytest.raises(DataError, match=r"CC BY-NC-SA 4\.0"):
        make(3, data=str(tmp_path / "nowhere"))


def write_one(folder, items, output, input="Generate a headline for the following article: It rains."):
    folder.mkdir(exist_ok=True)
    (folder / "dev_questions.json").write_text(json.dumps([{"id": "1", "input": input, "profile": items}]))
    (folder / "dev_outputs.json").write_text(json.dumps({"task": "LaMP_4", "golds": [{"id": "1", "output": output}]}))
    return str(folder)


@both_modes
def test_an_empty_profile_gives_one_empty_item(tmp_path, mode):
    env = make(4, mode, data=write_one(tmp_path, [], "It Rains"), horizon=3)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["pool_mask"].sum() == 1
    if mode == "write":
        assert pool_texts_of(observation) == ("",)
        assert question_of(env.lamp_task, observation).profile == ()
        assert env.step("it rains")[1] == 1.0
    else:
        _, reward, _, _, info = env.step(0)
        assert (reward, info["regret"], info["oracle_reward"]) == (0.0, 0.0, 1.0)


def test_an_answer_without_a_word_has_an_oracle_of_zero(tmp_path):
    env = make(4, "write", data=write_one(tmp_path, [], "!!!"), horizon=3)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(env.optimal_action())
    assert (reward, info["oracle_reward"], info["regret"]) == (0.0, 0.0, 0.0)


def test_letters_outside_the_charset_cost_nothing(tmp_path):
    items = [{"id": "2", "text": "Ω 🙂 text\fwith all", "title": "naïve Ω"}]
    env = make(4, "write", data=write_one(tmp_path, items, "A naïve 🙂 Ω Day"), horizon=3)
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    assert len(pool_texts_of(observation)) == 1
    best = env.optimal_action()
    assert best == sanitise("A naïve 🙂 Ω Day", 8192)
    assert env.step(best)[1] == 1.0


def test_the_older_task_2_is_known_by_its_fields(tmp_path):
    (tmp_path / "dev_questions.json").write_text(
        json.dumps(
            [
                {
                    "id": "1",
                    "input": "Which category does this article relate to? article: The team won.",
                    "profile": [{"id": "2", "text": "A match.", "title": "Won", "category": "sports"}],
                }
            ]
        )
    )
    (tmp_path / "dev_outputs.json").write_text(
        json.dumps({"task": "LaMP_2", "golds": [{"id": "1", "output": "sports"}]})
    )
    env = make(2, data=str(tmp_path), horizon=2)
    env.reset(seed=0)
    assert task_of_spec(env.task) == env.lamp_task == OLD_TASK_2
    assert env.step(OLD_TASK_2.labels.index("sports"))[1] == 1.0


# -- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "error", "text"),
    [
        ({"number": 8}, ConfigError, "HareLaMP: number must be at most 7"),
        ({"profile_sise": 3}, UnknownNameError, "Did you mean 'profile_size'"),
        ({"profile_size": 0}, ConfigError, "profile_size must be at least 1"),
        ({"split": "devv"}, UnknownNameError, "Did you mean 'dev'"),
        ({"growing": 1}, ConfigError, "growing must be true or false"),
        ({"encoder": "tfidf"}, ConfigError, "fitted to texts"),
        ({"encoder": "minilmm"}, UnknownNameError, "Did you mean 'minilm'"),
        ({"num_users": 0}, ConfigError, "num_users must be at least 1"),
    ],
)
def test_bad_knobs_are_named(knobs, error, text):
    with pytest.raises(error, match=text):
        make(4, **knobs)


@pytest.mark.parametrize(
    ("mode", "action", "text"),
    [
        ("select", 16, "Item 16 is not in the pool of 16"),
        ("select", "0", "must be an integer"),
        ("write", 3, "must be a str, not int"),
        ("write", "a" * 8193, "may have 8,192 characters; this one has 8,193"),
    ],
)
def test_bad_actions_are_named_and_spend_nothing(mode, action, text):
    env, vector = make(4, mode), make_vec(4, 2, mode)
    env.reset(seed=0)
    vector.reset(seed=0)
    asked = env.question
    with pytest.raises(ActionError, match=text):
        env.step(action)
    assert env.question is asked
    with pytest.raises(ActionError):
        vector.step([action, action])
    assert vector._t == 0


def test_bad_lanes_are_named():
    with pytest.raises(ConfigError, match="num_envs must be a whole number"):
        make_vec(4, 0)
    with pytest.raises(ConfigError, match="seed must be one number or 2 of them, not 3"):
        make_vec(4, 2).reset(seed=[1, 2, 3])


# -- vectors ----------------------------------------------------------------------------------------------------


def test_lanes_of_one_world_share_users_and_no_question():
    vector = make_vec(4, 4, shared_world=True, num_users=3, horizon=20)
    vector.reset(seed=0)
    asked = []
    for _ in range(20):
        asked += [(int(user), now.question.id) for user, now in zip(vector._users, vector._now, strict=True)]
        vector.step(np.zeros(4, dtype=np.int64))
    assert len({id for _, id in asked}) == len(asked) == 80
    world = vector._rounds.sources[0].world
    assert all(any(now.question.profile is world.profile(user) for user in range(3)) for now in vector._now)


def test_after_the_last_round_the_next_session_begins():
    vector = make_vec(3, 2, horizon=3)
    vector.reset(seed=0)
    for t in range(1, 4):
        _, _, _, truncated, info = vector.step(np.zeros(2, dtype=np.int64))
        assert truncated.tolist() == [t == 3] * 2
        assert info["_regret"].all()
    _, reward, _, truncated, info = vector.step(np.zeros(2, dtype=np.int64))
    assert (reward.tolist(), truncated.tolist(), info) == ([0.0, 0.0], [False, False], {})
    assert vector._t == 0


def test_what_is_kept_is_bounded_and_changes_nothing(monkeypatch):
    free, tight = make(4, horizon=120), make(4, horizon=120)
    tight._rounds._most = 3
    free.reset(seed=0)
    tight.reset(seed=0)
    for k in range(120):
        one, two = free.step(k % 16), tight.step(k % 16)
        assert one[1:] == two[1:]
        assert np.array_equal(one[0]["pool"], two[0]["pool"])
        assert len(tight._rounds._kept) <= 3


# -- rendering and agents ---------------------------------------------------------------------------------------


@both_modes
def test_a_round_is_shown(mode):
    env = make(4, mode, render_mode="ansi")
    env.reset(seed=0)
    assert "nothing played yet" in env.render()
    question = env.question
    env.step(3 if mode == "select" else "Some Words")
    shown = env.render()
    assert question.output in shown
    assert query_of(env.lamp_task, question.input)[:40] in shown
    assert (question.profile[3].fields["title"] if mode == "select" else "Some Words") in shown


@pytest.mark.parametrize("number", [1, 3, 4])
def test_agents_play_it_unchanged(number):
    env = make(number, horizon=60)
    for name in ("linucb", "random"):
        agent = hare_gym.make_agent(name)
        observation, _ = env.reset(seed=0)
        agent.reset(env.task, np.random.default_rng(0))
        for _ in range(60):
            action = agent.act(observation)
            following, reward, *_ = env.step(action)
            agent.update(observation, action, reward)
            observation = following


def test_a_linear_agent_learns_how_people_rate():
    env = make(3, horizon=600)
    agent = hare_gym.make_agent("linucb", alpha=0.3)
    observation, _ = env.reset(seed=11)
    agent.reset(env.task, np.random.default_rng(0))
    rewards = []
    for _ in range(600):
        action = agent.act(observation)
        following, reward, *_ = env.step(action)
        agent.update(observation, action, reward)
        observation = following
        rewards.append(reward)
    assert np.mean(rewards[-200:]) > np.mean(rewards[:60]) + 0.05
