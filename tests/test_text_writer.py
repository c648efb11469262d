import numpy as np
import pytest

from hare_gym.errors import DataError
from hare_gym.text.corpus import Corpus, load_corpus
from hare_gym.text.measure import Measurer
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import Skill, parse, validate
from hare_gym.text.users import Users
from hare_gym.text.writer import Writer

CORPUS = load_corpus()
QUERIES = ["I need help writing tests", "I need help making a plan", "explain encryption to my parents"]


@pytest.fixture(scope="module")
def writer():
    return Writer(Measurer(pool=[skill.text for skill in CORPUS.skills]), RewardModel(), CORPUS)


@pytest.fixture(scope="module")
def written(writer):
    users = Users.draw(np.random.default_rng(0), 10)
    found = []
    for k in range(10):
        text = QUERIES[k % 3]
        query = writer.measurer.query(text)
        found.append((users[k], query, text, *writer.best(users[k], query, text)))
    return found


def test_what_it_writes_is_valid_and_no_copy(written):
    pool = {skill.body for skill in CORPUS.skills}
    for *_, text, _ in written:
        assert validate(text) == []
        skill = parse(text)
        assert skill.body not in pool
        assert skill.triggers and skill.examples and len(skill.instructions.split("\n")) >= 3


def test_it_earns_more_than_any_item_and_no_more_than_the_bound(writer, written):
    earned = []
    for user, query, asked, text, mu in written:
        assert mu == pytest.approx(writer.model.mean(user, query, writer.measurer.text(text), asked))
        best = max(writer.model.mean(user, query, item) for item in writer.items)
        assert best < mu <= float(writer.model.optimum(user, query)[0])
        earned.append(mu)
    assert np.mean(earned) > 0.88


def test_different_users_get_different_texts(written):
    assert len({text for *_, text, _ in written}) == 10


def test_lines_from_anywhere_earn_at_least_about_as_much(writer, written):
    free = Writer(writer.measurer, writer.model, CORPUS, anywhere=True)
    gains = [free.best(user, query, asked)[1] - mu for user, query, asked, _, mu in written[:4]]
    assert np.mean(gains) > -0.01


def test_it_is_deterministic(writer, written):
    user, query, asked, text, _ = written[0]
    assert writer.write(user, query, asked) == text


def test_a_corpus_without_lines_is_refused(writer):
    corpus = Corpus("empty", (Skill("a", "Does a. Use when b.", "Just one line."),))
    with pytest.raises(DataError, match="no skill with three lines of instructions"):
        Writer(writer.measurer, writer.model, corpus)
