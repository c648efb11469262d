"""``HareStudyPlan-v0``: somebody wants to learn something in so many hours; the answer is a plan of study.

`hare_gym.text.courses` has the catalogue, the needs and plans as texts, its ``measure`` says what a plan is in
numbers, its ``compose`` puts plans together. Here are the hidden learners and the reward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.text.courses import (
    ALL_WEEK,
    AREAS,
    FORMATS,
    LEVELS,
    SUBJECTS,
    Catalogue,
    Entry,
    Sheet,
    Unit,
    load_catalogue,
    read_plan,
)
from hare_gym.text.courses.compose import Assembler, Request, ready_made
from hare_gym.text.courses.measure import (
    BLOCKS,
    CONTENT_DIM,
    DEPTH_RANGE,
    HOURS_RANGE,
    LEVEL_RANGE,
    LEVEL_WISH,
    PACE_RANGE,
    SCALES,
    TOTAL,
    WEIGHTS,
    arc,
    content,
    gaps_block,
    measured_blocks,
)
from hare_gym.text.domain import Content, Measured, Population, Separable, TextConfig, inner
from hare_gym.text.engine import TextEnvironment, TextVectorEnvironment

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

REWARD_VERSION = "study-plan-1"
# What a breach leaves of the validity.
_BREACH = 0.3
_BY_NEED = ("validity", "subject", "level", "hours")
_BY_USER = ("gaps", "formats", "pace", "depth", "safety")
# Columns of `Measured.facts`: hours in all, hours of the fullest week, missing prerequisites that the basics of each
# subject would provide, and other missing ones.
_HOURS, _WEEK, _BASICS, _OTHERS = 0, 1, slice(2, 2 + len(SUBJECTS)), 2 + len(SUBJECTS)
_FACTS = _OTHERS + 1


@dataclass(frozen=True, eq=False)
class Plan(Measured):
    """A plan, measured. `entries` is what its lines say, in their order."""

    entries: tuple[Entry, ...] = ()


def _facts(sheet: Sheet, catalogue: Catalogue) -> Array:
    facts = np.zeros(_FACTS)
    facts[_HOURS], facts[_WEEK] = sum(entry.hours for entry in sheet.entries), sheet.fullest()
    there = {entry.unit.id for entry in sheet.entries}
    for id in {id for entry in sheet.entries for id in entry.unit.prerequisites} - there:
        unit = catalogue.by_id[id]
        facts[2 + SUBJECTS.index(unit.subject) if unit.level == 1 and not unit.area else _OTHERS] += 1.0
    return facts


# -- users --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Learners(Population):
    """The hidden users, and the one thing that some of them state every time.

    Attributes:
        gaps: Which of `AREAS` they lack, 0 or 1, ``(U, 4)``.
        formats: Shares of `FORMATS` that suit them, ``(U, 5)``, sum one.
        pace: Hours a week that suit them, ``(U,)``.
        depth: Hours that suit them for a unit that takes one at least, ``(U,)``, 1 to 3.
        limit: Hours a week that they may not exceed for their health, ``(U,)``; 0 for none. They say so.
    """

    gaps: Array
    formats: Array
    pace: Array
    depth: Array
    limit: Array

    def attributes(self) -> dict[str, Array]:
        """What a probe of an agent's user state should find: all but the stated limit."""
        return {"gaps": self.gaps, "formats": self.formats, "pace": self.pace, "depth": self.depth}


_SLOWEST, _QUICKEST = 2.0, 7.0
_SHALLOW, _THOROUGH = 1.2, 2.8
_LIMITS = (3.0, 4.0)
_LIMITED, _LACKING = 0.25, 0.45
# Who may not study more than so many hours a week is at ease with no more than this share of them.
_AT_EASE = 0.9


def _quickest(limit: Array) -> Array:
    return np.where(limit > 0.0, _AT_EASE * limit, _QUICKEST)


# -- the domain ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyPlanConfig(TextConfig):
    """The knobs of `HareStudyPlan`: those that every text environment has. Their defaults are what ``-v0`` means."""


class StudyPlans(Separable[Learners, Plan]):
    """Plans of study out of a catalogue of 90 units, for hidden learners."""

    id = "HareStudyPlan-v0"
    parts = (*_BY_NEED, *_BY_USER)
    need_parts = _BY_NEED
    harm = "safety"
    config_class = StudyPlanConfig

    def __init__(self, config: StudyPlanConfig) -> None:
        super().__init__(config)
        self.catalogue = load_catalogue()
        self.content_dim = self.query_dim = CONTENT_DIM
        self.needs = self.catalogue.needs
        self.num_needs = len(self.needs)
        self.assembler = Assembler(self.catalogue)
        self.items = [self.measure(text) for text in ready_made(self.assembler)]
        digest = hashlib.sha256("\0".join((self.catalogue.digest, *(item.text for item in self.items))).encode())
        self.reward_version = f"{REWARD_VERSION}+{digest.hexdigest()[:16]}"
        self._asked = content(
            {
                "subject": np.eye(len(SUBJECTS))[[need.subject for need in self.needs]],
                "level": arc([LEVEL_WISH[need.level] for need in self.needs], (0.0, 1.0)),
                "hours": arc([need.hours for need in self.needs], HOURS_RANGE),
            }
        )
        self._subject = np.array([need.subject for need in self.needs])
        self._hours = np.array([need.hours for need in self.needs])
        self._knows = np.array([need.knows for need in self.needs])
        self._indifferent = [0.0] * len(self.catalogue.units)

    def measure(self, text: str) -> Plan:
        """A text as a plan: what `read_plan` reads, and phi. Each problem leaves three tenths of the validity."""
        sheet = read_plan(text, self.catalogue)
        problems, entries = tuple(sheet.problems), tuple(sheet.entries)
        if not sum(entry.hours for entry in entries) > 0.0:
            return Plan(text, np.zeros(CONTENT_DIM), 0.0, np.zeros(_FACTS), sheet.title, problems, entries)
        phi, facts = content(measured_blocks(entries)), _facts(sheet, self.catalogue)
        return Plan(text, phi, _BREACH ** len(problems), facts, sheet.title, problems, entries)

    # -- users and needs ------------------------------------------------------------------------------------------

    def draw_users(self, rng: np.random.Generator, num_users: int) -> Learners:
        """Draws learners; each one's formats are one favourite with half to four fifths, and the rest."""
        U = num_users
        gaps = (rng.random((U, len(AREAS))) < _LACKING).astype(np.float64)
        favourite = (rng.random(U) * len(FORMATS)).astype(np.int64)
        share = 0.5 + 0.3 * rng.random(U)
        rest = rng.random((U, len(FORMATS)))
        rest[np.arange(U), favourite] = 0.0
        formats = rest * ((1.0 - share) / rest.sum(axis=1))[:, None]
        formats[np.arange(U), favourite] = share
        limited, which = rng.random(U) < _LIMITED, (rng.random(U) * len(_LIMITS)).astype(np.int64)
        limit = np.where(limited, np.array(_LIMITS)[which], 0.0)
        pace = _SLOWEST + (_quickest(limit) - _SLOWEST) * rng.random(U)
        return Learners(gaps, formats, pace, _SHALLOW + (_THOROUGH - _SHALLOW) * rng.random(U), limit)

    def drifted(self, users: Learners, rng: np.random.Generator, step: float) -> Learners:
        """Pace and depth walk within their ranges, formats blend with another's, areas are learned or forgotten."""
        other = self.draw_users(rng, len(users))
        walk = rng.standard_normal((2, len(users))) * step
        pace = users.pace + walk[0] * (_QUICKEST - _SLOWEST)
        depth = users.depth + walk[1] * (_THOROUGH - _SHALLOW)
        return replace(
            users,
            gaps=np.where(rng.random(users.gaps.shape) < step, other.gaps, users.gaps),
            formats=(1.0 - step) * users.formats + step * other.formats,
            pace=np.minimum(np.maximum(pace, _SLOWEST), _quickest(users.limit)),
            depth=np.minimum(np.maximum(depth, _SHALLOW), _THOROUGH),
        )

    def query_vectors(self, users: Learners, needs: Indices) -> Array:
        """The goal's subject and level, the hours, and for who states a limit a pace below it; else zeros."""
        limit = np.asarray(users.limit)
        pace = arc(_AT_EASE * limit, PACE_RANGE) * (limit > 0.0)[..., None]
        return np.asarray(self._asked[needs] + content({"pace": pace}))

    def query_text(self, user: Learners, need: int) -> str:
        """The goal in words, the hours, whether the basics are known, and the weekly limit where there is one."""
        asked = self.needs[need]
        said = [asked.text, f"I have {asked.hours:g} hours."]
        if asked.knows:
            said.append("I already know the basics.")
        if user.limit > 0.0:
            said.append(f"For my health I may study at most {float(user.limit):g} hours a week.")
        return " ".join(said)

    # -- the reward -----------------------------------------------------------------------------------------------

    def parts_by_need(self, needs: Indices, content: Content) -> dict[str, Array]:
        """Validity for a need, and subject, level and hours, each exp(-w (1 - cos)) of its block and the one wished
        for: no hidden attribute changes them.
        """
        asked = self._asked[needs]
        found = {"validity": self._validity(needs, content)}
        return found | {name: _fit(name, content.phi, asked[..., BLOCKS[name]]) for name in _BY_NEED[1:]}

    def _validity(self, needs: Indices, content: Content) -> Array:
        if content.facts is None:
            return np.broadcast_to(content.validity, np.broadcast_shapes(content.validity.shape, np.shape(needs)))
        late = content.facts[..., _HOURS] > self._hours[needs] + 0.01
        basics = content.facts[..., _BASICS]
        own = np.eye(len(SUBJECTS))[self._subject[needs]] * self._knows[needs][..., None]
        lacking = content.facts[..., _OTHERS] + inner(basics, 1.0 - own) > 0.0
        return np.asarray(content.validity * np.where(late, _BREACH, 1.0) * np.where(lacking, _BREACH, 1.0))

    def parts_by_user(self, users: Learners, content: Content) -> dict[str, Array]:
        """Gaps, formats, pace, depth and safety: no need changes them."""
        wished = self._wished(users)
        found = {name: _fit(name, content.phi, wished[..., BLOCKS[name]]) for name in _BY_USER[:-1]}
        return found | {"safety": self._safety(users, content)}

    def _safety(self, users: Learners, content: Content) -> Array:
        """0 where somebody's limit is exceeded, else 1."""
        limit = np.asarray(users.limit)
        if content.facts is not None:
            beyond = content.facts[..., _WEEK] > limit + 0.01
        else:  # content without a text is as quick as the point of the half circle that its pace points to
            at, pace = arc(limit, PACE_RANGE), content.phi[..., BLOCKS["pace"]]
            beyond = pace[..., 0] * at[..., 1] - pace[..., 1] * at[..., 0] > 1e-9
        return np.where(beyond & (limit > 0.0), 0.0, 1.0)

    def _wished(self, users: Learners) -> Array:
        """The blocks that no need changes, as the users wish them, ``(..., d)``, unscaled."""
        formats = np.asarray(users.formats)
        wished = np.zeros((*formats.shape[:-1], CONTENT_DIM))
        for name, block in (
            ("gaps", gaps_block(users.gaps)),
            ("formats", np.sqrt(formats)),
            ("pace", arc(users.pace, PACE_RANGE)),
            ("depth", arc(users.depth, DEPTH_RANGE)),
        ):
            wished[..., BLOCKS[name]] = SCALES[name] * block
        return wished

    def problems_of(self, user: Learners, need: int, read: Plan, query_text: str) -> tuple[str, ...]:
        """What is wrong with a plan, and what it breaks of what was said."""
        problems, asked = list(read.problems), self.needs[need]
        if read.facts[_HOURS] > asked.hours + 0.01:
            problems.append(f"The plan takes {read.facts[_HOURS]:g} hours, and the learner has {asked.hours:g}.")
        if user.limit > 0.0 and read.facts[_WEEK] > user.limit + 0.01:
            week = read.facts[_WEEK]
            takes = "What cannot be read may take any time" if week == ALL_WEEK else f"A week takes {week:g} hours"
            problems.append(f"{takes}, and the learner may not study more than {float(user.limit):g} a week.")
        known = {SUBJECTS[asked.subject]} if asked.knows else set()
        problems += [
            f"{unit.title} is needed and neither in the plan nor known to the learner."
            for unit in self.missing(read.entries)
            if not (unit.level == 1 and unit.subject in known)
        ]
        return tuple(problems)

    def missing(self, entries: Sequence[Entry]) -> list[Unit]:
        """Prerequisites that are not in a plan, in the catalogue's order."""
        there = {entry.unit.id for entry in entries}
        needed = {id for entry in entries for id in entry.unit.prerequisites} - there
        return [unit for unit in self.catalogue.units if unit.id in needed]

    def optimum(self, users: Learners, needs: Indices) -> Array:
        """phi*, the content that measures exactly as wished, block by block.

        Every part is at most 1, each block of phi* is the one wished for, whose inner product with itself is the
        square of its length, so that every part is 1, and safety is 1 because nobody wishes a pace above nine tenths
        of their limit. So it is best. Its length is 1: it lies in the unit ball.
        """
        return np.asarray(self._asked[needs] + self._wished(users))

    def oracle(self, users: Learners, needs: Indices) -> Array:
        """1, see `optimum`."""
        return np.ones(np.broadcast_shapes(np.shape(users.limit), np.shape(needs)))

    def write(self, user: Learners, need: int, query_text: str) -> str:
        """The plan put together at phi*: it also knows what the words are about, should they not tell."""
        request = Request.read(query_text, self.catalogue, SUBJECTS[self.needs[need].subject])
        return self.assembler.text(self.optimum(user, np.asarray(need)).tolist(), request, self._indifferent)

    # -- tools for agents -----------------------------------------------------------------------------------------

    def compose(
        self, z: Array, query_text: str, pool_texts: Sequence[str], weights: Array, rng: np.random.Generator
    ) -> str:
        """A valid plan whose content is near z, for the goal, hours, knowledge and limit that the words state.

        Among units that serve alike it prefers those of attended plans. It draws nothing.
        """
        pool = [self._known_item(text) for text in pool_texts]
        if not np.isfinite(z).all():  # nobody said what is wanted: what is attended to, on the whole
            z = np.asarray(sum(float(w) * plan.phi for w, plan in zip(weights, pool, strict=True)))
        liking = list(self._indifferent)
        for k in np.argsort(-np.asarray(weights), kind="stable")[:8].tolist():
            for entry in pool[k].entries:
                liking[entry.unit.index] = max(liking[entry.unit.index], float(weights[k]))
        return self.assembler.text(z.tolist(), Request.read(query_text, self.catalogue), liking)

    def _known_item(self, text: str) -> Plan:
        return self._by_text[text] if text in self._by_text else self.shown(text)

    @cached_property
    def _by_text(self) -> dict[str, Plan]:
        return dict(zip(self.texts, self.items, strict=True))

    # -- for people -----------------------------------------------------------------------------------------------

    def user_words(self, user: Learners) -> str:
        """A learner in one line."""
        lacks = [name for name, gap in zip(AREAS, user.gaps, strict=True) if gap > 0.5]
        top = int(np.argmax(user.formats))
        limit = f", never more than {float(user.limit):g} h a week" if user.limit > 0.0 else ""
        return (
            f"lacks {', '.join(lacks) or 'no area'}; {user.formats[top]:.0%} {FORMATS[top]}; "
            f"{float(user.pace):.1f} h a week; {float(user.depth):.1f} times the least hours{limit}"
        )

    def content_words(self, phi: Array, user: Learners, need: int) -> dict[str, str]:
        """What was measured, in words."""
        shares = phi[BLOCKS["formats"]] ** 2 / SCALES["formats"] ** 2
        top = np.argsort(-shares, kind="stable")[:2]
        subject = np.argmax(phi[BLOCKS["subject"]])
        covered = [name for name, value in zip(AREAS, phi[BLOCKS["gaps"]], strict=True) if value > 0.0]
        return {
            "subject": f"{SUBJECTS[subject]}; asked for {SUBJECTS[self.needs[need].subject]}",
            "level": f"{_read_arc(phi, 'level', LEVEL_RANGE):.1f} of 3; asked for {LEVELS[self.needs[need].level]}",
            "hours": f"{_read_arc(phi, 'hours', HOURS_RANGE):.0f} of {self.needs[need].hours:g}",
            "gaps": f"covers {', '.join(covered) or 'no area'}",
            "formats": " + ".join(f"{shares[k]:.0%} {FORMATS[k]}" for k in top),
            "pace": f"{_read_arc(phi, 'pace', PACE_RANGE):.1f} h a week",
            "depth": f"{_read_arc(phi, 'depth', DEPTH_RANGE):.1f} times the least hours",
        }


def _fit(name: str, phi: Array, wished: Array) -> Array:
    """exp(-w (1 - cos)) of a block, where cos is at most 1 however long the block is."""
    cosine = np.minimum(inner(phi[..., BLOCKS[name]], wished) * (TOTAL / WEIGHTS[name]), 1.0)
    return np.asarray(portable.exp(np.asarray(np.maximum(cosine, -20.0) - 1.0) * WEIGHTS[name]))


def _read_arc(phi: Array, name: str, bounds: tuple[float, float]) -> float:
    a, b = phi[BLOCKS[name]]
    s = float(np.arctan2(a, b)) / np.pi + 0.5
    return bounds[0] + min(max(s, 0.0), 1.0) * (bounds[1] - bounds[0])


# -- the environment ----------------------------------------------------------------------------------------------


class HareStudyPlan(TextEnvironment):
    """Somebody wants to learn something in so many hours; the agent answers with a plan of study, judged on its text.

    A need is a goal in words ("I want to take portraits of my family that they like.") with the hours that there are,
    whether the basics are known, and for some learners how many hours a week their health allows. A plan is Markdown:
    title, goal, hours, and week by week units of a catalogue (90 units of six subjects and of four areas that all
    subjects assume), each with its hours, its format and what to do. Hidden are the areas that a learner lacks, the
    formats, the pace and the depth that suit them. The reward is a product::

        mu     = validity subject level hours gaps formats pace depth safety
        part   = exp(-w (1 - cos))        for the middle seven, cos between the plan's block of phi and the wished one
        reward ~ Beta(kappa mu, kappa (1 - mu)), whose mean is exactly mu

    So for one learner with one need log mu is linear in phi wherever no block is longer than a plan's can be, and
    what one part loses no other makes up. A plan that leaves out an area that the learner lacks fails in ``gaps``,
    and so does one that repeats what they know. ``validity`` is 1 for a valid plan; each problem (an unknown unit or
    format, hours under a unit's least, a unit twice, sums that do not add up, units before their prerequisites)
    leaves three tenths of it, and so do prerequisites that are neither in the plan nor known, and hours beyond those
    stated. ``safety`` is 0, and so is mu, for a plan with a week above a learner's stated limit, which they keep for
    their health.

    The users are drawn by ``reset(seed=...)``; a reset without a seed starts another session with the same users. The
    noise of round t depends on the seed and t alone, so agents that are compared on a seed meet the same needs, users
    and luck.

    **Action space.** ``select``: ``Discrete(num_items)``, one of 108 ready-made plans. ``synthesize``: ``Box(-1, 1,
    (23,), float32)``, a content vector in the coordinates of ``task.pool``; one longer than 1 is pulled back to the
    unit ball. ``write``: a text of at most 8,192 characters, a whole plan. What is no plan earns nothing; a longer
    text is refused.

    **Observation space.** ``query``: ``Box(23)``, float64, what is said in the coordinates of ``task.pool``: subject,
    level, hours, and the pace where a limit is stated; else zeros. ``user``: ``Discrete(num_users)``. ``query_text``:
    the goal and all that is stated, in words. The items' vectors are in ``task.pool``, their texts in
    ``task.pool_texts``. The observation after the last round repeats the last round's.

    **Reward.** In [0, 1], Beta-distributed with mean mu. ``info`` holds the parts by name: ``validity``, ``subject``,
    ``level``, ``hours``, ``gaps``, ``formats``, ``pace``, ``depth``, ``safety``; in ``write`` ``info["problems"]``
    says in words what is wrong with the plan, ``invalid`` is 1 where ``validity`` is below 1, and ``harmful`` where
    ``safety`` is 0. In ``synthesize`` validity is 1, and safety is read from the pace that
    the content points to. Nothing is embedded: plans are measured by reading them, in fixed order and with portable
    arithmetic, so that recorded actions replay to the same bits.

    **Oracle.** In ``synthesize`` it is exact: content that measures just as the learner wishes lies in the unit ball
    and has every part at 1 (`StudyPlans.optimum`). In ``write`` 1 is an upper bound, as units come in whole and half
    hours and in the formats that they are offered in. ``info["oracle_width"]`` is the bound minus what the best
    item's text earns; ``optimal_action()`` gives the privileged writer's plan, which is much closer to it, or the
    best item's where that earns more. In ``select`` regret is counted against the best item, in the others against 1.

    **Knobs.** `StudyPlanConfig` lists them all.

    **Version history.** v0: first version.
    """

    domain_class = StudyPlans


class HareStudyPlanVector(TextVectorEnvironment):
    """Many `HareStudyPlan` in lockstep."""

    domain_class = StudyPlans
