import numpy as np
import pytest

from hare_gym import portable
from hare_gym.errors import ConfigError, UnknownNameError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measurer
from hare_gym.text.reward import PARTS, RewardModel
from hare_gym.text.users import Users

CORPUS = load_corpus()


@pytest.fixture(scope="module")
def world():
    measurer = Measurer(pool=[skill.text for skill in CORPUS.skills])
    texts = ["I need help writing tests", "help me find what caused this problem", "explain recursion to a beginner"]
    queries = np.array([measurer.query(text) for text in texts])
    return measurer, measurer.items(CORPUS), Users.draw(np.random.default_rng(1), 12), texts, queries


def test_the_tables_are_the_reward(world):
    _, items, users, _, queries = world
    model = RewardModel()
    by_user, by_query = model.user_table(users, items), model.query_table(queries, items)
    assert by_user.shape == (12, 192) and by_query.shape == (3, 192) and by_user.dtype == np.float64
    for k, q, n in ((0, 0, 0), (3, 1, 100), (11, 2, 191)):
        mu = portable.exp(max(by_user[k, n] + by_query[q, n], -60.0))
        assert mu == pytest.approx(model.mean(users[k], queries[q], items[n]), rel=1e-9)


def test_parts_are_named_within_range_and_combine_to_the_mean(world):
    measurer, _, users, texts, queries = world
    model = RewardModel()
    measured = measurer.text(CORPUS.skills[20].text)
    parts = model.parts(users[2], queries[0], measured, texts[0])
    assert tuple(parts) == PARTS
    assert all(0.0 <= value <= 1.0 for value in parts.values())
    exponents = [getattr(model.config, name) for name in PARTS[2:]]
    product = np.prod([parts[name] ** w for name, w in zip(PARTS[2:], exponents, strict=True)])
    expected = parts["validity"] * parts["guard"] * product
    assert model.mean(users[2], queries[0], measured, texts[0]) == pytest.approx(expected)


def test_content_is_judged_by_the_same_rules_as_text(world):
    _, items, users, _, queries = world
    model = RewardModel()
    item = next(item for item in items if item.guard == 1.0)
    one = model.mean_of_content(users[4], queries[1], item.phi)
    assert float(one) == pytest.approx(model.mean(users[4], queries[1], item))
    phi = np.stack([item.phi for item in items[:12]])
    many = model.mean_of_content(users, np.repeat(queries[:1], 12, axis=0), phi)
    singly = [float(model.mean_of_content(users[k], queries[0], phi[k])) for k in range(12)]
    np.testing.assert_array_equal(many, singly)


def test_the_optimum_is_reached_inside_the_ball_and_nothing_beats_it(world):
    _, _, users, _, queries = world
    model = RewardModel()
    rng = np.random.default_rng(0)
    for k in range(12):
        for query in queries:
            value, phi = model.optimum(users[k], query)
            assert np.linalg.norm(phi) < 0.85
            assert float(value) == pytest.approx(1.0)
            near = phi + 0.1 * rng.standard_normal((200, len(phi)))
            assert model.mean_of_content(users[k], query, near).max() <= float(value) + 1e-12
    several, phi = model.optimum(users, np.repeat(queries[:1], 12, axis=0))
    assert several.shape == (12,) and phi.shape == (12, 17)


def test_no_part_can_be_bought_with_another():
    model = RewardModel()
    best = dict.fromkeys(PARTS, 1.0)
    for name in ("relevance", "domain"):
        assert model.combine(best | {name: 0.1}) < 0.6
    assert model.combine(best | {"validity": 0.0}) == 0.0
    assert model.combine(best | {"guard": 0.0}) == 0.0


def test_random_items_earn_little_and_the_best_one_leaves_room(world):
    _, items, _, _, queries = world
    model = RewardModel()
    users = Users.draw(np.random.default_rng(2), 60)
    mu = np.exp(model.user_table(users, items)[:, None] + model.query_table(queries, items)[None])
    assert 0.2 < mu.mean() < 0.35
    assert 0.6 < mu.max(axis=-1).mean() < 0.78
    assert mu.mean(axis=(0, 1)).max() < 0.45  # one item for everybody


def test_bad_knobs_are_named():
    with pytest.raises(ConfigError, match=r"must sum to one, not 1\.2"):
        RewardModel(style=0.35)
    with pytest.raises(UnknownNameError, match="Did you mean 'domain'"):
        RewardModel(domains=0.3)
