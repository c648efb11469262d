"""What a suite says of claims, figures and shares of the horizon, and what each mistake in it is called."""

# ruff: noqa: E501 (whole messages stand on one line)

import pytest

from hare_evaluation.spec import parse_suite
from hare_gym.errors import HareError

GOOD = """
name: small
seeds: {set: quick, count: 2}
environments:
  - {id: HareBilinear-v0, label: curved, kwargs: {horizon: 60, change_every: T/2}}
  - {id: HareBilinear-v0, label: made, kwargs: {horizon: 60, action_mode: synthesize}}
agents:
  - {name: random, label: Random}
  - {name: linucb-disjoint, label: Disjoint}
  - {name: linucb, label: LinUCB, environments: [curved]}
  - {name: hare, label: HARE, role: agent}
claims:
  - {id: less, text: "Less.", kind: ratio, environments: [curved], agent: HARE, at_most: 0.9}
  - {id: back, text: "Back.", kind: recovery, environments: [curved], agent: HARE, at_most: 10}
figures:
  - {id: curves, title: "Regret", kind: regret, environments: [curved], agents: [HARE, LinUCB]}
"""


def changed(old, new):
    assert old in GOOD
    return parse_suite(GOOD.replace(old, new), "small.yaml")


def test_shares_follow_the_horizon():
    suite = parse_suite(GOOD, "small.yaml")
    knobs = {spec.env_kwargs.get("change_every") for spec in suite.plan().specs}
    assert knobs == {30, None}
    short = suite.overridden({"horizon": 9}, {})
    assert {spec.env_kwargs.get("change_every") for spec in short.plan().specs} == {4, None}
    assert (
        next(iter(short.labels.environments))
        == '{"env": "HareBilinear-v0", "env_kwargs": {"change_every": 4, "horizon": 9}}'
    )
    whole = changed("T/2", "T").plan().specs
    assert whole[0].env_kwargs["change_every"] == 60
    assert suite.environments[0].kwargs["change_every"] == "T/2"


@pytest.mark.parametrize(("new", "shown"), [("T/0", 1), ("T/61", 61)])
def test_a_share_of_nothing(new, shown):
    with pytest.raises(HareError) as caught:
        changed("T/2", new).plan()
    assert str(caught.value) == (
        f"change_every of 'curved' is '{new}', a share of the horizon; the horizon among its kwargs must be a whole number, at least {shown}, not 60."
    )
    with pytest.raises(HareError, match=r"at least 2, not None\.$"):
        changed("{horizon: 60, change_every", "{change_every").plan()


def test_the_study():
    study = parse_suite(GOOD, "small.yaml").study
    assert [claim.id for claim in study.claims] == ["less", "back"]
    assert [figure.id for figure in study.figures] == ["curves"]
    assert study.roles == {"Random": "baseline", "Disjoint": "baseline", "LinUCB": "baseline", "HARE": "agent"}
    assert study.players == {
        "curved": ("Random", "Disjoint", "LinUCB", "HARE"),
        "made": ("Random", "Disjoint", "HARE"),
    }
    assert "synthesize" not in study.modes["Disjoint"] and "synthesize" in study.modes["HARE"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kind: ratio", "kind: rato", "Unknown kind in claims.0 of the suite small.yaml 'rato'. Did you mean 'ratio'?"),
        ("kind: regret", "kind: regrets", "Unknown kind in figures.0 of the suite small.yaml 'regrets'. Did you mean 'regret'?"),
        ("kind: ratio, ", "", "'kind' is missing in claims.0 of the suite small.yaml."),
        ("at_most: 0.9", "at_mots: 0.9", "Unknown key in claims.0.ratio of the suite small.yaml 'at_mots'. Did you mean 'at_most'?"),
        (", at_most: 0.9", "", "'at_most' is missing in claims.0.ratio of the suite small.yaml."),
        ("agents: [HARE, LinUCB]", "agent: HARE", "Unknown key in figures.0.regret of the suite small.yaml 'agent'. Did you mean 'agents'?"),
        ("id: less", "id: Less!", "'id' in claims.0.ratio of the suite small.yaml: String should match pattern"),
        ("role: agent", "role: king", "'role' in agents.3 of the suite small.yaml: Input should be 'baseline', 'agent', 'ablation' or 'oracle', not 'king'."),
        ("at_most: 0.9", "at_most: 0.9, against: [LinUCB, Linux]", "Unknown agent of the claim 'less' 'Linux'. Did you mean 'LinUCB'?"),
        ("agent: HARE, at_most: 0.9", "agent: HAER, at_most: 0.9", "Unknown agent of the claim 'less' 'HAER'. Did you mean 'HARE'?"),
        ("[curved], agent: HARE, at_most: 0.9", "[curvd], agent: HARE, at_most: 0.9", "Unknown environment of the claim 'less' 'curvd'. Did you mean 'curved'?"),
        ("agents: [HARE, LinUCB]", "agents: [HARE, LinUBC]", "Unknown agent of the figure 'curves' 'LinUBC'. Did you mean 'LinUCB'?"),
        ("id: back", "id: less", "Two claims are called 'less': give each a label of its own."),
        (", change_every: T/2", "", "The claim 'back' asks how soon a change of the users is made up for, but on 'curved' they do not change: set change_every there."),
        ("kwargs: {horizon: 60, action_mode: synthesize}", "kwargs: {horizon: 60, change_every: 30}", "The environments 'curved' and 'made' are the same: "),
        ("name: linucb-disjoint, label", "name: linucb, label", "The agents 'Disjoint' and 'LinUCB' are the same: "),
    ],
)  # fmt: skip
def test_mistakes(old, new, message):
    with pytest.raises(HareError) as caught:
        changed(old, new).plan()
    assert str(caught.value).startswith(message)
