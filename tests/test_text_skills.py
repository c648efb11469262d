"""SKILL.md: what is read is what was written, and every mistake is named with its line and rule."""

import string
from itertools import product

import pytest
import yaml
from _timing import quickly
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.errors import DataError, UnknownNameError
from hare_gym.text import Skill, SkillError, load_corpus, make_skill, parse, render, validate
from hare_gym.text.corpus import DOMAINS, FACETS, LEVELS, SPECIFICITIES, STYLES, TOPICS, load_built_in
from hare_gym.text.skills import MAX_BYTES, sections

GOOD = """---
name: sort-a-table
description: Sorts a table by one column. Use when rows are in no order.
license: MIT
metadata:
  level: beginner
---

# Sort a Table

## When to use

- the rows are in
  no order
- [ ] somebody asks for the largest

## Instructions

1. Choose the column.

```text
# this is code, no heading
```

## Examples

**Request:** Sort by price.

**Response:** Done.

**Request:** Sort by name.

**Response:** Done as well.
"""


def rules(text, folder=None):
    return [(violation.line, violation.rule) for violation in validate(text, folder)]


def with_frontmatter(*lines, body="Text."):
    return "\n".join(["---", *lines, "---", "", body, ""])


def test_a_good_file_is_read():
    skill = parse(GOOD, "here/SKILL.md", folder="sort-a-table")
    assert validate(GOOD, "sort-a-table") == []
    assert (skill.name, skill.license, skill.metadata) == ("sort-a-table", "MIT", {"level": "beginner"})
    assert skill.title == "Sort a Table"
    assert skill.triggers == ("the rows are in no order", "somebody asks for the largest")
    assert skill.instructions.startswith("1. Choose the column.") and "# this is code" in skill.instructions
    assert [example.split("\n")[0] for example in skill.examples] == [
        "**Request:** Sort by price.",
        "**Request:** Sort by name.",
    ]
    assert skill.source == "here/SKILL.md"
    assert parse(render(skill)) == skill


def test_line_ends_and_bytes_do_not_matter():
    assert parse(GOOD.replace("\n", "\r\n").encode()) == parse(GOOD)


def test_a_skill_without_these_headings_has_its_whole_body_as_instructions():
    skill = Skill("a", "Does a. Use when b is near.", "# A\n\nFirst.\n\n## Then\n\nSecond.\n\n### Deeper\n\nThird.")
    assert skill.triggers == ("Use when b is near.",)
    assert skill.examples == ()
    assert skill.instructions == "First.\n\n## Then\n\nSecond.\n\n### Deeper\n\nThird."


def test_parts_are_put_together_and_found_again():
    skill = make_skill(
        "a-b",
        "Does a. Use when b.",
        title="A and B",
        triggers=("when b", "or c"),
        instructions="1. Do a.",
        examples=("**Request:** a\n\n**Response:** b", "**Request:** c\n\n**Response:** d"),
        metadata={"level": "expert"},
    )
    assert (skill.title, skill.triggers, skill.instructions) == ("A and B", ("when b", "or c"), "1. Do a.")
    assert skill.examples == ("**Request:** a\n\n**Response:** b", "**Request:** c\n\n**Response:** d")


printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Cs")), max_size=60)
visible = printable.filter(
    lambda text: not any(c in text for c in "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
)
visible = visible.filter(
    lambda text: not any(0x180B <= ord(c) <= 0x180F or 0xE0000 <= ord(c) <= 0xE01EF for c in text)
)
awkward = st.sampled_from(
    ["yes", "null", "1.0", "a: b", "- x", "# no", "'", '"', "---", "...", "&a", "*a", "!t", "a\nb", "~", "{", "%"]
)
words = st.one_of(visible, awkward, st.builds("{}{}".format, awkward, visible))
name = st.lists(st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8), min_size=1, max_size=6).map(
    "-".join
)
lines = st.lists(words, max_size=6).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(
    name,
    words.filter(str.strip),
    lines,
    words,
    words,
    st.dictionaries(words, words, max_size=3),
)
def test_what_is_written_is_read_again(name, description, body, license, tools, metadata):
    skill = Skill(name, description, body, license=license, allowed_tools=tools, metadata=metadata)
    text = render(skill)
    assert parse(text) == skill
    assert [v for v in validate(text, name) if v.severity == "error"] == []
    # other people's readers see the same strings
    block = yaml.safe_load(
        text.split("---\n")[1] if "---\n" not in skill.description else text[4:].split("\n---\n")[0]
    )
    assert block["name"] == name or isinstance(block["name"], int | float)
    assert block["description"] == skill.description


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.binary(), st.builds("---\n{}\n---\n{}".format, st.text(), st.text())))
def test_nothing_makes_the_validator_raise(text):
    for violation in validate(text):
        assert violation.line >= 1 and violation.rule and violation.message.endswith((".", "..."))
    with_errors = [v for v in validate(text) if v.severity == "error"]
    if with_errors:
        with pytest.raises(SkillError) as raised:
            parse(text)
        assert raised.value.violations == tuple(with_errors)
    else:
        assert parse(render(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["description: Use when."], [(1, "name-missing")]),
        (["name: a"], [(1, "description-missing")]),
        (["name: A_b", "description: Use when."], [(2, "name-pattern")]),
        (["name: a--b", "description: Use when."], [(2, "name-pattern")]),
        (["name: " + "a" * 65, "description: Use when."], [(2, "name-length")]),
        (["name: a", "description: Use when " + "x" * 1020], [(3, "description-length")]),
        (["name: a", "description: Sorts."], [(3, "description-when")]),
        (["name: a", "description: Use when.", "version: 1"], [(4, "unknown-key")]),
        (["name: a", "description: Use when.", "compatibility: " + "x" * 501], [(4, "compatibility-length")]),
        (["name: a", "description: Use when.", "metadata: [a]"], [(4, "metadata-mapping")]),
        (["name: a", "description: Use when.", "metadata:", "  b: {c: d}"], [(4, "metadata-values")]),
        (["name: a", "description: Use when.", "allowed-tools: [Read, Bash]"], [(4, "allowed-tools-list")]),
        (["name: [a]", "description: Use when."], [(2, "name-text")]),
        (["name: a", "name: b", "description: Use when."], [(3, "duplicate-key")]),
        (["name: a", "description: b: c"], [(3, "yaml")]),
        (["name: !!python/object:os.system a", "description: Use when."], [(2, "tag")]),
        (["a: &a [x]", "b: *a"], [(2, "alias")]),
        (["- a"], [(2, "yaml")]),
        (["metadata: " + "[" * 20 + "]" * 20], [(2, "nesting")]),
        (["name: a\u200bb", "description: Use when."], [(2, "hidden-character"), (2, "name-pattern")]),
    ],
)
def test_each_mistake_has_its_line_and_rule(lines, expected):
    assert rules(with_frontmatter(*lines)) == expected


def test_the_body_is_checked():
    head = "---\nname: a\ndescription: Use when.\n---\n"
    assert rules(head) == [(5, "body-empty")]
    assert rules(head + "x\n" * 500) == [(5, "body-lines")]
    assert rules(head + "x\n" * 499) == []
    assert rules(head + "one\ntwo\x07\n") == [(6, "hidden-character")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: empty: The file is empty"),
        (" \n\n", "line 1: empty: The file is empty"),
        ("\u200b\u200b", "U+200B ZERO WIDTH SPACE stands in the text 2 times"),
        ("# Title", "line 1: frontmatter-missing: The first line must be ---, not '# Title'."),
        ("---\nname: a\n", "line 1: frontmatter-open: No second line --- ends the frontmatter."),
        ("x" * 1_000_000, "line 1: size: The file has 1,000,000 bytes; at most 256,000 are read."),
        (b"---\nname: a\n\xff", "line 3: encoding: Byte 12 (0xff) is not UTF-8."),
        ("\ufeff" + GOOD, "byte-order-mark"),
        (GOOD.replace("MIT", "MI\u202eT"), "line 4: hidden-character: U+202E RIGHT-TO-LEFT OVERRIDE"),
    ],
)
def test_unreadable_text_is_named(text, message):
    with pytest.raises(SkillError) as raised:
        parse(text, "x/SKILL.md")
    assert message in str(raised.value) and str(raised.value).startswith("x/SKILL.md is not a valid skill: ")


def test_the_folder_gives_the_name():
    assert [str(v) for v in validate(GOOD, "other")] == [
        "line 2: name-folder: The name 'sort-a-table' must be that of the folder, 'other'."
    ]


def test_an_alias_bomb_costs_nothing():
    bomb = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
    assert quickly(rules, with_frontmatter(*bomb)) == [(2, "alias")]
    assert quickly(rules, with_frontmatter("a: " + "[" * 100_000)) == [(2, "nesting")]


def test_emoji_and_joined_scripts_are_not_hidden():
    text = GOOD.replace(
        "Choose the column.", "\U0001f468\u200d\U0001f4bb \u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    )
    assert validate(text) == []


def test_a_skill_is_valid_by_construction():
    for values, rule in [
        (("A", "d", "b"), "name-pattern"),
        (("a", "", "b"), "description-missing"),
        (("a", "d", "b\x00"), "hidden-character"),
        (("a", "d", "x" * (MAX_BYTES + 1)), "size"),
    ]:
        with pytest.raises(SkillError, match=rule):
            Skill(*values)
    with pytest.raises(SkillError, match="metadata-key"):
        Skill("a", "d", "b", metadata={"k" * 201: "v"})


def test_what_can_be_mended_is():
    text = with_frontmatter(
        "name: Sort A Table", "version: 1", "description: " + "Sorts rows. " * 100, body="# T\u200b\n\nx"
    )
    skill = parse(text, lenient=True)
    assert skill.name == "sort-a-table" and len(skill.description) <= 1024 and skill.description.endswith("rows.")
    assert skill.body == "# T\n\nx"
    with pytest.raises(SkillError, match="alias"):
        parse(with_frontmatter("name: &a b"), lenient=True)


def test_sections_skip_fences():
    body = "~~~\n# code\n```\n~~~\n# One\n````\n# code\n```\n````\n## Two ##\n"
    assert [(s.level, s.heading) for s in sections(body)] == [(0, ""), (1, "One"), (2, "Two")]


# The built-in corpus


def test_the_built_in_corpus_is_whole():
    corpus = load_corpus()
    assert load_corpus() is corpus and corpus.name == "built-in" and not corpus.problems
    cells = {(s.metadata["domain"], s.metadata["topic"], s.metadata["level"]) for s in corpus.skills}
    assert cells == set(product(DOMAINS, TOPICS, LEVELS)) and len(corpus) == len(cells)
    for skill in corpus.skills:
        d, t, level = (known.index(skill.metadata[f]) for f, known in list(FACETS.items())[:3])
        assert skill.metadata["style"] == STYLES[(t + level + d) % 4], skill.name
        assert skill.metadata["specificity"] == SPECIFICITIES[(t + 2 * level + d) % 3], skill.name
        assert validate(skill.text, skill.name) == [], skill.name
        assert skill.triggers and skill.examples and skill.instructions and skill.text.isascii(), skill.name
    assert len(corpus.where(domain="data", level="expert")) == len(TOPICS)
    assert len(corpus.digest) == 64
    with pytest.raises(UnknownNameError, match=r"Unknown facet of the corpus 'domian'\. Did you mean 'domain'\?"):
        corpus.where(domian="data")


def built_in(folder, text=GOOD, domain="data", name="sort-a-table", facets="all"):
    values = {"domain": "data", "topic": "fix", "level": "expert", "style": "coach", "specificity": "general"}
    lines = "".join(f"  {key}: {value}\n" for key, value in values.items() if facets == "all" or key in facets)
    path = folder / "skills" / domain / name / "SKILL.md"
    path.parent.mkdir(parents=True)
    path.write_text(text.replace("  level: beginner\n", lines))
    return folder


def test_queries_are_read_with_their_hints(tmp_path):
    built_in(tmp_path)
    (tmp_path / "queries.yaml").write_text("neutral: {fix: [It broke.]}\nhinted: {data: {fix: [My model broke.]}}\n")
    queries = load_built_in(tmp_path).queries
    assert [(q.text, q.topic, q.hints) for q in queries["fix"]] == [
        ("It broke.", "fix", ()),
        ("My model broke.", "fix", ("data",)),
    ]
    assert queries["plan"] == ()


def test_the_built_in_queries_are_whole():
    queries = [query for found in load_corpus().queries.values() for query in found]
    assert len(queries) >= 400
    assert len({query.text.lower() for query in queries}) == len(queries)
    neutral = {topic: sum(q.topic == topic and not q.hints for q in queries) for topic in TOPICS}
    assert min(neutral.values()) >= 40
    assert {(q.topic, *q.hints) for q in queries if q.hints} == set(product(TOPICS, DOMAINS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facets": ("domain",)}, "metadata must give its topic as one of test, plan, "),
        ({"domain": "design"}, "the domain is 'data'; it stands in another's folder"),
        ({"name": "other"}, "name-folder"),
    ],
)
def test_a_broken_built_in_corpus_is_refused(tmp_path, change, message):
    with pytest.raises(SkillError, match=message):
        load_built_in(built_in(tmp_path, **change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "queries.yaml: not YAML"),
        ("- It broke.", "must map each kind to its queries"),
        ("plain: {fix: [It broke.]}", "a kind must be one of neutral, hinted, not 'plain'"),
        ("neutral: {fixes: [It broke.]}", "queries.yaml: neutral: a topic must be one of test, plan"),
        ("hinted: {fix: [It broke.]}", "queries.yaml: hinted: a domain must be one of software"),
        ("hinted: {data: [It broke.]}", "queries.yaml: hinted: data: must map each topic"),
        ("neutral: {fix: It broke.}", "neutral: fix: must be a list of queries, not 'It broke.'"),
        ("neutral: {fix: [It broke., ' ']}", "neutral: fix: query 2 must be words, not ' '"),
        ("neutral: {fix: [3]}", "neutral: fix: query 1 must be words, not 3"),
    ],
)
def test_a_broken_query_is_refused(tmp_path, text, message):
    built_in(tmp_path)
    (tmp_path / "queries.yaml").write_text(text + "\n")
    with pytest.raises(DataError, match=message):
        load_built_in(tmp_path)
