import json

import numpy as np
import pandas as pd
import pytest

from hare_evaluation import reward_evidence
from hare_evaluation.reward_attacks import ATTACKS, attack_table, instruction_lines
from hare_evaluation.reward_evidence import (
    accuracy_table,
    auc,
    blend_table,
    correlation_table,
    counterfactual_table,
    domain_of,
    markdown,
    real_table,
    truth,
)
from hare_gym.errors import DataError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.measure import Measurer, measures
from hare_gym.text.skills import Skill
from hare_gym.text.sources import Item
from hare_gym.text.units import units_of

CORPUS = load_corpus()
torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def measurer():
    return Measurer(pool=[skill.text for skill in CORPUS.skills])


@pytest.fixture(scope="module")
def found(measurer):
    return measures(np.stack([item.phi for item in measurer.items(CORPUS)]))


# (a) each part moves with its attribute


def test_each_measure_goes_with_its_attribute_and_hardly_with_another(found):
    table = correlation_table(found, truth(CORPUS))
    own = np.diag(table)
    others = table.to_numpy()[~np.eye(len(table), dtype=bool)]
    assert (own > 0.8).all(), table
    assert np.abs(others).max() < 0.15, table


def test_accuracies_stand_beside_chance(found):
    table = accuracy_table(found, truth(CORPUS)).set_index("measure")
    assert (table.loc[["domain", "topic", "style"], "accuracy"] > 0.9).all()
    assert table.loc["topic", "chance"] == pytest.approx(1 / 6)
    shuffled = truth(CORPUS)
    order = np.random.default_rng(0).permutation(len(CORPUS))
    wrong = type(shuffled)(*(getattr(shuffled, name)[order] for name in vars(shuffled)))
    by_chance = accuracy_table(found, wrong).set_index("measure")
    assert by_chance.loc["domain", "accuracy"] < 0.25 and abs(by_chance.loc["level", "correlation"]) < 0.25


def test_rewrites_of_one_attribute_move_that_attribute(measurer):
    pytest.importorskip("sentence_transformers")
    table = counterfactual_table(measurer)
    assert len(table) >= 24
    assert (table["moved"] > 0).mean() >= 0.9
    own = table.groupby("attribute")["moved"].mean()
    assert (own > 0.2).all(), own
    # the scales move much less when something else is rewritten
    for name in ("level", "specificity"):
        others = table[table["attribute"] != name][name].mean()
        assert others < 0.5 * own[name], name


# (b) real skills rank as they should


def test_auc_counts_ties_half():
    assert auc(np.array([3.0, 2.0, 1.0]), np.array([True, False, False])) == 1.0
    assert auc(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == 0.75


REPOSITORIES = {
    "science": {"source_repo": "K-Dense-AI/claude-scientific-skills"},
    "marketing": {"source_repo": "coreyhaines31/marketingskills"},
    "security": {"source_repo": "wshobson/agents", "source_category": "security-scanning"},
}


def collected(tmp_path, rename=None):
    lines = [
        {
            "name": skill.name,
            "title": skill.title,
            "description": skill.description,
            "instructions": skill.body,
            "kind": "skill",
            **REPOSITORIES[(rename or {}).get(domain, domain)],
        }
        for domain in REPOSITORIES
        for skill in CORPUS.where(domain=domain)
    ]
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_texts_of_a_certain_domain_are_ranked_above_others(tmp_path, measurer):
    table = real_table(collected(tmp_path), measurer).set_index("domain")
    assert set(table.index) == set(REPOSITORIES) and (table["skills"] == 24).all()
    assert (table["auc"] > 0.95).all() and (table["own"] > table["others"] + 0.5).all()
    wrong = real_table(collected(tmp_path, {"science": "marketing", "marketing": "science"}), measurer)
    assert (wrong.set_index("domain").loc[["science", "marketing"], "auc"] < 0.7).all()


def test_a_domain_is_only_told_where_it_is_certain():
    skill = Skill("a", "Does a.", "Do it.")

    def domain(source, kind="skill", name="a", **facts):
        return domain_of(Item(Skill(name, skill.description, skill.body), "", source, "", "MIT", kind, facts=facts))

    assert domain("coreyhaines31/marketingskills") == "marketing"
    assert domain("wshobson/agents", source_category="reverse-engineering") == "security"
    assert domain("wshobson/agents", source_category="observability") == ""
    assert domain("K-Dense-AI/claude-scientific-skills", name="rdkit") == "science"
    assert domain("K-Dense-AI/claude-scientific-skills", name="matplotlib") == ""
    assert domain("f/prompts.chat", "prompt", title="Math Teacher") == "education"
    assert domain("f/prompts.chat", "prompt", title="Linux Terminal") == ""


def test_a_collection_without_a_certain_domain_is_refused(tmp_path, measurer):
    path = tmp_path / "none.jsonl"
    path.write_text(json.dumps({"name": "a", "instructions": "Do it.", "source_repo": "somebody/something"}))
    with pytest.raises(DataError, match="no text comes from a repository whose domain is certain"):
        real_table(str(path), measurer)


# (c) gaming


def test_every_attack_earns_less_than_the_honest_text():
    pytest.importorskip("sentence_transformers")
    table = attack_table(seed=1, num_users=6)
    assert len(table) == len(ATTACKS) >= 12
    assert table["margin"].min() > 0.2, table[["attack", "margin"]]
    assert (table["won"] == 1.0).all(), table[["attack", "won"]]
    mu = table.set_index("attack")["mu"]
    ruined = ["stuffing", "echo", "padding", "concatenation", "injection", "unicode_noise", "invalid_frontmatter"]
    assert (mu[ruined] < 0.1).all(), mu


# what creation can do and a catalogue cannot


def test_a_blend_serves_a_user_of_two_domains_better_than_any_item(measurer):
    row = blend_table(CORPUS, measurer).iloc[0]
    assert row["best blend"] > row["best item on the topic"] + 0.1
    assert row["blend is better"] > 0.9


# (d) the second, learned reward model


def made_up_world(rng, users=300, texts=160, queries=24):
    """Four hidden wishes decide between texts of eight features; a query asks for one of three more."""
    from hare_evaluation.reward_learned import World

    features, asked = rng.standard_normal((texts, 11)), np.eye(3)[rng.integers(0, 3, queries)]
    wishes = rng.standard_normal((users, 8)) * (np.arange(8) < 4)
    log_user = -2.0 + 0.4 * wishes @ features[:, :8].T
    return World(
        torch.tensor(features, dtype=torch.float32),
        torch.tensor(asked, dtype=torch.float32),
        np.minimum(log_user, 0.0),
        0.2 * np.minimum(asked @ features[:, 8:].T, 0.0),
        (120, 18, 260),
    )


def test_choices_follow_the_reward():
    world = made_up_world(np.random.default_rng(0))
    users, texts, queries = np.arange(20), np.arange(120, 160), np.arange(18, 24)
    choices = world.choices(np.random.default_rng(1), users, texts, queries, 200, 20.0)
    better, worse, query = (part.numpy() for part in (choices.better, choices.worse, choices.query))
    assert better.shape == (20, 200) and better.min() >= 0 and better.max() == 39 and query.max() == 5
    gain = world.gain(users, texts[better], texts[worse], queries[query])
    mu = world.reward(users[3], queries[query[3, 7]], texts[[better[3, 7], worse[3, 7]]])
    assert gain[3, 7] == mu[0] - mu[1]
    assert (gain > 0).mean() > 0.6
    # where it is sure, it is right
    assert (gain[np.abs(gain) > 0.4] > 0).all()


def test_the_learned_model_finds_what_its_users_want():
    from hare_evaluation.reward_learned import LearnedConfig, compared, trained

    config = LearnedConfig(steps=200, width=48, batch=32, told=64)
    rng = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        world = made_up_world(rng)
        found = compared(trained(world, config, rng), world, config, rng)
    assert found["spearman"] > 0.6 > 0.3 > found["stranger"]
    assert 0.5 < found["accuracy"] <= found["ceiling"] + 0.03
    assert found["texts"] == 120 and found["held_out"] == 40


def test_blends_have_lines_of_two_skills():
    from hare_evaluation.reward_learned import blended

    found = blended(CORPUS.skills, np.random.default_rng(0), 5)
    assert len({skill.text for skill in found}) == 5
    for skill in found:
        lines = set(instruction_lines(skill))
        sources = [lines.intersection(instruction_lines(s)) for s in CORPUS.skills]
        shares = sorted((len(shared) / len(lines) for shared in sources), reverse=True)
        assert sum(shares[:2]) >= 1.0 and shares[1] > 0.0


def test_the_second_model_sees_embeddings_and_counts():
    from hare_evaluation.reward_learned import raw_features

    class Vowels:
        name, dim = "vowels", 3

        def encode(self, texts):
            return np.array([[text.count(vowel) for vowel in "aeo"] for text in texts], dtype=np.float32)

    skills = CORPUS.skills[:4]
    features = raw_features(skills, Vowels())
    units = units_of(skills[0])
    weights = {"head": 0.35, "triggers": 0.15, "instructions": 0.4, "examples": 0.1}
    mean = sum(w * Vowels().encode(getattr(units, name)).mean(axis=0) for name, w in weights.items())
    np.testing.assert_allclose(features[0, :3], mean, rtol=1e-6)
    np.testing.assert_array_equal(features[:, 3:20], [units_of(skill).surface for skill in skills])
    assert features.shape == (4, 3 + 17 + 5) and features[0, -1] == pytest.approx(np.log1p(units.words))


@pytest.mark.slow
def test_the_learned_reward_model_agrees_in_rank():
    from hare_evaluation.reward_learned import agreement

    found = agreement()
    assert found["spearman"] >= 0.8
    assert found["stranger"] < found["spearman"] - 0.1


# the command


def test_tables_are_shown_in_markdown():
    table = pd.DataFrame([{"a": "x", "b": 0.12345}, {"a": "y", "b": np.nan}])
    assert markdown(table) == "| a | b |\n|---|---|\n| x | 0.123 |\n| y |  |"


def test_the_command_prints_the_tables_asked_for(tmp_path, capsys):
    reward_evidence.main(["--only", "real", "--skills", collected(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.startswith("### Real skills\n\n| domain | skills | auc |") and printed.count("\n| ") == 4
    with pytest.raises(SystemExit):
        reward_evidence.main(["--only", "speeds"])
    assert "invalid choice: 'speeds'" in capsys.readouterr().err
