"""Agent Skills: reading, checking and writing SKILL.md files.

The format is the published Agent Skills specification (https://agentskills.io/specification): YAML frontmatter
between two lines of three hyphens, then Markdown. A :class:`Skill` is valid by construction, so whatever
:func:`render` writes is valid as well, and ``parse(render(skill)) == skill``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import yaml

from hare_gym.errors import DataError
from hare_gym.text.characters import character_name, invisible

MAX_BYTES = 256_000
MAX_NAME = 64
MAX_DESCRIPTION = 1024
MAX_COMPATIBILITY = 500
MAX_BODY_LINES = 500
MAX_KEY = 200
KEYS = ("name", "description", "license", "compatibility", "allowed-tools", "metadata")

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_WHEN = re.compile(r"\b(?:when|whenever|while|before|after|if|for|use (?:this|it|to)|triggers?)\b", re.IGNORECASE)
_FENCE = re.compile(r"^---[ \t]*$", re.MULTILINE)
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_MAX_DEPTH = 8
_TOO_DEEP = f"Values are nested deeper than {_MAX_DEPTH} levels."


class SkillError(DataError):
    """A text that is no valid skill.

    Attributes:
        violations: Everything that is wrong with it, in the order of the lines.
    """

    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, order=True)
class Violation:
    """One breach of the format.

    Attributes:
        line: The line in the file, from 1.
        rule: The rule's short name; docs/skills.md lists them all.
        message: What is wrong and how to mend it.
        severity: ``"error"`` (the file is no valid skill) or ``"warning"`` (advice of the specification).
    """

    line: int
    rule: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Skill:
    """A valid Agent Skill.

    Title, triggers, instructions and examples are read from the body, which is the one truth about them.

    Attributes:
        name: 1 to 64 lower-case letters, digits and single hyphens.
        description: 1 to 1,024 characters that say what it does and when to use it.
        body: The Markdown under the frontmatter, without blank lines around it.
        license: As the frontmatter has it, an SPDX identifier at best; empty when there is none.
        compatibility: At most 500 characters on what it needs; empty when there is none.
        allowed_tools: Tools that it may use without asking, separated by spaces; empty when there are none.
        metadata: Any further facts, strings by strings.
        source: Where it came from. Not part of the skill: two skills that differ in it alone are equal.
    """

    name: str
    description: str
    body: str
    license: str = ""
    compatibility: str = ""
    allowed_tools: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("name", "description", "license", "compatibility", "allowed_tools"):
            object.__setattr__(self, name, _newlines(getattr(self, name)).strip())
        object.__setattr__(self, "body", _trimmed(_newlines(self.body)))
        object.__setattr__(self, "metadata", dict(self.metadata))
        violations = [
            *_hidden(f"{self.name}\n{self.description}\n{self.license}\n{self.compatibility}\n{self.allowed_tools}"),
            *_hidden("\n".join(f"{key} {value}" for key, value in self.metadata.items())),
            *_hidden(self.body),
            *_field_violations(self),
        ]
        if len(self.body) > MAX_BYTES // 4 and len(render(self).encode()) > MAX_BYTES:
            violations.append(_too_large(len(render(self).encode())))
        raise_violations([v for v in violations if v.severity == "error"], self.source or f"the skill {self.name!r}")

    @cached_property
    def title(self) -> str:
        """The first heading of level 1, or the name."""
        return next((s.heading for s in self._sections if s.level == 1), self.name)

    @cached_property
    def triggers(self) -> tuple[str, ...]:
        """The bullets under "When to use", or else the sentences of the description that say when."""
        bullets = [
            bullet for s in self._sections if _TRIGGER_HEADING.search(s.heading) for bullet in _bullets(s.text)
        ]
        return tuple(bullets or re.findall(r"\bUse (?:when|this|it|for)\b[^.]*\.?", self.description))

    @cached_property
    def instructions(self) -> str:
        """The section "Instructions", or else the body without its title, triggers and examples."""
        for section in self._tree:
            if re.fullmatch(r"instructions?", section.heading, re.IGNORECASE):
                return section.text.strip()
        kept = [s for s in self._tree if not (_TRIGGER_HEADING.search(s.heading) or _is_example(s.heading))]
        return "\n\n".join(s.whole.strip() for s in kept if s.whole.strip())

    @cached_property
    def examples(self) -> tuple[str, ...]:
        """The sections headed "Example" or "Usage"; one with several marked requests is parted at them."""
        found: list[str] = []
        for section in self._tree:
            if _is_example(section.heading):
                parts = re.split(r"^(?=\*\*Request:\*\*)", section.text, flags=re.MULTILINE)
                found += [part.strip() for part in parts if part.strip()]
        return tuple(found)

    @cached_property
    def text(self) -> str:
        """The whole file, as :func:`render` writes it."""
        return render(self)

    @cached_property
    def _sections(self) -> tuple[Section, ...]:
        return tuple(sections(self.body))

    @cached_property
    def _tree(self) -> tuple[Section, ...]:
        """Sections of the highest level under the title, each with what is nested in it."""
        levels = [s.level for s in self._sections if s.level > 1]
        top = min(levels, default=2)
        merged: list[Section] = []
        for section in self._sections:
            if section.level > top and merged and merged[-1].level >= top:
                last = merged[-1]
                merged[-1] = replace(last, text=f"{last.text}\n{section.whole}")
            else:
                # a title is no part of the instructions, the text under it is
                merged.append(replace(section, level=0, heading="") if section.level == 1 else section)
        return tuple(merged)


@dataclass(frozen=True)
class Section:
    """A heading of a Markdown text and what stands under it, up to the next heading of any level.

    Attributes:
        level: 1 to 6; 0 for what stands before the first heading.
        heading: Without the number signs.
        text: The lines under it.
    """

    level: int
    heading: str
    text: str

    @property
    def whole(self) -> str:
        """The heading, if any, and the text."""
        return f"{'#' * self.level} {self.heading}\n{self.text}" if self.level else self.text


_TRIGGER_HEADING = re.compile(
    r"^(?:when (?:to|should|you)\b.*|triggers?|use (?:when|this|cases?)\b.*)$", re.IGNORECASE
)


def _is_example(heading: str) -> bool:
    return bool(re.match(r"(?:worked )?examples?\b|usage\b", heading, re.IGNORECASE))


def sections(body: str) -> Iterator[Section]:
    """Splits Markdown at its ATX headings; number signs inside fenced code are no headings.

    Args:
        body: Markdown with LF line ends.

    Yields:
        The sections in order; the text before the first heading, if there is any, has level 0.
    """
    level, heading, lines, fence = 0, "", [], ""
    for line in body.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1].startswith(fence) and not mark[2].strip():
            fence = ""
        found = None if fence or mark else re.match(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$", line)
        if not found:
            lines.append(line)
            continue
        if level or any(lines):
            yield Section(level, heading, "\n".join(lines))
        level, heading, lines = len(found[1]), found[2], []
    if level or any(lines):
        yield Section(level, heading, "\n".join(lines))


def _bullets(text: str) -> list[str]:
    """The bullets of the outer list, each on one line."""
    found: list[str] = []
    for line in text.split("\n"):
        bullet = re.match(r" {0,3}[-*+][ \t]+(?:\[[ xX]\][ \t]+)?(.*\S)", line)
        if bullet:
            found.append(bullet[1])
        elif found and line.strip() and line[0] in " \t" and not re.match(r"\s*[-*+] ", line):
            found[-1] += " " + line.strip()
    return found


def make_skill(
    name: str,
    description: str,
    *,
    title: str,
    instructions: str,
    triggers: Sequence[str] = (),
    examples: Sequence[str] = (),
    **frontmatter: Any,
) -> Skill:
    """Puts a skill's body together in the layout of the built-in corpus.

    Args:
        name: The skill's name.
        description: What it does and when to use it.
        title: The heading of level 1.
        instructions: Markdown; headings in it should be of level 3 or deeper.
        triggers: The bullets of "When to use".
        examples: Markdown, one entry an example; several should each begin with ``**Request:**``.
        frontmatter: ``license``, ``compatibility``, ``allowed_tools``, ``metadata`` and ``source`` of the skill.

    Raises:
        SkillError: A part breaks a rule of the format.
    """
    parts = [f"# {title}"]
    if triggers:
        parts.append("## When to use\n\n" + "\n".join(f"- {trigger}" for trigger in triggers))
    parts.append(f"## Instructions\n\n{instructions.strip()}")
    if examples:
        parts.append("## Examples\n\n" + "\n\n".join(example.strip() for example in examples))
    return Skill(name, description, "\n\n".join(parts), **frontmatter)


def render(skill: Skill) -> str:
    """The skill as the text of a SKILL.md file, ending with a line end."""
    values = {
        "name": skill.name,
        "description": skill.description,
        "license": skill.license,
        "compatibility": skill.compatibility,
        "allowed-tools": skill.allowed_tools,
    }
    lines = ["---", *(f"{key}: {_scalar(value)}" for key, value in values.items() if value)]
    if skill.metadata:
        lines += ["metadata:", *(f"  {_scalar(key)}: {_scalar(value)}" for key, value in skill.metadata.items())]
    body = f"\n{skill.body}\n" if skill.body else ""
    return "\n".join([*lines, "---", body])


# What YAML 1.1 readers would take for something else than a string begins with a digit or a sign, or is one of these.
_RESERVED = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,.;()/'_+-]*[A-Za-z0-9.)]")


def _scalar(value: str) -> str:
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED and len(value) > 1:
        return value
    # a JSON string is a YAML string as well, once what YAML calls unprintable is escaped
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def parse(text: str | bytes, source: str = "", *, folder: str | None = None, lenient: bool = False) -> Skill:
    """Reads a SKILL.md.

    Args:
        text: The file's text, or its bytes.
        source: Where it came from, for messages and kept in the skill.
        folder: The name of the file's folder, which must be the skill's name; None where it is not known.
        lenient: Mend what can be mended: drop unknown keys and unseen characters, make a name of the folder's or the
            title, shorten what is too long. What remains wrong still raises.

    Returns:
        The skill.

    Raises:
        SkillError: The text is no valid skill; the message names each line and rule.
    """
    values, violations = _read(text, folder)
    if lenient and not any(v.rule in _FATAL for v in violations):
        return _mended(values, source, folder)
    raise_violations([v for v in violations if v.severity == "error"], source or "the skill")
    return Skill(**values, source=source)


def validate(text: str | bytes, folder: str | None = None) -> list[Violation]:
    """Everything that is wrong with a SKILL.md, in the order of its lines. Never raises on bad text.

    Args:
        text: The file's text, or its bytes.
        folder: The name of the file's folder, which must be the skill's name; None where it is not known.
    """
    return sorted(_read(text, folder)[1])


def raise_violations(violations: Sequence[Violation], source: str) -> None:
    """Raises a :class:`SkillError` that names the violations, if there are any.

    Raises:
        SkillError: ``violations`` is not empty.
    """
    if violations:
        shown = "; ".join(map(str, sorted(violations)[:5]))
        more = f"; and {len(violations) - 5} more" if len(violations) > 5 else ""
        error = SkillError(f"{source} is not a valid skill: {shown}{more}")
        error.violations = tuple(sorted(violations))
        raise error


# Without a frontmatter that can be read there is nothing to mend.
_FATAL = {
    "size",
    "encoding",
    "empty",
    "frontmatter-missing",
    "frontmatter-open",
    "yaml",
    "alias",
    "tag",
    "nesting",
    "duplicate-key",
}


def _read(data: str | bytes, folder: str | None) -> tuple[dict[str, Any], list[Violation]]:
    """The values of a skill's fields as far as they can be read, and the violations."""
    decoded, violations = _decoded(data)
    if decoded is None:
        return {}, violations
    text = _newlines(decoded)
    if text.startswith("\ufeff"):
        text = text[1:]
        violations.append(
            Violation(1, "byte-order-mark", "The file begins with a byte-order mark. Save it as UTF-8 without one.")
        )
    violations += _hidden(text)
    if not text.strip():
        violations.append(Violation(1, "empty", "The file is empty. Begin it with ---, name and description."))
        return {}, violations
    opening = _FENCE.match(text)
    if not opening:
        violations.append(
            Violation(1, "frontmatter-missing", f"The first line must be ---, not {text.split(chr(10))[0][:40]!r}.")
        )
        return {}, violations
    closing = _FENCE.search(text, opening.end())
    if not closing:
        violations.append(Violation(1, "frontmatter-open", "No second line --- ends the frontmatter."))
        return {}, violations
    entries, broken = _mapping(text[opening.end() + 1 : closing.start()])
    violations += broken
    values: dict[str, Any] = {"body": text[closing.end() + 1 :]}
    if broken and broken[-1].rule in _FATAL:
        return values, violations
    body_line = text.count("\n", 0, closing.end()) + 2
    return values, violations + _fields(entries, values, folder, body_line)


def _decoded(data: str | bytes) -> tuple[str | None, list[Violation]]:
    if isinstance(data, str):
        if len(data) > MAX_BYTES:
            return None, [_too_large(len(data))]
        try:
            data = data if data.isascii() else data.encode()
        except UnicodeEncodeError as error:
            line = str(data).count("\n", 0, error.start) + 1
            return None, [
                Violation(line, "encoding", f"Character {error.start} is half of a surrogate pair, not text.")
            ]
    if len(data) > MAX_BYTES:
        return None, [_too_large(len(data))]
    if isinstance(data, str):
        return data, []
    try:
        return data.decode(), []
    except UnicodeDecodeError as error:
        message = f"Byte {error.start} (0x{data[error.start]:02x}) is not UTF-8. Save the file as UTF-8."
        return None, [Violation(data.count(b"\n", 0, error.start) + 1, "encoding", message)]


def _too_large(size: int) -> Violation:
    message = f"The file has {size:,} bytes; at most {MAX_BYTES:,} are read. Move material to files of its own."
    return Violation(1, "size", message)


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _trimmed(body: str) -> str:
    """Without blank lines at either end; the indentation of the first line is kept, as it means code."""
    lines = body.rstrip().split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    return "\n".join(lines[first:])


def _hidden(text: str) -> list[Violation]:
    """One violation for each unseen character, at the first line that has it."""
    places: dict[str, list[int]] = {}
    for position, char in invisible(text):
        places.setdefault(char, []).append(position)
    return [
        Violation(
            text.count("\n", 0, at[0]) + 1,
            "hidden-character",
            f"{character_name(char)} stands in the text {len(at)} time{'s' * (len(at) > 1)}. Take it out.",
        )
        for char, at in places.items()
    ]


def _mapping(block: str) -> tuple[dict[str, tuple[int, Any]], list[Violation]]:
    """The frontmatter as ``{key: (line, value)}``; every scalar stays a string.

    Built from the parser's events, so that an alias is an error and is never expanded.
    """
    entries: dict[str, tuple[int, Any]] = {}
    violations: list[Violation] = []
    try:
        events = _Events(block)
        if events.kind() is not yaml.MappingStartEvent:
            if events.kind() is not yaml.StreamEndEvent or block.strip():
                violations.append(Violation(2, "yaml", "The frontmatter must be lines of the form key: value."))
            return entries, violations
        events.next()
        while events.kind() is not yaml.MappingEndEvent:
            line = events.line()
            key = _node(events, 1)
            value = _node(events, 1)
            if not isinstance(key, str):
                raise _Stop(Violation(line, "yaml", "A key of the frontmatter must be a word."))
            if key in entries:
                message = f"{key!r} stands twice (first on line {entries[key][0]}). Keep one."
                raise _Stop(Violation(line, "duplicate-key", message))
            entries[key] = (line, value)
        events.next()
        if events.kind() is not yaml.StreamEndEvent:
            raise _Stop(Violation(events.line(), "yaml", "The frontmatter must be one YAML document."))
    except _Stop as stop:
        violations.append(stop.violation)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 2 if error.problem_mark else 2
        problem = " ".join(filter(None, (error.context, error.problem)))
        if "nesting depth" in problem:  # newer builds of libyaml stop by themselves
            violations.append(Violation(line, "nesting", _TOO_DEEP))
            return entries, violations
        message = f"The frontmatter is not YAML: {problem}. Put text with a colon or a number sign in quotes."
        violations.append(Violation(line, "yaml", message))
    except yaml.YAMLError as error:
        violations.append(Violation(2, "yaml", f"The frontmatter is not YAML: {str(error).splitlines()[0]}."))
    return entries, violations


class _Stop(Exception):
    def __init__(self, violation: Violation) -> None:
        self.violation = violation


class _Events:
    """The parser's events from the first node on, one looked ahead."""

    def __init__(self, block: str) -> None:
        self._events = (
            event
            for event in yaml.parse(block, Loader=_Loader)
            if not isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent | yaml.DocumentEndEvent)
        )
        self.current: Any = next(self._events)

    def kind(self) -> type:
        return type(self.current)

    def line(self) -> int:
        return int(self.current.start_mark.line) + 2

    def next(self) -> Any:
        event = self.current
        line = self.line()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Stop(Violation(line, "alias", "Anchors (&) and aliases (*) are refused. Write the value out."))
        if getattr(event, "tag", None):
            raise _Stop(Violation(line, "tag", f"The YAML tag {event.tag!r} is refused. Write plain text."))
        self.current = next(self._events)
        return event


def _node(events: _Events, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise _Stop(Violation(events.line(), "nesting", _TOO_DEEP))
    line = events.line()
    event = events.next()
    if isinstance(event, yaml.ScalarEvent):
        return event.value
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while events.kind() is not yaml.SequenceEndEvent:
            items.append(_node(events, depth + 1))
        events.next()
        return items
    mapping: dict[str, Any] = {}
    while events.kind() is not yaml.MappingEndEvent:
        line = events.line()
        key = _node(events, depth + 1)
        key = key if isinstance(key, str) else json.dumps(key, ensure_ascii=False)
        if key in mapping:
            raise _Stop(Violation(line, "duplicate-key", f"{key!r} stands twice. Keep one."))
        mapping[key] = _node(events, depth + 1)
    events.next()
    return mapping


def _fields(
    entries: Mapping[str, tuple[int, Any]], values: dict[str, Any], folder: str | None, body_line: int
) -> list[Violation]:
    """Moves the frontmatter's entries into ``values`` and gives what is wrong with them and with the body."""
    violations = [
        Violation(line, "unknown-key", f"{key!r} is no key of a skill. Move it under metadata. {_known_keys()}")
        for key, (line, _) in entries.items()
        if key not in KEYS
    ]
    lines = {}
    for key in KEYS[:-1]:
        line, value = entries.get(key, (1, ""))
        field_name = key.replace("-", "_")
        lines[field_name] = line
        if isinstance(value, list) and key == "allowed-tools" and all(isinstance(word, str) for word in value):
            violations.append(
                Violation(line, "allowed-tools-list", "allowed-tools is one line with spaces.", "warning")
            )
            value = " ".join(value)
        elif not isinstance(value, str):
            violations.append(Violation(line, f"{key}-text", f"{key} must be text, not a list or a mapping."))
            value = ""
        values[field_name] = value.strip()
    line, metadata = entries.get("metadata", (1, {}))
    if metadata == "":
        metadata = {}
    if not isinstance(metadata, dict):
        violations.append(Violation(line, "metadata-mapping", "metadata must be lines of the form key: value."))
        metadata = {}
    nested = [key for key, value in metadata.items() if not isinstance(value, str)]
    if nested:
        message = f"metadata must map words to text; {nested[0]!r} holds a list or a mapping."
        violations.append(Violation(line, "metadata-values", message, "warning"))
    values["metadata"] = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    values["body"] = _trimmed(values["body"])
    told = {v.rule.removesuffix("-text") for v in violations}
    for violation in _field_violations(_Fields(values)):
        field_name = violation.rule.rsplit("-", 1)[0].replace("-", "_")
        if field_name in told:
            continue
        at = body_line if field_name == "body" else lines.get(field_name, 1)
        violations.append(replace(violation, line=at))
    if folder is not None and values["name"] and values["name"] != folder:
        message = f"The name {values['name']!r} must be that of the folder, {folder!r}."
        violations.append(Violation(lines["name"], "name-folder", message))
    return violations


class _Fields:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)


def _known_keys() -> str:
    return f"Known: {', '.join(KEYS)}."


def _field_violations(skill: Any) -> Iterator[Violation]:
    """What is wrong with the fields of a skill; the lines are for the caller to set."""
    name, description = skill.name, skill.description
    if not name:
        yield Violation(1, "name-missing", "There is no name. Add a line such as name: write-unit-tests.")
    elif len(name) > MAX_NAME:
        yield Violation(1, "name-length", f"The name has {len(name)} characters; at most {MAX_NAME} are allowed.")
    if name and not NAME.fullmatch(name):
        message = (
            f"The name {name[:80]!r} may have lower-case letters a to z, digits, and single hyphens between them."
        )
        yield Violation(1, "name-pattern", message)
    if not description:
        yield Violation(
            1, "description-missing", "There is no description. Say what the skill does and when to use it."
        )
    elif len(description) > MAX_DESCRIPTION:
        message = f"The description has {len(description):,} characters; at most {MAX_DESCRIPTION:,} are allowed."
        yield Violation(1, "description-length", message)
    elif not _WHEN.search(description):
        message = "The description does not say when to use the skill. Add a sentence: Use when ..."
        yield Violation(1, "description-when", message, "warning")
    if len(skill.compatibility) > MAX_COMPATIBILITY:
        message = f"compatibility has {len(skill.compatibility)} characters; at most {MAX_COMPATIBILITY} are allowed."
        yield Violation(1, "compatibility-length", message)
    if any(len(key) > MAX_KEY for key in skill.metadata):
        yield Violation(1, "metadata-key", f"A key under metadata has more than {MAX_KEY} characters. Shorten it.")
    if not skill.body:
        yield Violation(1, "body-empty", "There are no instructions under the frontmatter.", "warning")
    lines = skill.body.count("\n") + 1
    if lines >= MAX_BODY_LINES:
        message = (
            f"The body has {lines} lines; under {MAX_BODY_LINES} are advised. Move details to files of their own."
        )
        yield Violation(1, "body-lines", message, "warning")


def slug(text: str, default: str = "skill") -> str:
    """A valid name made from any text, ``default`` where nothing of the text can be kept."""
    import unicodedata

    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_NAME].rstrip("-") or default


def shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters, cut after a sentence or at least between words."""
    text = text.strip()
    if len(text) <= limit:
        return text
    cut = text[:limit]
    for end in (cut.rfind(". ") + 1, cut.rfind(" ")):
        if end > limit // 2:
            return cut[:end].strip()
    return cut.strip()


def seen(text: str) -> str:
    """The text without the characters that nobody sees, with LF line ends."""
    text = _newlines(text)
    hidden = {position for position, _ in invisible(text)}
    return "".join(char for i, char in enumerate(text) if i not in hidden) if hidden else text


def _mended(values: Mapping[str, Any], source: str, folder: str | None) -> Skill:
    fixed: dict[str, Any] = {key: seen(value) if isinstance(value, str) else value for key, value in values.items()}
    fixed["metadata"] = {seen(key)[:MAX_KEY]: seen(value) for key, value in values["metadata"].items()}
    title = next((s.heading for s in sections(fixed["body"]) if s.level == 1), "")
    fixed["name"] = slug(fixed["name"] or folder or title)
    fixed["description"] = shortened(fixed["description"] or title, MAX_DESCRIPTION)
    fixed["compatibility"] = shortened(fixed["compatibility"], MAX_COMPATIBILITY)
    return Skill(**fixed, source=source)
