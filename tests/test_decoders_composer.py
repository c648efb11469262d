"""The composer writes valid skills near the content it is asked for, and names are resolved to decoders."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hare_agents.decoders import make_decoder
from hare_agents.decoders.composer import Composer
from hare_agents.decoders.pool import content_of_text, measurer_of
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError, UnknownNameError
from hare_gym.text.corpus import DOMAINS, STYLES, TOPICS, load_corpus
from hare_gym.text.measure import Measurer, Measures, content_of, measures
from hare_gym.text.skills import parse, validate
from hare_gym.text.units import units_of

NOBODY = np.zeros(17)


@pytest.fixture(scope="module")
def spec():
    skills = [s for s in load_corpus().skills if s.metadata["domain"] in ("software", "security", "education")]
    measurer = Measurer()
    texts = tuple(skill.text for skill in skills)
    return TaskSpec(
        id="SomeSkills-v0",
        action_mode="write",
        horizon=100,
        num_users=4,
        query_dim=17,
        content_dim=17,
        num_items=len(texts),
        pool=np.stack([content_of_text(measurer, text) for text in texts]),
        pool_texts=texts,
        has_query_text=True,
        encoder=measurer.encoder_name,
    )


@pytest.fixture(scope="module")
def composer(spec):
    made = Composer()
    made.prepare(spec)
    return made


@pytest.fixture(scope="module")
def ideals():
    rng = np.random.default_rng(0)
    return [wanted(rng) for _ in range(40)]


def wanted(rng, **fixed):
    """The content that some user would like best: two of the three domains, one topic, anything else."""
    share = rng.uniform(0.55, 0.85)
    domain = np.zeros(8)
    one, two = rng.permutation([DOMAINS.index(d) for d in ("software", "security", "education")])[:2]
    domain[one], domain[two] = share, 1.0 - share
    values = {
        "domain": domain,
        "topic": np.eye(6)[rng.integers(6)],
        "level": rng.random(),
        "specificity": rng.random(),
        "style": np.eye(4)[rng.integers(4)],
    }
    return content_of(Measures(**{k: np.asarray(v) for k, v in (values | fixed).items()}))


def write(composer, spec, z, seed=0):
    weights = np.exp(20.0 * spec.pool @ z)
    return composer.decode(z, NOBODY, "need", spec.pool_texts, weights / weights.sum(), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def written(composer, spec, ideals):
    return [write(composer, spec, z) for z in ideals]


def test_every_text_is_a_valid_skill_of_the_right_length_with_a_name_of_its_own(written):
    assert not [problem for text in written for problem in validate(text)]
    words = [len(parse(text).body.split()) for text in written]
    assert min(words) >= 140 and max(words) <= 340  # the marks of lists and headings count here too
    assert len({parse(text).name for text in written}) == len(set(written)) == len(written)


def test_what_it_writes_measures_as_it_was_asked(written, spec, ideals):
    measurer = measurer_of(spec)
    found = np.stack([content_of_text(measurer, text) for text in written])
    asked = np.stack(ideals)
    cosines = np.vecdot(found, asked) / np.linalg.norm(found, axis=1) / np.linalg.norm(asked, axis=1)
    assert cosines.mean() > 0.9
    nearest = np.array([spec.pool[np.argmin(np.sum((spec.pool - z) ** 2, axis=1))] for z in asked])
    assert np.sum((found - asked) ** 2) < 0.5 * np.sum((nearest - asked) ** 2), "no nearer than the best single item"
    for name in ("level", "specificity"):
        assert np.corrcoef(getattr(measures(found), name), getattr(measures(asked), name))[0, 1] > 0.9


def test_two_domains_are_blended_in_the_proportion_that_is_asked_for(composer, spec):
    measurer = measurer_of(spec)
    software, security = DOMAINS.index("software"), DOMAINS.index("security")
    shares = []
    for share in (0.2, 0.5, 0.8):
        domain = np.zeros(8)
        domain[software], domain[security] = share, 1.0 - share
        z = wanted(np.random.default_rng(1), domain=domain)
        mix = measures(content_of_text(measurer, write(composer, spec, z))).domain
        assert mix[software] + mix[security] > 0.75
        shares.append(mix[software])
    assert shares[0] + 0.1 < shares[1] < shares[2] - 0.1


@pytest.mark.parametrize(("style", "mark"), [("checklist", "- [ ] "), ("tutorial", "1. ")])
def test_the_form_of_the_instructions_is_that_of_the_style(composer, spec, style, mark):
    z = wanted(np.random.default_rng(2), style=np.eye(4)[STYLES.index(style)])
    assert parse(write(composer, spec, z)).instructions.startswith(mark)


def test_no_skill_gives_more_than_its_share(written, spec):
    owner = {}
    for k, text in enumerate(spec.pool_texts):
        for unit in units_of(parse(text)).all:
            owner.setdefault(unit, k)
    for text in written:
        units = units_of(parse(text))
        for part in (units.all, units.instructions + units.examples):
            assert max(Counter(owner[u] for u in part).values()) <= 0.6 * len(part)


def test_the_same_content_has_the_same_text_and_a_temperature_varies_it(composer, spec, ideals):
    assert write(composer, spec, ideals[0], seed=1) == write(composer, spec, ideals[0], seed=2)
    warm = Composer(temperature=0.05)
    warm.prepare(spec)
    texts = {write(warm, spec, ideals[0], seed=seed) for seed in range(6)}
    assert len(texts) > 1 and not [problem for text in texts for problem in validate(text)]
    assert write(warm, spec, ideals[0], seed=3) in texts


def test_a_content_of_nan_stands_for_the_mean_of_the_pool(composer, spec):
    even = np.full(spec.num_items, 1.0 / spec.num_items)
    rng = np.random.default_rng(0)
    plain = composer.decode(np.full(17, np.nan), NOBODY, "", spec.pool_texts, even, rng)
    assert plain == composer.decode(spec.pool.mean(axis=0), NOBODY, "", spec.pool_texts, even, rng)


def test_a_pool_is_taken_apart_once(composer, spec, monkeypatch):
    composer.prepare(replace(spec, horizon=7))
    monkeypatch.setattr(Composer, "_pieces", None)
    composer.prepare(spec)  # would raise if it took the pool apart again
    with pytest.raises(TypeError):
        composer.prepare(replace(spec, pool_texts=spec.pool_texts[:9], pool=spec.pool[:9], num_items=9))


def test_no_item_need_have_every_kind_of_line(spec, ideals):
    heads = ("## When to use", "## Instructions", "## Examples")
    cut = tuple(
        text[: text.index(heads[2])] if k % 2 else text[: text.index(heads[0])] + text[text.index(heads[1]) :]
        for k, text in enumerate(spec.pool_texts)
    )
    strange = Composer()
    strange.prepare(replace(spec, pool_texts=cut))
    for ideal in ideals[:3]:
        text = write(strange, replace(spec, pool_texts=cut), ideal)
        assert not validate(text) and all(head in text for head in heads)


def test_what_cannot_be_composed_from_is_refused(spec):
    with pytest.raises(ConfigError, match="call prepare"):
        write(Composer(), spec, NOBODY)
    with pytest.raises(ConfigError, match="items have texts; those of SomeSkills-v0 have none"):
        Composer().prepare(replace(spec, pool_texts=None))
    notes = tuple(f"note {k}" for k in range(spec.num_items))
    with pytest.raises(ConfigError, match=r"at least two skills.*has 0 of"):
        Composer().prepare(replace(spec, pool_texts=notes))
    with pytest.raises(ConfigError, match="cannot be measured: its vectors have 3 numbers"):
        Composer().prepare(replace(spec, content_dim=3, pool=spec.pool[:, :3]))
    with pytest.raises(ConfigError, match="were measured with the encoder other"):
        Composer().prepare(replace(spec, encoder="other"))
    with pytest.raises(ConfigError, match="least_words 400 must be below"):
        Composer(least_words=400)


def test_decoders_have_names(spec):
    assert make_decoder("composer", steps=4).config.steps == 4
    shown = make_decoder("verbatim")
    shown.prepare(spec)
    weights = np.eye(spec.num_items)[5]
    assert shown.decode(NOBODY, NOBODY, "", spec.pool_texts, weights, np.random.default_rng(0)) == spec.pool_texts[5]
    assert isinstance(make_decoder("hare_agents.decoders.composer:Composer"), Composer)


def test_names_that_lead_nowhere_say_so(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown decoder 'compose'\. Did you mean 'composer'\?"):
        make_decoder("compose")
    with pytest.raises(UnknownNameError, match="knob of decoder 'composer' 'stps'"):
        make_decoder("composer", stps=3)
    with pytest.raises(ConfigError, match="'no_such_module:Thing' cannot be loaded"):
        make_decoder("no_such_module:Thing")
    with pytest.raises(ConfigError, match="does not accept"):
        make_decoder("verbatim", loud=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no trained decoder"):
        make_decoder(str(tmp_path))


def test_topics_are_kept_to(written, spec, ideals):
    measurer = measurer_of(spec)
    asked = [int(np.argmax(measures(z).topic)) for z in ideals]
    found = [int(np.argmax(measures(content_of_text(measurer, text)).topic)) for text in written]
    right = np.mean(np.array(asked) == np.array(found))
    assert right >= 0.95, f"{right:.0%} of {len(TOPICS)} topics"
