"""`hare demo killer`: what it shows, that it repeats itself, and what it refuses."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize
from typer.testing import CliRunner

from hare_evaluation import demo, killer
from hare_evaluation.metrics.probe import unit_embeddings
from hare_gym.errors import ConfigError
from hare_gym.text.encoders import load_encoder


@pytest.fixture(scope="module")
def shown():
    return killer.demonstration(demo.QUERY, users=3, population=4, rounds=4)


@pytest.fixture(scope="module")
def made(shown):
    return killer.mapped(shown)


def test_every_user_has_a_text_and_rag_has_one_for_all(shown):
    assert len(shown.hare) == len(shown.rag) == len(shown.users) == 3
    assert len({answer.text for answer in shown.rag}) == 1
    assert len({answer.text for answer in shown.hare}) > 1
    assert shown.population == 4 and 0 < sum(shown.visits) < 16
    rewards = np.array([answer.reward for answer in (*shown.hare, *shown.rag)])
    assert ((rewards >= 0.0) & (rewards <= 1.0)).all() and np.ptp(rewards) > 0.0


def test_it_repeats_itself(shown):
    again = killer.demonstration(demo.QUERY, users=3, population=4, rounds=4)
    assert again.hare == shown.hare and again.rag == shown.rag and again.again == shown.again
    assert again.clouds == shown.clouds and again.visits == shown.visits


def test_the_page_has_every_skill_and_the_command(shown, made):
    page = killer.markdown(shown, made, "hare demo killer --users 3")
    assert "`hare demo killer --users 3`" in page
    assert page.count("\n## HARE for user") == 3 and page.count("\n## RAG for everybody") == 1
    for answer in shown.hare:
        assert answer.text.rstrip("\n") in page


def test_the_map_is_that_of_principal_components(shown, made):
    """Against scikit-learn's PCA of the same embeddings, up to the signs."""
    texts = list(made.places)
    assert {answer.text for answer in (*shown.hare, *shown.rag)} <= set(texts)
    units = unit_embeddings(texts, load_encoder("minilm"))
    E = normalize(np.stack([units[text].mean(axis=0) for text in texts]))
    pca = PCA(2, svd_solver="full").fit(E)
    assert np.abs(np.stack(list(made.places.values()))) == pytest.approx(np.abs(pca.transform(E)), abs=1e-9)
    assert made.shares == pytest.approx(pca.explained_variance_ratio_)


def test_distances_are_of_the_answers(shown, made):
    assert made.rag_between == 0.0 < made.between
    units = unit_embeddings([*(answer.text for answer in shown.hare), *shown.again], load_encoder("minilm"))
    own, again = (
        normalize(np.stack([units[text].mean(axis=0) for text in texts]))
        for texts in ([answer.text for answer in shown.hare], shown.again)
    )
    assert made.between == pytest.approx(1.0 - np.mean([own[0] @ own[1], own[0] @ own[2], own[1] @ own[2]]))
    assert made.again == pytest.approx(1.0 - np.mean(np.sum(own * again, axis=1)))


def test_the_figure_has_every_user_twice_and_rag(shown, made):
    left, right = killer.drawn(shown, made).axes
    assert len(left.lines) == 2 * (3 + 1) and [text.get_text() for text in left.texts] == ["1", "2", "3", "RAG"]
    rewards = {float(line.get_xdata()[0]) for line in right.lines if len(line.get_xdata()) == 1}
    assert rewards == {answer.reward for answer in (*shown.hare, *shown.rag)}


def test_the_command_writes_its_files(shown, tmp_path, monkeypatch):
    monkeypatch.setattr(killer, "demonstration", lambda *arguments: shown)
    result = CliRunner().invoke(demo.app, ["killer", "--users", "3", "--out", str(tmp_path / "made")])
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"killer.md", "killer.png", "killer.svg"}
    assert "`hare demo killer --users 3`" in (tmp_path / "made/killer.md").read_text(encoding="utf-8")
    assert result.output.count("the same text") == 2


def test_more_users_than_there_are_cannot_be_shown():
    with pytest.raises(ConfigError, match="5 users cannot be shown of 4: raise --population"):
        killer.demonstration(demo.QUERY, users=5, population=4)


@pytest.mark.parametrize("query", ["", "  \n", "x" * 501])
def test_a_query_is_a_sentence(query):
    with pytest.raises(ConfigError, match="must have 1 to 500 characters"):
        killer.demonstration(query)
