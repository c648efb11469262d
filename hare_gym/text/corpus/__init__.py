"""The built-in corpus of skills and queries, and corpora given by a path.

The built-in skills are Agent Skills in ``skills/<domain>/<name>/SKILL.md``; people may copy the folders into their
assistants. The queries, in ``queries.yaml``, are needs in words: each has a topic, and a hinted one has a domain
which its words point to (a neutral one would suit any domain).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from hare_gym.errors import DataError, unknown_name
from hare_gym.text.skills import Skill, SkillError, parse
from hare_gym.text.sources import Item, Problem, read_collection, skill_files

FOLDER = Path(__file__).parent
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DOMAINS = ("software", "data", "security", "design", "marketing", "education", "science", "business")
TOPICS = ("test", "plan", "review", "report", "fix", "explain")
LEVELS = ("beginner", "intermediate", "advanced", "expert")
STYLES = ("checklist", "tutorial", "coach", "formal")
SPECIFICITIES = ("general", "balanced", "specific")
FACETS = {
    "domain": DOMAINS,
    "topic": TOPICS,
    "level": LEVELS,
    "style": STYLES,
    "specificity": SPECIFICITIES,
}


@dataclass(frozen=True)
class Query:
    """A need in words.

    Attributes:
        text: What somebody types.
        topic: One of :data:`TOPICS`.
        hints: The domains that its words point to; empty where they would suit any.
    """

    text: str
    topic: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Corpus:
    """Skills to choose and learn from.

    Attributes:
        name: ``"built-in"``, or the path that it was read from.
        skills: The skills in a fixed order.
        queries: The queries of each topic; empty for a corpus given by a path.
        problems: What could not be read.
        items: Where each skill came from, in the order of ``skills``; empty for the built-in corpus.
    """

    name: str
    skills: tuple[Skill, ...]
    queries: Mapping[str, tuple[Query, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    items: tuple[Item, ...] = ()

    def __len__(self) -> int:
        return len(self.skills)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the skills' and the queries' text, for the records of runs."""
        digest = hashlib.sha256()
        for skill in self.skills:
            digest.update(skill.text.encode() + b"\0")
        for topic in sorted(self.queries):
            for query in self.queries[topic]:
                digest.update(json.dumps([topic, query.text, query.hints]).encode() + b"\0")
        return digest.hexdigest()

    def where(self, **facets: str) -> tuple[Skill, ...]:
        """The skills whose metadata has these values: ``corpus.where(domain="data", level="expert")``.

        Raises:
            UnknownNameError: A facet that no skill has.
        """
        known = {key for skill in self.skills for key in skill.metadata}
        for facet in facets:
            if facet not in known:
                raise unknown_name("facet of the corpus", facet, known)
        return tuple(s for s in self.skills if all(s.metadata.get(key) == value for key, value in facets.items()))


def load_corpus(path: str | Path | None = None) -> Corpus:
    """The built-in corpus, or one that a path names.

    Texts of strangers come in as they are: screen them first (``hare skills screen PATH``), or collect them with
    ``hare skills collect``, which screens.

    Args:
        path: None for the built-in corpus; else a folder of SKILL.md files, an act/prompt CSV, or JSONL.

    Returns:
        The corpus. Broken files, rows and lines are in its ``problems``.

    Raises:
        DataError: There is nothing at the path, or nothing in it can be read.
        SkillError: A file of the built-in corpus is broken.
    """
    if path is None:
        return _built_in()
    skills, items, problems = [], [], []
    for found in read_collection(path):
        if isinstance(found, Problem):
            problems.append(found)
        else:
            items.append(found)
            skills.append(found.skill)
    if not skills:
        shown = "".join(f"\n  {problem}" for problem in problems[:10]) or " It is empty."
        raise DataError(f"{path}: no skill could be read.{shown}")
    return Corpus(str(path), tuple(skills), {}, tuple(problems), tuple(items))


@lru_cache(maxsize=1)
def _built_in() -> Corpus:
    return load_built_in(FOLDER)


def load_built_in(folder: Path) -> Corpus:
    """Reads and checks a corpus in the layout of the built-in one.

    Args:
        folder: Holds ``skills/<domain>/<name>/SKILL.md`` and, if there are queries, ``queries.yaml``: the ``neutral``
            ones by topic, the ``hinted`` ones by domain and topic.

    Raises:
        SkillError: A file is no valid skill.
        DataError: A skill stands in the wrong place, lacks a facet or shares its name, or a query is broken.
    """
    skills: dict[str, Skill] = {}
    for path in skill_files(folder / "skills"):
        place = path.relative_to(folder).as_posix()
        skill = parse(path.read_bytes(), place, folder=path.parent.name)
        for facet, known in FACETS.items():
            value = skill.metadata.get(facet, "")
            if value not in known:
                raise SkillError(
                    f"{place}: metadata must give its {facet} as one of {', '.join(known)}, not {value!r}."
                )
        if path.parent.parent.name != skill.metadata["domain"]:
            raise SkillError(f"{place}: the domain is {skill.metadata['domain']!r}; it stands in another's folder.")
        if skill.name in skills:
            raise SkillError(f"{place}: the name {skill.name!r} is taken by {skills[skill.name].source}.")
        skills[skill.name] = skill
    ordered = sorted(skills.values(), key=_rank)
    queries: dict[str, list[Query]] = {topic: [] for topic in TOPICS}
    for query in _queries(folder / "queries.yaml"):
        queries[query.topic].append(query)
    return Corpus("built-in", tuple(ordered), {topic: tuple(found) for topic, found in queries.items()})


def _rank(skill: Skill) -> tuple[int, int, int, str]:
    facets = skill.metadata
    return (
        DOMAINS.index(facets["domain"]),
        TOPICS.index(facets["topic"]),
        LEVELS.index(facets["level"]),
        skill.name,
    )


def _queries(path: Path) -> Iterator[Query]:
    if not path.exists():
        return
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise DataError(f"{path.name}: not YAML: {error}") from error
    kinds = _mapping(found, path.name, ("neutral", "hinted"), "kind")
    yield from _by_topic(kinds.get("neutral", {}), f"{path.name}: neutral", ())
    hinted = _mapping(kinds.get("hinted", {}), f"{path.name}: hinted", DOMAINS, "domain")
    for domain, topics in hinted.items():
        yield from _by_topic(topics, f"{path.name}: hinted: {domain}", (domain,))


def _by_topic(found: object, place: str, hints: tuple[str, ...]) -> Iterator[Query]:
    for topic, texts in _mapping(found, place, TOPICS, "topic").items():
        if not isinstance(texts, list):
            raise DataError(f"{place}: {topic}: must be a list of queries, not {texts!r:.60}.")
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{place}: {topic}: query {number} must be words, not {text!r:.60}.")
            yield Query(text, topic, hints)


def _mapping(found: object, place: str, known: tuple[str, ...], kind: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise DataError(f"{place}: must map each {kind} to its queries, not be {found!r:.60}.")
    for key in found:
        if key not in known:
            raise DataError(f"{place}: a {kind} must be one of {', '.join(known)}, not {key!r}.")
    return found
