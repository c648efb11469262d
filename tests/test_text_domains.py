"""What every domain of the text engine must pass. To register one is to have it tested here."""

import gymnasium as gym
import numpy as np
import pytest
from _timing import quickly
from gymnasium.envs.registration import load_env_creator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hare_gym
from hare_gym.contract import sanitise
from hare_gym.text.domain import TEXT_LENGTH, Content, taken
from hare_gym.text.engine import TextEnvironment


def shipped():
    for id in hare_gym.environment_ids():
        if gym.registry[id].entry_point.startswith("hare_gym."):
            cls = load_env_creator(gym.registry[id].entry_point)
            if issubclass(cls, TextEnvironment) and cls.domain_class.composes:
                yield id


IDS = list(shipped())
ROUNDS = 150


@pytest.fixture(scope="module", params=IDS)
def domain(request):
    return gym.make(request.param, disable_env_checker=True).unwrapped.domain


@pytest.fixture(scope="module")
def rounds(domain):
    """Users, needs, and what is said, in 150 rounds."""
    rng = np.random.default_rng(0)
    users = taken(domain.draw_users(rng, 40), rng.integers(0, 40, ROUNDS))
    needs = domain.draw_needs(users, rng.random((4, ROUNDS)))
    said = [domain.query_text(taken(users, k), int(needs[k])) for k in range(ROUNDS)]
    return users, needs, said


def test_there_are_domains():
    assert len(IDS) > 0


def test_every_item_is_a_valid_text_of_its_own(domain):
    assert len(set(domain.texts)) == len(domain.items) >= 2
    for item, text in zip(domain.items, domain.texts, strict=True):
        assert item.validity == 1.0 and not item.problems, (text[:60], item.problems)
        assert item.text == text == sanitise(text, TEXT_LENGTH)
        assert np.linalg.norm(item.phi) <= 1.0 + 1e-12 and item.phi.shape == (domain.content_dim,)
        assert domain.title(item) == " ".join(domain.title(item).split())
        again = domain.measure(text)
        assert np.array_equal(again.phi, item.phi) and np.array_equal(again.facts, item.facts)
        assert np.array_equal(domain.content_of(text), item.phi)


def test_items_differ_in_content(domain):
    assert len({phi.tobytes() for phi in np.round(domain.phi, 6)}) > 0.8 * len(domain.phi)
    assert np.linalg.norm(domain.phi - domain.phi.mean(axis=0), axis=1).mean() > 0.1


# -- reading what strangers wrote -----------------------------------------------------------------------------------


def check_reading(domain, text):
    read = domain.measure(text)
    assert 0.0 <= read.validity <= 1.0 and read.text == text
    assert read.phi.shape == (domain.content_dim,) and np.isfinite(read.phi).all()
    assert np.linalg.norm(read.phi) <= 1.0 + 1e-9
    assert read.facts.shape == domain.items[0].facts.shape and np.isfinite(read.facts).all()
    assert read.validity == 1.0 or read.problems
    assert all(isinstance(problem, str) and problem for problem in read.problems)
    return read


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_text_can_be_measured(domain, data):
    base = data.draw(st.sampled_from(domain.texts))
    cut = data.draw(st.integers(0, len(base)))
    noise = data.draw(st.text(max_size=60))
    other = data.draw(st.sampled_from(domain.texts))
    for text in (noise, base[:cut] + noise + base[cut:], base[:cut] + other[cut:], base[cut:]):
        check_reading(domain, text)


NASTY = {
    "empty": "",
    "blank": "\n" * TEXT_LENGTH,
    "null bytes": "\x00" * TEXT_LENGTH,
    "zero width": "\u200b" * TEXT_LENGTH,
    "other direction": "\u202e# a\n" * 1000,
    "digits": "- 9" * 2700,
    "a number without end": "# a\n\n- " + "9" * 8000,
    "headings": "# a\n" * 2000,
    "list marks": "- " * 4000,
    "brackets": "([{" * 2700,
    "spaces": "- a" + " " * 8000 + "b",
    "combining": "e" + "\u0301" * 8000,
    "other digits": "# ٣\n\n- ٣ g ²½ ①\n",
    "exponents": "- 1e999 g salt\n- nan g salt\n- -1 g salt\n- inf hours\n",
}


@pytest.mark.parametrize("name", NASTY)
def test_what_is_no_text_of_the_domain_earns_nothing_and_takes_no_time(domain, name):
    read = quickly(check_reading, domain, NASTY[name])
    assert read.validity == 0.0 and read.problems


def test_items_over_and_over_cost_no_more_than_their_length(domain):
    for text in ((domain.texts[0] * 200)[:TEXT_LENGTH], "\n".join(domain.texts)[:TEXT_LENGTH]):
        quickly(check_reading, domain, text)


# -- users, needs, and the reward -----------------------------------------------------------------------------------


def test_parts_lie_between_0_and_1_and_multiply_to_the_mean(domain, rounds):
    users, needs, _ = rounds
    pool = Content.of(domain.items)
    parts = domain.parts_of(taken(users, np.s_[:, None]), needs[:, None], pool)
    assert tuple(parts) == domain.parts and "validity" in parts
    table = {name: np.broadcast_to(value, (ROUNDS, len(domain.items))) for name, value in parts.items()}
    assert all(value.min() >= 0.0 and value.max() <= 1.0 for value in table.values())
    means = domain.combine(parts)
    assert np.allclose(means, np.prod(list(table.values()), axis=0), rtol=0.0, atol=1e-12)
    for k in range(0, ROUNDS, 7):  # alone as among all
        n = 3 * k % len(domain.items)
        alone = domain.parts_of(taken(users, k), needs[k], pool[n])
        assert {name: float(value) for name, value in alone.items()} == {
            name: float(value[k, n]) for name, value in table.items()
        }
        text = domain.parts_of_text(taken(users, k), int(needs[k]), domain.items[n], "")
        assert float(domain.combine(text)) == means[k, n]


def test_who_asks_and_what_is_asked_both_matter(domain, rounds):
    """The best item for each need and user earns more than the best for each need, that more than the best of all."""
    needs = rounds[1]
    everyone = domain.draw_users(np.random.default_rng(1), 30)
    pool = Content.of(domain.items)
    asked = np.unique(needs)
    means = domain.combine(
        domain.parts_of(taken(everyone, np.s_[:, None, None]), asked[:, None], pool)
    )  # (users, needs, items)
    for_each = means.max(axis=2).mean()
    for_needs = means.mean(axis=0).max(axis=1).mean()
    for_all = means.mean(axis=(0, 1)).max()
    assert for_each > for_needs + 0.05
    assert for_needs > for_all + 0.01


def test_no_content_is_better_than_the_oracle_says(domain, rounds):
    users, needs, _ = rounds
    best = domain.optimum(users, needs)
    assert best.shape == (ROUNDS, domain.content_dim) and np.linalg.norm(best, axis=1).max() <= 1.0 + 1e-9
    oracle = domain.oracle(users, needs)
    assert oracle.shape == (ROUNDS,) and oracle.max() <= 1.0 + 1e-12
    reached = domain.combine(domain.parts_of(users, needs, Content(best, np.ones(ROUNDS), None)))
    assert np.allclose(reached, oracle, rtol=0.0, atol=1e-9)
    rng = np.random.default_rng(2)
    for _ in range(20):
        y = rng.standard_normal((ROUNDS, domain.content_dim))
        y = best + rng.choice([0.02, 0.2, 1.0]) * y / np.linalg.norm(y, axis=1, keepdims=True)
        y /= np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1.0)
        assert (
            domain.combine(domain.parts_of(users, needs, Content(y, np.ones(ROUNDS), None))) <= oracle + 1e-9
        ).all()
    for k in range(0, ROUNDS, 10):
        items = domain.parts_of(taken(users, k), needs[k], Content.of(domain.items))
        assert domain.combine(items).max() <= oracle[k] + 1e-9


def test_what_is_said_stays_when_hidden_attributes_drift(domain, rounds):
    users = domain.draw_users(np.random.default_rng(3), ROUNDS)
    _, needs, _ = rounds
    rngs = [np.random.default_rng(4) for _ in range(3)]
    still, moved, new = (domain.drifted(users, rng, step) for rng, step in zip(rngs, (0.0, 0.3, 1.0), strict=True))
    assert len({rng.random() for rng in rngs}) == 1
    assert all(np.allclose(getattr(still, name), getattr(users, name)) for name in vars(users))
    assert any(not np.allclose(getattr(moved, name), getattr(users, name)) for name in vars(users))
    for other in (moved, new):
        assert np.array_equal(domain.query_vectors(other, needs), domain.query_vectors(users, needs))
        for k in range(0, ROUNDS, 10):
            assert domain.query_text(taken(other, k), int(needs[k])) == domain.query_text(
                taken(users, k), int(needs[k])
            )


def test_queries_are_texts_and_vectors_of_the_stated_length(domain, rounds):
    users, needs, said = rounds
    vectors = domain.query_vectors(users, needs)
    assert vectors.shape == (ROUNDS, domain.query_dim) and np.isfinite(vectors).all()
    assert all(text == sanitise(text, TEXT_LENGTH) and len(text.split()) >= 3 for text in said)
    assert domain.num_needs > len(set(needs.tolist())) * 0.5 and needs.min() >= 0 and needs.max() < domain.num_needs


# -- tools for agents -----------------------------------------------------------------------------------------------


def composed(domain, rounds, contents):
    rng = np.random.default_rng(5)
    for k, z in enumerate(contents):
        weights = rng.dirichlet(np.full(len(domain.items), 0.1))
        yield k, domain.compose(z, rounds[2][k], domain.texts, weights, np.random.default_rng(6))


def test_what_is_composed_is_valid_obeys_what_is_said_and_hurts_nobody(domain, rounds):
    users, needs, said = rounds
    rng = np.random.default_rng(7)
    contents = rng.standard_normal((ROUNDS, domain.content_dim))
    contents *= rng.random((ROUNDS, 1)) / np.linalg.norm(contents, axis=1, keepdims=True)
    contents[::3] = domain.phi[rng.integers(0, len(domain.phi), len(contents[::3]))]
    contents[1] = 0.0
    for k, text in composed(domain, rounds, contents):
        read, user = domain.measure(text), taken(users, k)
        assert text == sanitise(text, TEXT_LENGTH)
        assert read.validity == 1.0, (text, read.problems)
        assert not domain.problems_of(user, int(needs[k]), read, said[k]), (said[k], text)
        parts = domain.parts_of_text(user, int(needs[k]), read, said[k])
        assert parts["validity"] == 1.0 and parts.get("safety", parts.get("safe", 1.0)) == 1.0, (said[k], text)


def test_composing_comes_nearer_to_what_is_asked_than_chance_and_draws_nothing(domain, rounds):
    users, needs, _ = rounds
    best = domain.optimum(users, needs)
    texts = dict(composed(domain, rounds, best))
    assert texts == dict(composed(domain, rounds, best))
    reached = np.array([np.linalg.norm(domain.content_of(text) - best[k]) for k, text in texts.items()])
    chance = np.linalg.norm(domain.phi[None] - best[:, None], axis=2).mean(axis=1)
    assert reached.mean() < 0.8 * chance.mean()


def test_the_privileged_writer_beats_the_catalogue(domain, rounds):
    users, needs, said = rounds
    gains = []
    for k in range(0, ROUNDS, 5):
        user, need = taken(users, k), int(needs[k])
        text = domain.write(user, need, said[k])
        mean = float(domain.combine(domain.parts_of_text(user, need, domain.measure(text), said[k])))
        items = domain.combine(domain.parts_of(user, needs[k], Content.of(domain.items)))
        gains.append(mean - items.max())
    assert np.mean(gains) > 0.0


def test_sessions_count_texts_that_are_invalid_or_would_hurt(domain):
    env = gym.make(domain.id, action_mode="write", horizon=60, disable_env_checker=True).unwrapped
    lanes = gym.make_vec(
        domain.id, num_envs=2, vectorization_mode="vector_entry_point", action_mode="write", horizon=60
    )
    for played in (env, lanes):
        assert played.measures == (("invalid", "harmful") if domain.harm else ())
    assert gym.make(domain.id, action_mode="select").unwrapped.measures == ()
    if not domain.harm:
        return
    env.reset(seed=3)
    lanes.reset(seed=3)
    hurt = 0.0
    for k in range(60):
        text = "no text of this kind" if k % 10 == 0 else domain.texts[k % len(domain.texts)]
        info = env.step(text)[4]
        assert info["invalid"] == (info["validity"] < 1.0) and info["harmful"] == (info[domain.harm] == 0.0)
        both = lanes.step((text, text))[4]
        assert (both["invalid"][0], both["harmful"][0]) == (info["invalid"], info["harmful"])
        hurt += info["harmful"]
    assert hurt > 0.0  # items are shown whoever they would hurt
