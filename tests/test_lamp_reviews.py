"""A file of reviews in the layout of Amazon Reviews 2023, as questions of task 3 in the order of time."""

import json

import gymnasium as gym
import numpy as np
import pytest

from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.lamp.data import load
from hare_gym.lamp.reviews import INPUT, load_reviews
from hare_gym.lamp.tasks import TASKS, ProfileItem, Question, query_of
from hare_gym.registry import make_agent

DAY = 86_400_000


def review(user, day, rating, text, **more):
    """A line as the published files have it."""
    return {
        "rating": rating,
        "title": "",
        "text": text,
        "images": [],
        "asin": "B000",
        "parent_asin": "B000",
        "user_id": user,
        "timestamp": day * DAY,
        "helpful_vote": 0,
        "verified_purchase": True,
        **more,
    }


REVIEWS = [
    review("ann", 20, 5.0, "Later, and gut für mich.", title="Fine"),
    review("bob", 1, 1.0, "Broke."),
    review("ann", 10, 4.0, "First."),
    review("ann", 30, 2.0, "Last."),
    review("bob", 25, 3.0, "Meh."),
    review("cat", 5, 3.0, "Alone."),
    review("bob", 26, 5.0, "  "),
]


def save(path, reviews):
    lines = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in reviews]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / "reviews.jsonl", REVIEWS)


def test_reviews_are_asked_in_the_order_of_time_with_what_came_before(path):
    opened = load_reviews(path)
    first = ProfileItem("3", {"text": "First.", "score": "4"}, "1970-01-11")
    later = ProfileItem("1", {"text": "Fine\nLater, and gut für mich.", "score": "5"}, "1970-01-21")
    broke = ProfileItem("2", {"text": "Broke.", "score": "1"}, "1970-01-02")
    assert list(opened.questions) == [
        Question("1", INPUT + "Fine\nLater, and gut für mich.", (first,), "ann", "5"),
        Question("5", INPUT + "Meh.", (broke,), "bob", "3"),
        Question("4", INPUT + "Last.", (first, later), "ann", "2"),
    ]
    assert (opened.task, opened.timed, opened.users) == (TASKS[3], False, ("ann", "bob"))
    assert opened.asked == {"ann": (0, 2), "bob": (1,)}
    assert opened.golds == {"1": "5", "5": "3", "4": "2"}
    assert query_of(opened.task, opened.questions[1].input) == "Meh."
    assert [q.id for q in opened.questions[-2:]] == ["5", "4"]


def test_the_door_of_the_published_files_opens_reviews_too(path, tmp_path):
    opened = load(path, 3)
    assert (opened.split, opened.ids) == ("reviews", ("1", "5", "4"))
    assert load(path, 3, "train") is opened
    save(path, [*REVIEWS, review("cat", 99, 1.0, "Late.")])
    assert load(path, 3).ids == ("1", "5", "4", "8")
    with pytest.raises(DataError, match="is a file, which is read as reviews, and those are task 3; LaMP_4 takes a"):
        load(path, 4)
    with pytest.raises(ConfigError, match="limit is for published files; load_reviews has max_users"):
        load(path, 3, limit=2)
    with pytest.raises(DataError, match=r"There is no file .*none\.jsonl"):
        load(tmp_path / "none.jsonl", 3)


def test_knobs(path):
    assert load_reviews(path, min_profile=0).ids == ("2", "6", "3", "1", "5", "4")
    assert load_reviews(path, min_profile=2).ids == ("4",)
    assert [i.id for i in load_reviews(path, max_profile=1).questions[2].profile] == ["1"]
    assert load_reviews(path, max_users=1).users == ("ann",)
    with pytest.raises(UnknownNameError, match=r"Unknown knob of load_reviews 'min_profil'\. Did you mean"):
        load_reviews(path, min_profil=2)
    with pytest.raises(ConfigError, match="load_reviews: max_profile must be at least 1, not 0"):
        load_reviews(path, max_profile=0)


def test_at_one_time_the_order_of_the_file_counts(tmp_path):
    path = save(tmp_path / "r.jsonl", [review("ann", 1, 5.0, "One."), review("ann", 1, 1.0, "Two.")])
    only = load_reviews(path).questions[0]
    assert (only.id, only.output, only.profile[0].fields["text"]) == ("2", "1", "One.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (review("ann", 1, 5.5, "x"), "review 2: the rating 5.5 must be 1, 2, 3, 4 or 5"),
        (review("ann", 1, "great", "x"), 'review 2: the rating "great" must be'),
        (review("ann", 1, None, "x"), "review 2: the rating null must be"),
        (review("ann", 1, 5.0, None), "review 2: its title and text must be strings"),
        (review("ann", -1, 5.0, "x"), "review 2: the timestamp -86400000 must be milliseconds since 1970"),
        (review("ann", 1, 5.0, "x", timestamp="2020"), 'the timestamp "2020" must be milliseconds'),
        ({"rating": 5.0, "text": "x", "user_id": "ann"}, "review 2 has no 'timestamp'; it needs rating, user_id"),
        ("[1]", "review 2 has no 'rating'"),
        ('{"rating": 5.0, "text": "' + "x" * 40 + '" "user_id": 3}', "is no proper JSON: at byte"),
        ('{"rating": 5.0, "text": "x', "breaks off in the middle"),
    ],
)
def test_what_is_wrong_with_a_line(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        load_reviews(save(tmp_path / "r.jsonl", [REVIEWS[0], line]))


def test_what_is_wrong_with_a_file(tmp_path, path):
    with pytest.raises(DataError, match=r"There is no file .*none\.jsonl.*https://amazon-reviews-2023\.github\.io"):
        load_reviews(tmp_path / "none.jsonl")
    packed = save(tmp_path / "r.jsonl.gz", ["x"])
    with pytest.raises(DataError, match=r"is packed, .* Unpack it: gunzip -k"):
        load_reviews(packed)
    with pytest.raises(DataError, match=r"has no user with 10 reviews, .* or a smaller min_profile"):
        load_reviews(path, min_profile=9)


def test_a_file_that_changes_under_the_reader(path):
    opened = load_reviews(path)
    path.write_text("x" * 5000)
    with pytest.raises(DataError, match="has changed since it was opened"):
        opened.questions[0]


@pytest.mark.parametrize("mode", ["select", "write"])
def test_reviews_are_played_by_their_path(tmp_path, mode):
    words = ("awful", "poor", "fair", "good", "great")
    written = [review(f"u{k % 3}", k, 1.0 + k % 5, f"This is {words[k % 5]}, day {k}.") for k in range(40)]
    path = save(tmp_path / "reviews.jsonl", written)
    env = gym.make("hare_gym:HareLaMP3-v0", data=str(path), action_mode=mode, horizon=30)
    observation, _ = env.reset(seed=0)
    task = env.unwrapped.task
    assert task.num_users == 3 and not env.unwrapped.config.growing
    agent = make_agent("linucb") if mode == "select" else make_agent("answerer", agent="linucb")
    agent.reset(task, np.random.default_rng(0))
    truncated = False
    while not truncated:
        question = env.unwrapped.question
        day = int(question.input.split()[-1].rstrip("."))
        earlier = [int(item.fields["text"].split()[-1].rstrip(".")) for item in question.profile]
        assert earlier == list(range(day % 3, day, 3))  # what the same user had written before, and nothing later
        action = agent.act(observation)
        after, reward, _, truncated, info = env.step(action)
        assert 0.0 <= reward <= 1.0 and info["oracle_reward"] == 1.0
        agent.update(observation, action, reward)
        observation = after


def test_reviews_are_task_3_alone(path):
    with pytest.raises(DataError, match=r"is a file, which is read as reviews, and those are task 3; LaMP_4 takes"):
        gym.make("hare_gym:HareLaMP4-v0", data=str(path))
