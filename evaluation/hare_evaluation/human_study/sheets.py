"""Blinded rating sheets from recorded runs: two agents' texts for the same people and needs, and which is which."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hare_evaluation.human_study.design import placements
from hare_evaluation.replaying import replayed
from hare_evaluation.results import Record
from hare_gym.errors import ConfigError, DataError
from hare_gym.text.corpus import DOMAINS, LEVELS, SPECIFICITIES, STYLES
from hare_gym.text.users import Users


@dataclass(frozen=True)
class Written:
    """What was written in one round of a session."""

    user: int
    visit: int
    query: str
    text: str


class _Reading:
    """An environment that keeps the texts that were written in it."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.written: list[Written] = []
        self._visits: dict[int, int] = {}

    @property
    def unwrapped(self) -> Any:
        return self.env.unwrapped

    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        self._asked = observation
        return observation, info

    def step(self, action: Any) -> Any:
        user = int(self._asked["user"])
        self._visits[user] = self._visits.get(user, 0) + 1
        self.written.append(Written(user, self._visits[user], str(self._asked["query_text"]), str(action)))
        answer = self.env.step(action)
        self._asked = answer[0]
        return answer

    def close(self) -> None:
        self.env.close()


def texts_of(record: Record) -> tuple[list[Written], Users]:
    """Plays a record's session again; returns what was written in every round, and who the users were.

    Raises:
        DataError: It is no finished session of one lane in which texts are written, or it went another way.
    """
    reading = replayed(record, lambda env, _: _Reading(env), "Sheets are made")
    users = reading.unwrapped.users
    if not isinstance(users, Users):
        raise DataError(
            f"{record['spec']['env']} has users whom no card describes; sheets are made of HareSkills-v0."
        )
    return reading.written, users


def card(user: Users) -> list[str]:
    """A hidden user in words that a rater can keep in mind."""
    first, second = np.argsort(-user.domains, kind="stable")[:2]
    shares = f"{user.domains[first]:.0%} of the time, and in {DOMAINS[second]} otherwise"
    level = LEVELS[min(int(user.expertise * len(LEVELS)), len(LEVELS) - 1)]
    depth = SPECIFICITIES[min(int(user.specificity * len(SPECIFICITIES)), len(SPECIFICITIES) - 1)]
    return [
        f"works in {DOMAINS[first]} {shares}",
        f"is {'an' if level[0] in 'aeiou' else 'a'} {level} there",
        f"wants texts that are {depth}",
        f"likes the style of a {STYLES[int(np.argmax(user.styles))]}",
    ]


@dataclass(frozen=True)
class Pair:
    """What two agents wrote for one user and need."""

    seed: int
    user: int
    visit: int
    query: str
    person: list[str]
    texts: tuple[str, str]


def pairs(first: Record, second: Record, rounds: int) -> list[list[Pair]]:
    """By user, ``rounds`` of their visits at even distances in which the two agents wrote different texts.

    Raises:
        DataError: The records are of different sessions, or no user came often enough.
    """
    for name in ("env", "env_kwargs", "seed_set", "seed"):
        if first["spec"][name] != second["spec"][name]:
            raise DataError(f"The two records differ in {name}: both agents must have served the same people.")
    (ours, users), (theirs, _) = texts_of(first), texts_of(second)
    by_user: dict[int, list[Pair]] = {}
    for mine, other in zip(ours, theirs, strict=True):
        if mine.text != other.text:
            person = card(users[mine.user])
            by_user.setdefault(mine.user, []).append(
                Pair(first["spec"]["seed"], mine.user, mine.visit, mine.query, person, (mine.text, other.text))
            )
    chosen = [
        [visits[i] for i in np.linspace(0, len(visits) - 1, rounds).astype(int)]
        for _, visits in sorted(by_user.items())
        if len(visits) >= rounds
    ]
    if not chosen:
        raise DataError(f"No user came {rounds} times. Use a longer horizon, fewer users, or fewer rounds.")
    return chosen


def write_study(
    folder: Path,
    conditions: tuple[str, str],
    records: Sequence[tuple[Record, Record]],
    participants: int,
    rounds: int,
    seed: int,
) -> None:
    """Writes ``sheets/<code>.json`` for raters, and ``key.json``, which nobody opens before the last answer.

    Args:
        folder: Of the study; it must not hold one.
        conditions: What the two agents are called.
        records: Runs of both on the same sessions.
        participants: How many sheets; each is about another user.
        rounds: An even number.
        seed: Of the orders.

    Raises:
        ConfigError: There is a study already, or an odd number of rounds.
        DataError: See `pairs`; or there are fewer users than participants.
    """
    if (folder / "key.json").exists():
        raise ConfigError(f"There is a study in {str(folder)!r} already. Give another folder.")
    if rounds < 2 or rounds % 2:
        raise ConfigError(
            f"The number of rounds must be even, so that either text stands left equally often; not {rounds}."
        )
    found: list[list[Pair]] = []
    for first, second in records:
        if len(found) < participants:
            found += pairs(first, second, rounds)
    if len(found) < participants:
        raise DataError(
            f"There are {len(found)} users for {participants} participants. Run more seeds, or ask fewer people."
        )
    rng = np.random.default_rng(seed)
    people = [found[i] for i in rng.permutation(len(found))[:participants]]
    key: dict[str, Any] = {"conditions": conditions, "rounds": rounds, "seed": seed, "sheets": {}}
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    for p, (placed, visits) in enumerate(zip(placements(participants, rounds, rng), people, strict=True), 1):
        code = f"P{p:02d}-{secrets.token_hex(4)}"
        shown, hidden = [], []
        for place in placed:
            pair = visits[place.round]
            left, right = pair.texts if place.first_is_a else pair.texts[::-1]
            shown.append({"query": pair.query, "a": left, "b": right})
            hidden.append({"first_is": "a" if place.first_is_a else "b", "visit": pair.visit, "round": place.round})
        sheet = {"code": code, "person": visits[0].person, "rounds": shown}
        (folder / "sheets" / f"{code}.json").write_text(json.dumps(sheet, indent=1), encoding="utf-8")
        key["sheets"][code] = {"seed": visits[0].seed, "user": visits[0].user, "rounds": hidden}
    key["records"] = [[first["key"], second["key"]] for first, second in records]
    (folder / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")
