"""Synthetic LaMP questions: the files' format, habits that profiles show, and files read back."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hare_gym.errors import ConfigError, UnknownNameError
from hare_gym.lamp import material
from hare_gym.lamp.data import load
from hare_gym.lamp.reading import answered_item
from hare_gym.lamp.synthetic import Draws, World, write_files
from hare_gym.lamp.tasks import TASKS, query_of, references_of

every_task = pytest.mark.parametrize("number", TASKS)


@every_task
def test_questions_are_in_the_published_format(number):
    world, task = World(number, 3, 6, 5), TASKS[number]
    for user in range(3):
        question = world.question(user, 4)
        assert len(question.profile) == 6
        for item in question.profile:
            assert set(item.fields) == set(task.fields)
            assert all(item.fields.values())
            assert item.date is None
        assert query_of(task, question.input) != question.input
        if number == 1:
            assert references_of(question.input) is not None
        if task.labels:
            assert question.output in task.labels
        assert question.output.strip()


@every_task
def test_a_world_follows_from_its_seed_and_not_from_what_is_asked_first(number):
    one, two, other = World(number, 4, 5, 5), World(number, 4, 5, 5), World(number, 4, 5, 6)
    first = one.question(2, 3)
    for user in range(4):
        two.question(user, 0)
    assert two.question(2, 3) == first
    assert two.profile(2) == first.profile
    assert other.question(2, 3) != first


@every_task
def test_ids_are_unique_in_a_world(number):
    world = World(number, 4, 5, 0)
    ids = [item.id for user in range(4) for item in world.profile(user)]
    ids += [world.question(user, k).id for user in range(4) for k in range(6)]
    assert len(set(ids)) == len(ids)


@every_task
@pytest.mark.parametrize("split", ["user", "time"])
def test_the_five_files_are_read_back(number, split, tmp_path):
    write_files(tmp_path, number, train=6, dev=5, test=4, profile_size=4, num_users=3, split=split, seed=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dev_outputs.json",
        "dev_questions.json",
        "test_questions.json",
        "train_outputs.json",
        "train_questions.json",
    ]
    world = World(number, 3 if split == "time" else 15, 4, 2, dated=split == "time")
    dev = load(tmp_path, number, "dev")
    assert dev.task == TASKS[number]
    assert dev.timed == (split == "time")
    assert len(dev) == 5
    read = dev.questions[1]
    made = world.question(7 % 3, 7 // 3) if split == "time" else world.question(7, 0)
    assert (read.input, read.output, read.profile) == (made.input, made.output, made.profile)
    assert len(dev.users) == (3 if split == "time" else 5)
    assert load(tmp_path, number, "test").golds == {}
    dates = [item.date for item in read.profile]
    assert dates == (sorted(dates) if split == "time" else [None] * 4)


def test_bad_knobs_of_the_files_are_named(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'profile_size'"):
        write_files(tmp_path, 3, profile_sise=4)
    with pytest.raises(ConfigError, match="write_files: dev must be at least 1"):
        write_files(tmp_path, 3, dev=0)
    with pytest.raises(UnknownNameError, match="LaMP task '8'"):
        write_files(tmp_path, 8)


def agreement(number, of, size=60):
    """How often an item of a user agrees with another of the same user, and with one of another user."""
    world = World(number, 12, size, 1)
    values = [[of(item.fields) for item in world.profile(user)] for user in range(12)]
    own = np.mean([a == b for one in values for a, b in pairwise(one)])
    others = np.mean([a == b for one, two in pairwise(values) for a, b in zip(one, two)])
    return own, others


@pytest.mark.parametrize(
    ("number", "of"),
    [
        (2, lambda fields: fields["tag"]),
        (3, lambda fields: fields["score"]),
        (4, lambda fields: fields["title"].split()[0].lower() in ("why", "here", "breaking:", "what")),
        (6, lambda fields: fields["title"].split()[0].lower()),
        (7, lambda fields: fields["text"].split()[0].lower()),
    ],
)
def test_a_profile_tells_its_user_from_others(number, of):
    own, others = agreement(number, of)
    assert own > others + 0.08


def test_authors_write_on_their_own_topics():
    topic_of = {phrase.title(): topic for topic, phrases in material.FIELDS.items() for phrase in phrases}

    def topic(fields):
        found = [topic_of[phrase] for phrase in topic_of if phrase in fields["title"]]
        return found[0]

    own, others = agreement(1, topic)
    assert own > 2 * others


def test_headlines_come_from_the_sentence_that_their_author_prefers():
    world = World(4, 12, 80, 3)
    for user in range(12):
        chances = np.diff([0.0, *world.habits(user)["source"]])
        ends = Counter()
        for item in world.profile(user):
            sentences = item.fields["text"].lower().split(". ")
            words = set(item.fields["title"].lower().replace(":", "").split())
            shared = [len(words & set(sentences[k].replace(".", "").split())) for k in (0, 2, 4)]
            ends[int(np.argmax(shared))] += 1
        if chances.max() > 0.8:
            assert ends.most_common(1)[0][0] == int(np.argmax(chances))


def test_nobody_is_without_noise():
    world = World(6, 1, 400, 0)
    frames = Counter(item.fields["title"].split()[0].lower() for item in world.profile(0))
    assert len(frames) > 4


def test_draws_are_fair():
    draw = Draws([1, 2])
    normals = np.array([draw.normal() for _ in range(4000)])
    assert abs(normals.mean()) < 0.06
    assert abs(normals.std() - 1.0) < 0.05
    counts = Counter(draw.of("abc") for _ in range(3000))
    assert min(counts.values()) > 900
    assert sorted(draw.some(range(5), 9)) == [0, 1, 2, 3, 4]
    shares = draw.shares(7, 3.0)
    assert list(shares) == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    picked = Counter(draw.by((0.2, 1.0)) for _ in range(3000))
    assert picked[0] / 3000 == pytest.approx(0.2, abs=0.04)


def test_an_answered_question_becomes_an_item():
    for number, task in TASKS.items():
        question = World(number, 1, 2, 0).question(0, 0)
        item = answered_item(task, question)
        assert set(item.fields) == set(task.fields)
        if number == 1:
            assert item.fields["title"] == references_of(question.input)[question.output == "[2]"]
        else:
            assert item.fields[task.answered] == question.output
        if number in (2, 3, 4, 5, 6):
            assert item.fields[task.asked] == query_of(task, question.input)
