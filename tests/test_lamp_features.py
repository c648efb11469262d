"""What a reader sees of texts, and the vectors of answers: bounds, meaning, and no more than any reader may know."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.errors import ConfigError, ContractError, UnknownNameError
from hare_gym.lamp.features import Features
from hare_gym.lamp.reading import (
    STYLE,
    HashedEncoder,
    Reader,
    as_seen,
    parse_item,
    pool_text_of_profile,
    question_of,
    render_item,
    task_of_spec,
)
from hare_gym.lamp.synthetic import World
from hare_gym.lamp.tasks import OLD_TASK_2, TASKS, ProfileItem, Question

every_task = pytest.mark.parametrize("task", [*TASKS.values(), OLD_TASK_2], ids=lambda task: task.name)


def question_for(task):
    if task == OLD_TASK_2:
        items = [
            ProfileItem(str(k), {"text": text, "title": "t", "category": category})
            for k, (text, category) in enumerate(
                [("The team won the game.", "sports"), ("A recipe.", "food & drink")]
            )
        ]
        return Question("1", "Which category? article: The team lost the game.", tuple(items), "1", "sports")
    return World(task.number, 2, 8, 4).question(1, 2)


def answers_for(task, question):
    return task.labels or (*(item.fields[task.answered] for item in question.profile), "Why It Rains!", "")


def column(features, question, answers, name):
    return features(question, answers)[:, features.names.index(name)]


@every_task
def test_vectors_lie_in_the_unit_ball_and_are_small(task):
    features, question = Features(task), question_for(task)
    y = features(question, answers_for(task, question))
    assert y.shape == (len(answers_for(task, question)), features.dim)
    assert y.dtype == np.float64
    assert features.dim == len(features.names) <= 32
    assert features.query_dim <= 16
    assert np.isfinite(y).all()
    assert (np.linalg.norm(y, axis=1) <= 1.0 + 1e-12).all()
    assert len({row.tobytes() for row in y}) > 1
    assert np.linalg.norm(features.query(question)) == pytest.approx(1.0)
    assert features.profile(question).shape == (len(question.profile), features.query_dim)
    assert (np.abs(features.similarities(question)) <= 1.0 + 1e-12).all()


@every_task
def test_the_gold_answer_changes_nothing(task):
    question = question_for(task)
    answers = answers_for(task, question)
    other = replace(question, output="something else", id="9", user="9")
    assert np.array_equal(Features(task)(question, answers), Features(task)(other, answers))


@every_task
def test_an_answers_vector_does_not_depend_on_the_others(task):
    features, question = Features(task), question_for(task)
    answers = answers_for(task, question)
    whole = features(question, answers)
    for k in (0, len(answers) - 1):
        assert np.array_equal(features(question, [answers[k]])[0], whole[k])
    assert features(question, []).shape == (0, features.dim)


@every_task
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_text_can_be_read(task, data):
    texts = st.text(max_size=60)
    items = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(task.fields, texts)), max_size=3))
    profile = tuple(ProfileItem(str(k), fields) for k, fields in enumerate(items))
    question = Question("1", data.draw(texts), profile, "u")
    y = Features(task)(question, [data.draw(texts), data.draw(texts), *task.labels])
    assert np.isfinite(y).all()
    assert (np.linalg.norm(y, axis=1) <= 1.0 + 1e-12).all()


def test_a_label_outside_the_set_gives_zeros():
    features = Features(TASKS[2])
    y = features(question_for(TASKS[2]), ["no such tag", " comedy "])
    assert not y[0].any()
    assert y[1].any()


def test_ratings_are_measured_against_profile_and_words():
    task = TASKS[3]
    items = tuple(ProfileItem(str(k), {"text": "It is good.", "score": "5"}) for k in range(3))
    question = Question("1", "What is the score? review: It is terrible and awful.", items, "u")
    features = Features(task)
    assert column(features, question, task.labels, "distance from the mean").argmin() == 4
    assert column(features, question, task.labels, "distance from the words").argmin() == 1
    assert (np.diff(column(features, question, task.labels, "above the vote")) > 0).all()
    # this user's fives are not the words' doing, so that of an unkind review is lower
    own = column(features, question, task.labels, "distance from the own reading").argmin()
    assert 1 <= own < 4


def test_tags_are_counted_and_hinted_at():
    task = TASKS[2]
    items = (
        ProfileItem("1", {"tag": "comedy", "description": "A wedding goes wrong."}),
        ProfileItem("2", {"tag": "comedy", "description": "Two friends and their jokes."}),
        ProfileItem("3", {"tag": "sci-fi", "description": "A robot lands on a planet."}),
    )
    question = Question("1", "Which tag? tags: [...] description: A robot and an alien in a spaceship.", items, "u")
    features = Features(task)
    for name, label in [
        ("share of the profile", "comedy"),
        ("share of late items", "comedy"),
        ("share of like items", "sci-fi"),
        ("most like item", "sci-fi"),
        ("hints", "sci-fi"),
    ]:
        assert task.labels[column(features, question, task.labels, name).argmax()] == label, name


def test_references_are_compared():
    task = TASKS[1]
    items = (ProfileItem("1", {"title": "Graph colouring", "abstract": "We study planar graphs."}),)
    question = Question(
        "1",
        'For an author who has written the paper with the title "Walks on Graphs", which reference is related? '
        'Just answer with [1] or [2] without explanation. [1]: "Speech and Noise" [2]: "Planar Graphs and Walks"',
        items,
        "u",
    )
    y = Features(task)(question, task.labels)
    assert np.array_equal(y[0, 2:], -y[1, 2:])
    for name in ("likeness to the title", "mean likeness to the profile", "share of its words in the profile"):
        assert column(Features(task), question, task.labels, name)[1] > 0.0, name


def test_headlines_are_measured_by_style_and_source():
    task = TASKS[4]
    items = tuple(
        ProfileItem(str(k), {"text": f"The dog sees {thing}. It rains.", "title": f"Why the dog sees {thing}"})
        for k, thing in enumerate(["a cat", "the moon", "two birds"])
    )
    source = "The mayor opens a park. Nobody came. Rain fell on the flowers."
    question = Question("1", f"Generate a headline for the following article: {source}", items, "u")
    answers = ["Why the mayor opens a park", "Flowers and rain!", "Why the dog sees a cat", "Zebras"]
    features = Features(task)

    def of(name):
        return column(features, question, answers, name)

    assert of("usual first word").tolist() == pytest.approx(
        [of("usual first word").max(), 0, of("usual first word").max(), 0]
    )
    assert of("from the first sentence").argmax() == 0
    assert of("from the last sentence").argmax() == 1
    assert of("exclamation")[1] > 0.0 == of("exclamation")[0]
    assert of("asks")[0] > 0.0
    assert of("new words").argmax() == 3
    assert of("first sentence, unlike the profile").argmin() == 0
    assert of("likeness in style").argmax() in (0, 2)
    assert of("likeness of the borrowed item")[[0, 1, 3]].tolist() == [0.0, 0.0, 0.0]


def test_what_an_answer_has_of_its_source_is_counted():
    items = tuple(ProfileItem(title, {"text": "It rains.", "title": title}) for title in ("Sleeps well", "Sleeps"))
    source = "The mayor opens a park. Rain fell."
    question = Question("1", f"Generate a headline for the following article: {source}", items, "u")
    features, answers = Features(TASKS[4]), ["the mayor the mayor sleeps", "Sleeps", "of zebras", ""]
    names = (
        ("precision", 1 / 2, 0, 0, 0),  # of its two content words
        ("coverage", 3 / 5, 0, 0, 0),  # three times one of the source's five
        ("from the first sentence", 1, 0, 0, 0),
        ("from the last sentence", 0, 0, 0, 0),
        ("place", 1 / 6, 1 / 2, 1 / 2, 1 / 2),
        ("word pairs of the source", 2 / 4, 0, 0, 0),
        ("words of the profile's answers", 2 / (2 * 5), 2 / 2, 0, 0),
        ("new words", 0, 0, 1, 1),
    )
    vectors = features(question, answers)
    assert (np.linalg.norm(vectors, axis=1) < 0.999).all()  # none was drawn back to the sphere
    unit = column(features, question, answers, "from the first sentence")[0]
    for name, *expected in names:
        assert column(features, question, answers, name) / unit == pytest.approx(expected, abs=1e-12), name


def test_an_encoder_by_name_serves_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("HARE_CACHE", str(tmp_path))
    features, question = Features(TASKS[4], "minilm"), question_for(TASKS[4])
    y = features(question, ["A Bridge", "Why a Bridge"])
    assert y.shape == (2, features.dim)
    assert features.name.startswith("all-MiniLM-L6-v2@")
    assert (tmp_path / "vectors.sqlite").exists()
    assert np.linalg.norm(features.query(question)) == pytest.approx(1.0)


def test_what_cannot_encode_is_named():
    with pytest.raises(ConfigError, match=r"'tfidf' is fitted to texts.*use 'hashed'"):
        Features(TASKS[4], "tfidf")
    with pytest.raises(UnknownNameError, match="Did you mean 'minilm'"):
        Features(TASKS[4], "minilmm")


def test_hashed_vectors_are_whole_signs_and_the_same_in_every_process():
    encoder = HashedEncoder()
    one, two = encoder.of_words(["bridge"]), encoder.of_words(["bridge", "town"])
    assert set(np.abs(one)) == {1.0}
    assert set(np.abs(two)) == {0.0, 2.0}
    assert abs(float(one @ encoder.of_words(["town"]))) < 100
    code = (
        "from hare_gym.lamp.reading import HashedEncoder;"
        "print(HashedEncoder().of_words(['bridge', 'town']).astype(int).tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "7"})
    assert out.stdout.strip() == str(two.astype(int).tolist()), out.stderr
    vectors = encoder.encode(["The bridge of the town", "the of"])
    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0)
    assert not vectors[1].any()
    assert encoder.encode([]).shape == (0, 256)


def test_the_style_of_a_text():
    style = dict(zip(STYLE, Reader()("Why “My” 3 dogs bark: again?!").style, strict=True))
    for name in ("question mark", "colon", "digit", "quote", "first person", "exclamation", "asks"):
        assert style[name] == 1.0, name
    assert style["length"] == 6 / 24
    assert style["lower case"] == 0.0
    assert Reader()("all quiet").style[STYLE.index("lower case")] == 1.0


@every_task
def test_a_question_survives_the_way_through_an_observation(task):
    question = as_seen(task, question_for(task), 8192)
    observation = {
        "query_text": question.input,
        "user": 1,
        "pool_mask": np.ones(len(question.profile), dtype=np.int8),
        "pool_text": pool_text_of_profile(task, question.profile, 8192),
    }
    again = question_of(task, observation)
    assert again.input == question.input
    assert again.profile == question.profile
    assert again.output is None
    assert question_of(task, observation).profile is again.profile
    answers = answers_for(task, question)
    assert np.array_equal(Features(task)(again, answers), Features(task)(question, answers))


@settings(max_examples=60, deadline=None)
@given(title=st.text(max_size=40), text=st.text(max_size=80), date=st.sampled_from([None, "2015", "2015-03-01"]))
def test_an_item_is_read_back_as_it_was_shown(title, text, date):
    task = TASKS[4]
    item = ProfileItem("0", {"title": title, "text": text}, date)
    shown = render_item(task, item)
    again = parse_item(task, shown, "0")
    assert again.date == date
    assert again.fields == {"title": " ".join(title.split()), "text": " ".join(text.split())}
    assert render_item(task, again) == shown


def test_a_long_text_is_cut_and_its_answer_is_not():
    task = TASKS[4]
    item = ProfileItem("0", {"title": "Short", "text": "word " * 100})
    seen = as_seen(task, Question("1", "article: x", (item,), "u"), 50)
    assert seen.profile[0].fields["title"] == "Short"
    assert len(render_item(task, seen.profile[0])) <= 50


def test_an_observation_without_texts_is_refused():
    with pytest.raises(ContractError, match=r"no pool_text: look at spec.has_pool_text"):
        question_of(TASKS[4], {"query_text": "x", "user": 0})


def test_another_environment_is_no_lamp_task():
    import gymnasium as gym

    env = gym.make("HareLaMP3-v0", disable_env_checker=True).unwrapped
    assert task_of_spec(env.task) == TASKS[3]
    with pytest.raises(ConfigError, match="is no LaMP task: this needs HareLaMP1-v0"):
        task_of_spec(replace(env.task, id="Other-v0", reward_version="1"))
