"""Collecting skills and prompts of others: read, screened, freed of duplicates, split, written with a manifest.

The output is a function of the sources and the settings alone. A run that was killed is simply run again: what it
had fetched and screened is kept in ``OUT/.work``, and the files it writes have the bytes that an unbroken run gives.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hare_gym.errors import ConfigError, DataError, unknown_name
from hare_gym.text import characters, screening
from hare_gym.text.skills import Skill
from hare_gym.text.sources import Item, Problem, read_collection, spdx

OUTPUT = "skills.jsonl"
MANIFEST = "manifest.json"
SPLITS = ("train", "dev", "test")
_SHINGLE = 5
_NEAR = 0.8


@dataclass(frozen=True)
class PublicSource:
    """A public repository of skills or prompts.

    Attributes:
        repository: ``owner/name`` on GitHub.
        what: What is in it.
        own_licence: Whether only the licence that a skill names itself counts, as the repository says.
    """

    repository: str
    what: str
    own_licence: bool = False

    @property
    def address(self) -> str:
        """Where git finds it."""
        return f"https://github.com/{self.repository}.git"


PUBLIC_SOURCES = {
    "prompts.chat": PublicSource("f/prompts.chat", "prompts for many roles (CC0)"),
    "awesome-copilot": PublicSource("github/awesome-copilot", "skills for programming"),
    "wshobson-agents": PublicSource("wshobson/agents", "skills for software and operations"),
    "jeffallan-skills": PublicSource("Jeffallan/claude-skills", "skills for software"),
    "alirezarezvani-skills": PublicSource("alirezarezvani/claude-skills", "skills for business and engineering"),
    "scientific-skills": PublicSource("K-Dense-AI/claude-scientific-skills", "skills for science", own_licence=True),
    "ai-research-skills": PublicSource("Orchestra-Research/AI-Research-SKILLs", "skills for machine learning"),
    "marketing-skills": PublicSource("coreyhaines31/marketingskills", "skills for marketing"),
    "superpowers": PublicSource("obra/superpowers", "skills for working methods"),
    "openai-skills": PublicSource("openai/skills", "skills for assistants"),
    "anthropic-skills": PublicSource("anthropics/skills", "skills for documents and design"),
}


@dataclass(frozen=True)
class CollectConfig:
    """What to keep of a collection.

    Attributes:
        allow_unknown_licence: Keep texts whose licence is not known.
        drop_review: Leave out what a person should look at, not only what is blocked.
        near: Two texts whose five-word shingles have at least this Jaccard index are near duplicates.
    """

    allow_unknown_licence: bool = False
    drop_review: bool = False
    near: float = _NEAR


@dataclass(frozen=True)
class Dropped:
    """An item that was left out, and why: ``broken``, ``licence``, ``blocked``, ``review``, ``duplicate`` or
    ``near-duplicate``.
    """

    place: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Collection:
    """What :func:`collect` made: the output's records, what was dropped, and the manifest."""

    path: Path
    records: tuple[dict[str, Any], ...]
    dropped: tuple[Dropped, ...]
    manifest: dict[str, Any]


Progress = Callable[[str, int, int], None]


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


def collect(
    sources: Sequence[str], out: str | Path, config: CollectConfig | None = None, progress: Progress = _silent
) -> Collection:
    """Collects skills and prompts into ``OUT/skills.jsonl`` and ``OUT/manifest.json``.

    Args:
        sources: Paths (a folder or checkout of SKILL.md files, an act/prompt CSV, JSONL), names of
            :data:`PUBLIC_SOURCES`, or addresses of git repositories (``https://``, ``ssh://``, ``file://``). Of two
            equal texts the one of the earlier source is kept.
        out: The folder to write to.
        config: What to keep.
        progress: Called with the stage, how much of it is done and how much there is.

    Returns:
        The collection.

    Raises:
        UnknownNameError: A source that is neither a path, nor a name, nor an address.
        DataError: A source cannot be fetched or read, or nothing is left.
    """
    config = config or CollectConfig()
    if not sources:
        raise ConfigError(f"Name at least one source: a path, an address, or one of {', '.join(PUBLIC_SOURCES)}.")
    out = Path(out)
    work = out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    found: list[Item | Problem] = []
    for number, source in enumerate(sources):
        progress("reading", number, len(sources))
        found += _read_source(source, work)
    progress("reading", len(sources), len(sources))
    dropped = [Dropped(problem.place, "broken", problem.message) for problem in found if isinstance(problem, Problem)]
    items = _unique([item for item in found if isinstance(item, Item)], dropped)
    items = _licensed(items, config, dropped)
    verdicts = _screened(items, work / "screened.jsonl", progress)
    items = _passed(items, verdicts, config, dropped)
    items = _without_duplicates(items, config.near, dropped, progress)
    if not items:
        raise DataError(f"Nothing is left of {len(found)} texts: {_counts(entry.reason for entry in dropped)}.")
    held_out = split_of_sources(Counter(item.source for item in items))
    records = sorted(
        (_as_record(item, verdicts[item.id], held_out) for item in items), key=lambda record: record["id"]
    )
    lines = "".join(json.dumps(record, ensure_ascii=False, sort_keys=True) + "\n" for record in records)
    manifest = _manifest(sources, config, found, records, dropped, hashlib.sha256(lines.encode()).hexdigest())
    _write(out / OUTPUT, lines)
    _write(out / MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True) + "\n")
    return Collection(out / OUTPUT, tuple(records), tuple(dropped), manifest)


def _counts(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


# Reading and fetching


def _read_source(source: str, work: Path) -> list[Item | Problem]:
    if re.match(r"(?:https|ssh|file)://|git@", source):
        name = re.sub(r"\.git/?$", "", source).rstrip("/")
        name = "/".join(re.split(r"[/:]", name)[-2:])
        return _checkout(name, source, work)
    if source in PUBLIC_SOURCES:
        public = PUBLIC_SOURCES[source]
        found = _checkout(public.repository, public.address, work)
        return [_own_licence_only(entry) for entry in found] if public.own_licence else found
    if Path(source).exists():
        commit = _commit(Path(source)) if (Path(source) / ".git").exists() else ""
        return list(read_collection(source, commit=commit))
    if re.fullmatch(r"[\w.-]+", source):
        raise unknown_name("source", source, PUBLIC_SOURCES, "A path must exist.")
    raise DataError(f"There is no file or folder {source!r}.")


def _own_licence_only(entry: Item | Problem) -> Item | Problem:
    return replace(entry, license=spdx(entry.skill.license)) if isinstance(entry, Item) else entry


def _checkout(name: str, address: str, work: Path) -> list[Item | Problem]:
    folder = (
        work / "checkouts" / re.sub(r"[^\w.-]", "_", f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:8]}")
    )
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            fresh = Path(temporary) / "fresh"
            _clone(address, fresh)
            fresh.rename(folder)  # whole or not at all
    return list(read_collection(folder, name, _commit(folder)))


def _clone(address: str, folder: Path) -> None:
    """A shallow clone. Nothing of the repository is run: no hooks, no large-file filters, no symbolic links."""
    git = shutil.which("git")
    if git is None:
        raise DataError(f"git is needed to fetch {address}. Install it, or give the path of a checkout.")
    options = ["-c", "core.symlinks=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never"]
    command = [git, *options, "clone", "--quiet", "--depth", "1", "--no-tags", "--", address, str(folder)]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"{address} could not be fetched within 10 minutes. {_OFFLINE}") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["git gave no reason"])[-1]
        raise DataError(f"{address} could not be fetched: {reason}. {_OFFLINE}")


_OFFLINE = "Without a network, give the path of a checkout that was made elsewhere."


def _commit(folder: Path) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "-c", f"safe.directory={folder.resolve()}", "-C", str(folder), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


# Choosing


def _place(item: Item) -> str:
    return f"{item.source}: {item.path}"


def _unique(items: list[Item], dropped: list[Dropped]) -> list[Item]:
    kept: dict[str, Item] = {}
    for item in items:
        if item.id in kept:
            dropped.append(Dropped(_place(item), "duplicate", "the same source and path came before"))
        else:
            kept[item.id] = item
    return list(kept.values())


def _licensed(items: list[Item], config: CollectConfig, dropped: list[Dropped]) -> list[Item]:
    kept = []
    for item in items:
        if item.license or config.allow_unknown_licence:
            kept.append(item)
        else:
            named = item.skill.license
            detail = f"{named[:60]!r} is no SPDX licence that is known" if named else "no licence is named for it"
            dropped.append(Dropped(_place(item), "licence", detail))
    return kept


def _screened(items: list[Item], cache: Path, progress: Progress) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Verdict and rules of each item. What an earlier run screened with the same rules is not screened again."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in (screening, characters))
    version = hashlib.sha256(code).hexdigest()[:16]
    known = {}
    for line in cache.read_text(encoding="utf-8").splitlines() if cache.exists() else ():
        try:
            key, verdict, rules = json.loads(line)
            known[str(key)] = (str(verdict), tuple(map(str, rules)))
        except (ValueError, TypeError):  # the last line of a run that was killed
            continue
    verdicts = {}
    with cache.open("a", encoding="utf-8") as file:
        file.write("\n")
        for number, item in enumerate(items):
            key = f"{version}-{hashlib.sha256(item.raw.encode()).hexdigest()}"
            if key not in known:
                result = screening.screen(item.raw)
                known[key] = (result.verdict, tuple(sorted({finding.rule for finding in result.findings})))
                file.write(json.dumps([key, *known[key]]) + "\n")
            verdicts[item.id] = known[key]
            progress("screening", number + 1, len(items))
    return verdicts


def _passed(
    items: list[Item],
    verdicts: dict[str, tuple[str, tuple[str, ...]]],
    config: CollectConfig,
    dropped: list[Dropped],
) -> list[Item]:
    kept = []
    for item in items:
        verdict, rules = verdicts[item.id]
        if verdict == "block" or (verdict == "review" and config.drop_review):
            reason = "blocked" if verdict == "block" else "review"
            dropped.append(Dropped(_place(item), reason, ", ".join(rules)))
        else:
            kept.append(item)
    return kept


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The runs of five words of a text, in lower case; a shorter text is one run."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1) if words else 0))


def near_duplicates(sets: Sequence[frozenset[Any]], threshold: float = _NEAR) -> Iterator[tuple[int, int, float]]:
    """Goes through sets in order and finds each that is nearly one that was kept before. Exact.

    Two sets with a Jaccard index of at least t share an element among the first |A| - ceil(t |A|) + 1 of each, in any
    common order (prefix filter; Chaudhuri, Ganti and Kaushik, 2006); with rare elements first few pairs are compared.

    Args:
        sets: The shingles of each text. An empty set is never a duplicate.
        threshold: The Jaccard index from which on two sets are near duplicates.

    Yields:
        ``(index, index of the kept one, Jaccard index)`` of each set that is not kept.
    """
    frequency = Counter(element for found in sets for element in found)
    index: dict[Any, list[int]] = {}
    for i, found in enumerate(sets):
        if not found:
            continue
        ordered = sorted(found, key=lambda element: (frequency[element], element))
        prefix = ordered[: len(ordered) - math.ceil(threshold * len(ordered) - 1e-9) + 1]
        candidates = sorted({j for element in prefix for j in index.get(element, ())})
        best = None
        for j in candidates:
            if min(len(found), len(sets[j])) < threshold * max(len(found), len(sets[j])):
                continue
            shared = len(found & sets[j])
            jaccard = shared / (len(found) + len(sets[j]) - shared)
            if jaccard >= threshold and (best is None or jaccard > best[1]):
                best = (j, jaccard)
        if best:
            yield i, *best
        else:
            for element in prefix:
                index.setdefault(element, []).append(i)


def _without_duplicates(
    items: list[Item], threshold: float, dropped: list[Dropped], progress: Progress
) -> list[Item]:
    progress("comparing", 0, len(items))
    sets = [shingles(item.skill.body) for item in items]
    gone = {}
    for i, j, jaccard in near_duplicates(sets, threshold):
        same = " ".join(items[i].skill.body.split()) == " ".join(items[j].skill.body.split())
        gone[i] = Dropped(
            _place(items[i]),
            "duplicate" if same else "near-duplicate",
            f"of {_place(items[j])}" + ("" if same else f" (Jaccard {jaccard:.2f})"),
        )
    dropped += gone.values()
    progress("comparing", len(items), len(items))
    return [item for i, item in enumerate(items) if i not in gone]


# Splitting and writing


def split_of_name(name: str) -> str:
    """The split of a text by the hash of its skill's name: 80% train, 10% dev, 10% test.

    Texts that share a name stay on one side.
    """
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.8 else "dev" if share < 0.9 else "test"


def split_of_sources(sizes: dict[str, int]) -> dict[str, str]:
    """The split of each source, whole: by the hash of its name, test and then dev get a tenth of the texts or more.

    A source that holds more than a fifth of all texts is always in train, and with fewer than three sources all are.
    """
    total = sum(sizes.values())
    splits = dict.fromkeys(sizes, "train")
    if len(sizes) < 3:
        return splits
    movable = sorted(
        (source for source, size in sizes.items() if size <= total / 5),
        key=lambda source: hashlib.sha256(source.encode()).digest(),
    )
    for split in ("test", "dev"):
        filled = 0
        while movable and filled < total / 10 and sum(s == "train" for s in splits.values()) > 1:
            source = movable.pop()
            splits[source] = split
            filled += sizes[source]
    return splits


def _as_record(item: Item, verdict: tuple[str, tuple[str, ...]], held_out: dict[str, str]) -> dict[str, Any]:
    skill: Skill = item.skill
    return {
        "id": item.id,
        "source_repo": item.source,
        "source_path": item.path,
        "source_commit": item.commit,
        "license": item.license,
        "kind": item.kind,
        "name": skill.name,
        "title": skill.title,
        "description": skill.description,
        "triggers": list(skill.triggers),
        "instructions": skill.body,
        "examples": list(skill.examples),
        "metadata": dict(skill.metadata),
        "format_errors": list(item.format_errors),
        "verdict": verdict[0],
        "flags": list(verdict[1]),
        "split": split_of_name(skill.name),
        "split_by_source": held_out[item.source],
        "raw_sha256": hashlib.sha256(item.raw.encode()).hexdigest(),
    }


def _manifest(
    sources: Sequence[str],
    config: CollectConfig,
    found: Sequence[Item | Problem],
    records: Sequence[dict[str, Any]],
    dropped: Sequence[Dropped],
    digest: str,
) -> dict[str, Any]:
    def count(field: str) -> dict[str, int]:
        return _counts(record[field] or "unknown" for record in records)

    return {
        "schema": 1,
        "sources": list(sources),
        "commits": dict(
            sorted({r["source_repo"]: r["source_commit"] for r in records if r["source_commit"]}.items())
        ),
        "settings": {
            "allow_unknown_licence": config.allow_unknown_licence,
            "drop_review": config.drop_review,
            "near": config.near,
        },
        "split": "by the hash of the skill's name: 80% train, 10% dev, 10% test",
        "split_by_source": "whole sources, by the hash of their names; test and dev get a tenth of the texts or more",
        "read": len(found),
        "kept": len(records),
        "sha256": digest,
        "counts": {
            "license": count("license"),
            "source": count("source_repo"),
            "kind": count("kind"),
            "verdict": count("verdict"),
            "split": count("split"),
            "split_by_source": count("split_by_source"),
            "dropped": _counts(entry.reason for entry in dropped),
        },
        "dropped": [{"place": d.place, "reason": d.reason, "detail": d.detail} for d in dropped],
    }


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
