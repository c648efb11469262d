"""``HarePrompts-v0``: a product shows a visitor a few prompts to go on with.

`HarePrompts` plays one world, `HarePromptsVector` many in lockstep; `_Worlds` is the mathematics of both, with the
worlds along the last axis of every array, so that one world and a thousand take the same arithmetic steps and
give the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from hare_gym import portable
from hare_gym.config import configure
from hare_gym.contract import ActionMode, TaskSpec, action_space, observation_space
from hare_gym.environment import Environment, check_mode, item_index, lane_count, lane_generators
from hare_gym.envs.noise import stream
from hare_gym.errors import ActionError, ConfigError
from hare_gym.prompts import (
    CONTENT_DIM,
    HIGH_ENTROPY,
    LENSES,
    LOW_ENTROPY,
    MEDIUM_DEPTH,
    QUERY_DIM,
    TIMES,
    TOPICS,
    catalogue,
    encode_contexts,
    time_slots,
)

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MODES: tuple[ActionMode, ...] = ("slate", "select")

SELECTION, COMPLETION, MOVEMENT = 0.5, 0.3, 0.2
"""The reward's weights. They add up to 1."""

MEASURES = (
    "selected", "completed", "new_shown", "topic_diversity", "waiting", "reached_medium", "sessions", "satisfied"
)  # fmt: skip

# Rounds of randomness drawn at once; part of what a seed means, so it never changes.
_BLOCK = 128
_UNIFORMS = 12
# Hours that a slate takes, and mean hours between a visitor's leaving and the next one's coming.
_SLATE_HOURS, _DAY_PAUSE, _NIGHT_PAUSE = 0.05, 0.5, 1.9
_LOG_2 = 0.6931471805599453
# Where the search for the best slate begins: near most oracles, so that it takes few steps.
_FIRST_GUESS = 0.4
_LONGEST_SESSION = 20


@dataclass(frozen=True)
class PromptsConfig:
    """The knobs of `HarePrompts`. The defaults are frozen: they are what the id ``-v0`` means.

    Attributes:
        horizon: Slates shown in a session of the environment, T.
        num_items: Prompts, N: the first 48 are in words, the others synthetic.
        slate_size: Prompts shown at once, k; 1 in ``select``.
        late_share: Share of the prompts that arrive between a tenth and eight tenths of the horizon.
        new_rounds: Rounds during which a prompt that arrived counts as new in ``info["new_shown"]``.
        position_decay: Visibility of each position relative to the one before it, theta.
        outside: Utility of choosing nothing.
        affinity: Weight of the editor's affinity to the visitor's lens, which agents see.
        on_topic: Weight of the prompt being on the topic that is being read, which agents see.
        resonance: Weight of how one topic leads to another, hidden, the same for all visitors of a world.
        appeal: Weight of a prompt's own appeal, hidden.
        interest: Weight of a visitor's own interests, hidden.
        entropy_fit: Weight of how far a prompt would bring the visitor towards medium entropy.
        rhythm: Weight of what the time of day and the stage of the session favour, hidden.
        repetition: What a prompt loses once it was shown in the session.
        fatigue: What each impression takes from a prompt's utility, for everybody.
        fatigue_hours: Hours in which half of the fatigue goes away.
        fidelity: Share of what editors meant in a prompt's true effect and quality; the rest is the world's.
    """

    horizon: int = field(default=4000, metadata={"low": 1})
    num_items: int = field(default=48, metadata={"low": 4})
    slate_size: int = field(default=3, metadata={"low": 1, "high": 20})
    late_share: float = field(default=1 / 3, metadata={"low": 0, "below": 1})
    new_rounds: int = field(default=300, metadata={"low": 1})
    position_decay: float = field(default=0.8, metadata={"above": 0, "high": 1})
    outside: float = field(default=2.2, metadata={"low": -5, "high": 5})
    affinity: float = field(default=1.2, metadata={"low": 0, "high": 5})
    on_topic: float = field(default=0.5, metadata={"low": 0, "high": 5})
    resonance: float = field(default=0.6, metadata={"low": 0, "high": 2})
    appeal: float = field(default=1.0, metadata={"low": 0, "high": 2})
    interest: float = field(default=0.5, metadata={"low": 0, "high": 2})
    entropy_fit: float = field(default=1.0, metadata={"low": 0, "high": 3})
    rhythm: float = field(default=0.2, metadata={"low": 0, "high": 2})
    repetition: float = field(default=0.4, metadata={"low": 0, "high": 10})
    fatigue: float = field(default=0.02, metadata={"low": 0, "high": 1})
    fatigue_hours: float = field(default=12.0, metadata={"low": 1})
    fidelity: float = field(default=0.5, metadata={"low": 0, "high": 1})

    def __post_init__(self) -> None:
        if self.num_items - int(self.late_share * self.num_items) < self.slate_size:
            raise ConfigError(
                f"Of {self.num_items} prompts a share of {self.late_share:g} arrives later, so a first slate of "
                f"{self.slate_size} cannot be filled. Raise num_items, or lower late_share or slate_size."
            )


class _Worlds:
    """W worlds: their hidden parameters, the visitors of the moment, and the reward. Worlds lie on the last axis."""

    def __init__(self, config: PromptsConfig, size: int) -> None:
        self.config, self.size = config, size
        self.book = catalogue(config.num_items)
        self.theta = np.cumprod([1.0] + [config.position_decay] * (size - 1))[:, None]  # (k, 1)
        self.affinity = config.affinity * (2.0 * self.book.affinity - 1.0)  # (N, lenses)
        self.on_topic = config.on_topic * np.eye(len(TOPICS))
        self.outside = portable.exp(config.outside)
        self.slate_recovery = portable.exp(-_LOG_2 * _SLATE_HOURS / config.fatigue_hours)

    # -- the worlds -------------------------------------------------------------------------------------------

    def draw_worlds(self, rngs: list[np.random.Generator], shared: bool = False) -> None:
        """Draws what is hidden, world by world."""
        c, book = self.config, self.book
        drawn = [self._draw_world(rng) for rng in (rngs[:1] if shared else rngs)] * (len(rngs) if shared else 1)
        raw = {name: np.stack([world[name] for world in drawn], axis=-1) for name in drawn[0]}
        kept, own = c.fidelity, 1.0 - c.fidelity
        self.lanes = np.arange(len(rngs))
        self.effect = kept * book.effect[:, None] + own * 0.15 * raw["effect"]  # (N, W)
        self.quality = kept * 4.0 * (book.quality[:, None] - 0.6) + own * raw["quality"]  # (N, W)
        self.appeal = c.appeal * (0.4 * self.quality + raw["appeal"])  # (N, W)
        self.resonance = c.resonance * raw["resonance"]  # (topic read, prompt's topic, W)
        self.rhythm = c.rhythm * raw["rhythm"]  # (time of day, topic, W)
        self.stage = c.rhythm * raw["stage"]  # (N, W)
        self.lens_edges = _cumulative(raw["lenses"])  # (time of day, lenses, W)
        self.topic_edges = _cumulative(raw["topics"])  # (time of day, topics, W)
        self.arrival = raw["arrival"]  # (N, W), in rounds

    def _draw_world(self, rng: np.random.Generator) -> dict[str, Any]:
        c, N, K = self.config, self.config.num_items, len(TOPICS)
        late = rng.permutation(N)[: int(c.late_share * N)]
        arrival = np.zeros(N, dtype=np.int64)
        arrival[late] = ((0.1 + 0.7 * rng.random(len(late))) * c.horizon).astype(np.int64)
        return {
            "arrival": arrival,
            "effect": rng.standard_normal(N),
            "quality": rng.standard_normal(N),
            "appeal": rng.standard_normal(N),
            "stage": rng.standard_normal(N),
            "resonance": rng.standard_normal((K, K)),
            "rhythm": rng.standard_normal((len(TIMES), K)),
            "lenses": portable.exp(0.5 * rng.standard_normal((len(TIMES), len(LENSES)))),
            "topics": portable.exp(0.5 * rng.standard_normal((len(TIMES), K))),
        }

    # -- a session --------------------------------------------------------------------------------------------

    def start_session(self, rngs: list[np.random.Generator]) -> None:
        """Rests every prompt, sets the clock to Monday, nine o'clock, and lets the first visitors come."""
        N, W = self.config.num_items, len(rngs)
        self.rngs = [stream(int(rng.integers(2**63))) for rng in rngs]
        self._block_end = 0
        self.clock = np.full(W, 9.0)
        self.fatigue = np.zeros((N, W))
        self.lens, self.topic, self.depth = (np.zeros(W, dtype=np.int64) for _ in range(3))
        self.entropy, self.patience, self.response = np.zeros(W), np.zeros(W), np.ones(W)
        self.interest = np.zeros((len(TOPICS), W))
        self.shown_before = np.zeros((N, W), dtype=np.bool_)
        self.unsettled = np.zeros(W, dtype=np.bool_)
        self.prepare(0)
        self._welcome(np.ones(W, dtype=np.bool_))
        self._judge_all(0)

    def prepare(self, t: int) -> None:
        """Makes round t's random numbers available, the same whatever was done before."""
        if t == self._block_end:
            draws = [
                (rng.random((_BLOCK, _UNIFORMS)), rng.standard_normal((_BLOCK, len(TOPICS)))) for rng in self.rngs
            ]
            self._uniforms = np.stack([uniform for uniform, _ in draws], axis=-1)  # (L, 12, W)
            self._normals = self.config.interest * np.stack([normal for _, normal in draws], axis=-1)  # (L, K, W)
            pause = np.minimum(-portable.log(1.0 - self._uniforms[:, 10]), 12.0)  # an exponential, (L, W)
            # by day and by night, when visitors are rare
            self._pauses = np.stack([_DAY_PAUSE * pause, _NIGHT_PAUSE * pause], axis=1)  # (L, 2, W)
            self._recoveries = portable.exp(self._pauses * (-_LOG_2 / self.config.fatigue_hours))
            self._block_end = t + _BLOCK
        i = t % _BLOCK
        self.u, self.z = self._uniforms[i], self._normals[i]  # (12, W), (K, W)
        self.pause, self.recovery = self._pauses[i], self._recoveries[i]  # (2, W) each

    def _welcome(self, come: NDArray[np.bool_]) -> None:
        """New visitors in the lanes ``come``, out of this round's numbers."""
        u, lanes = self.u, self.lanes
        slot = time_slots(self.clock % 24.0)
        lens = (u[4] >= self.lens_edges[slot, :, lanes].T).sum(axis=0)
        topic = (u[5] >= self.topic_edges[slot, :, lanes].T).sum(axis=0)
        # two fifths come unsettled, a quarter too settled
        spread = np.where(u[6] < 0.4, 0.72 + 0.28 * u[7], np.where(u[6] < 0.65, 0.28 * u[7], 0.3 + 0.4 * u[7]))
        self.lens, self.topic = np.where(come, lens, self.lens), np.where(come, topic, self.topic)
        self.entropy = np.where(come, spread, self.entropy)
        self.patience = np.where(come, np.floor(2.0 + 4.0 * u[8]), self.patience)
        self.response = np.where(come, 0.5 + u[9], self.response)
        self.interest = np.where(come, self.z, self.interest)
        self.depth = np.where(come, 0, self.depth)
        self.shown_before &= ~come
        self.unsettled = np.where(come, _distance(spread) > 0.0, self.unsettled)

    # -- the reward -------------------------------------------------------------------------------------------

    def _judge_all(self, t: int) -> None:
        """Every prompt for the visitor of round t: its weight w, its value v if chosen; and the best slate."""
        c, lanes, e, N = self.config, self.lanes, self.entropy, self.config.num_items
        slot = time_slots(self.clock % 24.0)
        by_topic = self.on_topic[:, self.topic] + self.resonance[self.topic, :, lanes].T
        by_topic += self.rhythm[slot, :, lanes].T + self.interest
        fit = _approach(e, e + self.effect)
        utility = self.affinity[:, self.lens] + by_topic[self.book.topics]
        utility += self.appeal + c.entropy_fit * fit + np.where(self.depth < MEDIUM_DEPTH, -0.5, 0.5) * self.stage
        utility -= c.repetition * self.shown_before + self.fatigue
        logits = np.concatenate([utility, 0.3 + 0.9 * self.quality + 0.5 * fit])
        odds = portable.exp(np.minimum(np.maximum(logits, -30.0), 30.0))
        self.usable = self.arrival <= t  # (N, W)
        self.weight = odds[:N] * self.usable  # (N, W)
        self.completion = odds[N:] / (1.0 + odds[N:])  # (N, W)
        moved = self.response * self.effect
        self.after = _inside(
            e + np.stack([0.5 * moved, moved])
        )  # after a glance, after reading to the end: (2, N, W)
        self.gain = np.maximum(_approach(e, self.after), 0.0)
        read = self.completion * (COMPLETION + MOVEMENT * self.gain[1])
        self.value = SELECTION + read + (1.0 - self.completion) * (MOVEMENT * self.gain[0])
        self._find_best_slate()

    def _find_best_slate(self) -> None:
        """Dinkelbach's iteration; a lane that has converged keeps its slate."""
        weight, value, lanes = self.weight, self.value, self.lanes
        unusable = np.where(self.usable, 0.0, np.inf)
        best: Array = np.zeros(len(lanes))
        slate: Indices = np.zeros((self.size, len(lanes)), dtype=np.int64)
        guess = np.full(len(lanes), _FIRST_GUESS)
        while True:
            cost = weight * (guess - value) + unusable
            found = cost.argsort(axis=0, kind="stable")[: self.size]
            weights = self.theta * weight[found, lanes]
            reached = _total(weights * value[found, lanes]) / (self.outside + _total(weights))
            better = reached > best
            if not better.any():
                break
            slate, best = np.where(better, found, slate), np.where(better, reached, best)
            guess = best
        self.best_slate, self.oracle = slate, best

    def expected(self, slate: Indices) -> tuple[Array, Array]:
        """The mean reward of slates ``(k, W)``, ``(W,)``, and the chance of each position, ``(k, W)``.

        An item that cannot be used, or stands further up already, has no weight.
        """
        weights = self.theta * self.weight[slate, self.lanes]
        for p in range(1, self.size):
            weights[p] *= (slate[:p] != slate[p]).all(axis=0)
        total = self.outside + _total(weights)
        return _total(weights * self.value[slate, self.lanes]) / total, weights / total

    # -- a round ----------------------------------------------------------------------------------------------

    def play(self, t: int, slate: Indices) -> tuple[Array, dict[str, Array], dict[str, Array]]:
        """Shows slates ``(k, W)`` in round t. Returns rewards ``(W,)``, the parts of ``info`` and the outcome."""
        u, lanes, k = self.u, self.lanes, self.size
        expected, chances = self.expected(slate)
        oracle = self.oracle
        position = (u[0] >= np.add.accumulate(chances, axis=0)).sum(axis=0)  # k for none
        selected = position < k
        item = slate[np.minimum(position, k - 1), lanes]
        completed = selected & (u[1] < self.completion[item, lanes])
        read = completed.astype(np.int64)
        self.entropy = np.where(selected, self.after[read, item, lanes], self.entropy)
        gain = selected * self.gain[read, item, lanes]
        reward = SELECTION * selected + COMPLETION * completed + MOVEMENT * gain

        waiting = self.unsettled
        reached = waiting & (_distance(self.entropy) == 0.0)
        self.unsettled = waiting & ~reached
        new = (self.arrival > 0) & (t < self.arrival + self.config.new_rounds) & self.usable
        diversity, new_shown = self._slate_measures(slate, new)

        self.patience = self.patience - np.where(completed, 0.0, np.where(selected, 0.5, 1.0))
        content = np.where(_distance(self.entropy) == 0.0, 0.45, 0.15)
        satisfied = completed & (u[2] < content)
        ended = satisfied | (self.patience <= 0.0) | (self.depth + 1 >= _LONGEST_SESSION)
        dwell = selected * np.where(completed, 40.0 + 140.0 * u[3], 4.0 + 26.0 * u[3])
        parts = {
            "selected": selected * 1.0,
            "completed": completed * 1.0,
            "movement": gain,
            "new_shown": new_shown,
            "topic_diversity": diversity,
            "waiting": waiting * 1.0,
            "reached_medium": reached * 1.0,
            "sessions": ended * 1.0,
            "satisfied": satisfied * 1.0,
        }
        outcome = {
            "selected": np.where(selected, position, -1) * 1.0,
            "completed": completed * 1.0,
            "entropy_after": self.entropy,
            "dwell": dwell,
        }
        self._go_on(t, slate, ended)
        return reward, {"expected_reward": expected, "oracle_reward": oracle, **parts}, outcome

    def _slate_measures(self, slate: Indices, new: NDArray[np.bool_]) -> tuple[Array, Array]:
        """The share of a slate's pairs with two topics, and how many new prompts it shows; ``(W,)`` each."""
        topics, fresh = self.book.topics[slate], new[slate, self.lanes]
        apart = np.zeros(len(self.lanes))
        for p in range(1, self.size):
            apart += (topics[:p] != topics[p]).sum(axis=0)
            fresh[p] &= (slate[:p] != slate[p]).all(axis=0)
        return apart / max(self.size * (self.size - 1) // 2, 1), fresh.sum(axis=0) * 1.0

    def _go_on(self, t: int, slate: Indices, ended: NDArray[np.bool_]) -> None:
        """Tires what was shown, moves the clock, and lets new visitors come where a session ended."""
        for p in range(self.size):
            self.fatigue[slate[p], self.lanes] += self.config.fatigue
            self.shown_before[slate[p], self.lanes] = True
        self.depth = self.depth + 1
        night = (time_slots(self.clock % 24.0) == 3).astype(np.int64)
        self.clock = self.clock + _SLATE_HOURS + ended * self.pause[night, self.lanes]
        self.fatigue *= self.slate_recovery * np.where(ended, self.recovery[night, self.lanes], 1.0)
        if t + 1 >= self.config.horizon:
            return
        if ended.any():
            self._welcome(ended)
        self.prepare(t + 1)
        self._judge_all(t + 1)

    def observation(self) -> dict[str, Any]:
        """The visitors as agents see them, each value with a leading axis of length W."""
        query = encode_contexts(self.lens, self.topic, self.entropy, self.depth, self.clock % 24.0)
        mask = np.ascontiguousarray(self.usable.T).astype(np.int8)
        return {"query": query, "user": np.zeros(len(self.lanes), dtype=np.int64), "pool_mask": mask}


def _cumulative(weights: Array) -> Array:
    """Upper edges of all shares but the last along the second axis."""
    total = portable.dot(np.moveaxis(weights, 1, 0), np.ones(weights.shape[1]))
    edges: Array = np.cumsum(weights / total[:, None], axis=1)[:, :-1]
    return edges


def _distance(entropy: Array) -> Array:
    """How far entropy lies outside the medium range."""
    return np.maximum(np.maximum(entropy - HIGH_ENTROPY, LOW_ENTROPY - entropy), 0.0)


def _approach(before: Any, after: Array) -> Array:
    """How far a step leads towards 1/2, a fifth counting as 1; in [-1, 1]."""
    steps: Array = 5.0 * (np.abs(before - 0.5) - np.abs(after - 0.5))
    return np.minimum(np.maximum(steps, -1.0), 1.0)


def _inside(entropy: Array) -> Array:
    return np.minimum(np.maximum(entropy, 0.0), 1.0)


def _total(x: Array) -> Array:
    """The sum over the first axis, added in order."""
    total: Array = np.add.accumulate(x, axis=0)[-1]
    return total


class HarePrompts(Environment):
    """A product shows a visitor a few prompts to go on with, learns from what is chosen, and keeps no profile.

    Visitors come one after the other. A visitor has a lens, reads about a topic, and is settled or lost (entropy e in
    [0, 1]); that is seen. What interests the visitor, how patient they are and how strongly reading moves them, is
    not. In each round the product shows a slate; the visitor chooses one prompt or none, reads it to the end or not,
    and goes on with another entropy. A session ends satisfied (after a prompt that was read to the end: with chance
    0.45 where entropy is medium, in [0.3, 0.7], otherwise 0.15), bored (after 2 to 5 slates without a choice; a
    prompt that was not read to the end counts as half of one), or after 20 slates; then, after a pause, the next
    visitor comes.

    **Choice model.** A multinomial logit with position bias and an outside option (Abeliuk, Berbeglia, Cebrian and
    Van Hentenryck 2016, "Assortment optimization under a multinomial logit model with position bias and social
    influence", 4OR 14). Item i at position p = 0, 1, ... of the slate is chosen with probability ::

        P(i at p) = theta^p w_i / (w_0 + sum over the slate of theta^q w_j)       w_i = exp(u_i),  w_0 = exp(outside)
        u_i = affinity (2 a_i[lens] - 1) + on_topic [topic_i = topic]             the editor's, which agents see
            + R[topic, topic_i] + H[time of day, topic_i] + appeal_i              the world's, hidden
            + stage_i / 2 from depth 3 on, before it - stage_i / 2                the world's, hidden
            + entropy_fit m(e, e + effect_i)
            + interest z[topic_i]                                                 the visitor's, hidden
            - repetition [shown in this session] - fatigue_i
        m(e, e') = 5 (|e - 1/2| - |e' - 1/2|), within [-1, 1]                     a step of 0.2 towards 1/2 is 1
        c_i = sigmoid(0.3 + 0.9 quality_i + m(e, e + effect_i) / 2)               chance of reading to the end

    A prompt that was read to the end moves entropy by r effect_i (within [0, 1]), one that was not by half of that;
    r in [0.5, 1.5] is the visitor's own. Every impression tires a prompt for all visitors by ``fatigue``, half of
    which is gone after ``fatigue_hours``. R, H, appeals (correlated with quality), stages, effects and qualities are
    drawn by ``reset(seed=...)``, all but the last two as normal variates with a knob (`resonance`, `rhythm`,
    `appeal`) as scale; effects and qualities lie around what the catalogue's editors meant, and agents see neither. A
    reset without a seed starts another session in the same world. A third of the prompts arrive later, and
    ``pool_mask`` says which are there. Time is simulated: a slate takes three minutes, and between two visitors lie
    half an hour by day and two at night on average, and never 24 hours, so that the hour of the day tells all time
    that passed.

    **Action space.** ``slate``: ``MultiDiscrete([num_items] * slate_size)``, best position first. ``select``:
    ``Discrete(num_items)``, a slate of one. An item that ``pool_mask`` leaves out, or that stands further up
    already, has no weight and is never chosen.

    **Observation space.** ``query``: ``Box(23)``, float64, the context of the visit, whose layout `hare_gym.prompts`
    documents and ``decode_context`` reads. ``user``: ``Discrete(1)``, always 0: nobody is recognised.
    ``pool_mask``: ``MultiBinary(num_items)``. The pool (topic and affinities) is in ``env.unwrapped.task.pool``, the
    texts in ``task.pool_texts``.

    **Outcome.** ``Agent.feedback`` is told ``selected`` (the position chosen, or -1), ``completed``,
    ``entropy_after``, and ``dwell`` (seconds).

    **Reward.** ``0.5 selected + 0.3 completed + 0.2 gain``, in [0, 1], where gain = max(0, m(e, e')) is the movement
    of entropy towards medium, and nothing without a choice. Computed from additions, products, quotients and square
    roots in a fixed order, so that recorded actions replay to the same bits on any machine.

    **Oracle.** Exact, for any N and k: the best slate for this visitor in this round, hidden interests and all; what
    it does to later rounds does not count, and no product could know as much, so regret never vanishes. With v_i the
    reward that i brings if chosen, a slate's mean reward is the fraction ``sum theta^p w_i v_i / (w_0 + sum theta^p
    w_i)``. For a number x the numerator minus x times the denominator is ``sum theta^p w_i (v_i - x) - x w_0``, which
    is largest where the k largest ``w_i (v_i - x)`` stand in falling order (theta is at most 1: the rearrangement
    inequality). Dinkelbach's iteration (1967, Management Science 13), which sets x to the fraction of the slate
    found last, climbs strictly and ends at a slate whose fraction is the maximum. No content exists beside the
    prompts, so ``oracle_reward`` and ``catalogue_oracle_reward`` are equal.

    **Measures** in ``info``, whose sums the records keep: ``selected`` and ``completed`` (0 or 1); ``new_shown``
    (prompts of the slate that arrived within the last ``new_rounds`` rounds); ``topic_diversity`` (the share of the
    slate's pairs that have two topics); ``waiting`` (1 while a session has not seen medium entropy) and
    ``reached_medium`` (1 in the round that brings it), so that sum(waiting) / sum(reached_medium) estimates the
    rounds to medium entropy with the sessions that never reach it counted for their whole length; ``sessions`` (1
    where one ends) and ``satisfied``. ``movement`` is the gain.

    **Knobs.** `PromptsConfig` lists them all. ``num_items`` above 48 adds synthetic prompts. ``late_share=0`` keeps
    the catalogue fixed; ``fatigue=0`` makes rounds of different sessions independent of each other.

    **Version history.** v0: first version.
    """

    modes = MODES
    measures = MEASURES

    def __init__(self, action_mode: str | None = None, render_mode: str | None = None, **knobs: Any) -> None:
        super().__init__(action_mode, render_mode)
        self.config = configure(PromptsConfig, knobs, "HarePrompts")
        task = _task(self.config, knobs, self.action_mode)
        self._worlds = _Worlds(self.config, task.slate_size)
        self._set_task(task)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws a world (with a seed, or the first time) and starts a session in it."""
        super().reset(seed=seed)
        if seed is not None or not hasattr(self._worlds, "arrival"):
            self._worlds.draw_worlds([self.np_random])
        self._worlds.start_session([self.np_random])
        self._t = 0
        self._start_rendering()
        return self._observation(), {}

    def _prepare(self) -> None:
        """Nothing: playing a round makes the next one ready."""

    def _observation(self) -> dict[str, Any]:
        return {name: values[0] for name, values in self._worlds.observation().items()}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Plays one round.

        Raises:
            ActionError: An action of the wrong type, shape, dtype or range; the round is not spent.
        """
        if self.action_mode == "select":
            slate = np.array([item_index(action, self.config.num_items)])
        else:
            slate = _slates(action, (self.task.slate_size,), self.config.num_items)
        reward, parts, outcome = self._worlds.play(self._t, slate[:, None])
        told = {name: float(values[0]) for name, values in parts.items()}
        expected, oracle = told.pop("expected_reward"), told.pop("oracle_reward")
        info = self._info(expected, oracle, oracle, **told)
        info["outcome"] = {name: float(values[0]) for name, values in outcome.items()}
        return self._end_round(0, action, float(reward[0]), info)

    def optimal_action(self) -> Any:
        """The best slate for the visitor of the moment, or the best prompt."""
        slate = self._worlds.best_slate[:, 0]
        return int(slate[0]) if self.action_mode == "select" else slate.copy()


class HarePromptsVector(gym.vector.VectorEnv[dict[str, Any], Any, Any]):
    """Many `HarePrompts` in lockstep, in NumPy: world i with ``seed + i`` gives the single environment's bits.

    ``gymnasium.make_vec("HarePrompts-v0", num_envs=256)`` makes it. All sessions have one horizon and end together;
    the step after that starts the next one (``AutoresetMode.NEXT_STEP``).

    With ``shared_world=True`` every lane plays the world of lane 0 with visitors and a clock of its own: one agent
    serving many visitors at once. Fatigue is refused then, since each lane would tire the same prompts apart.
    """

    metadata = {"render_modes": [], "autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    measures = MEASURES

    def __init__(
        self, num_envs: int = 1, action_mode: str | None = None, shared_world: bool = False, **knobs: Any
    ) -> None:
        knobs.pop("render_mode", None)
        self.num_envs = lane_count(num_envs)
        self.config = configure(PromptsConfig, knobs, "HarePrompts")
        if shared_world and self.config.fatigue:
            raise ConfigError("shared_world needs fatigue=0: each lane would tire the same prompts apart.")
        self.action_mode: ActionMode = check_mode("HarePrompts", MODES, action_mode)
        self.shared_world = shared_world
        self.task = _task(self.config, knobs, self.action_mode)
        self._worlds = _Worlds(self.config, self.task.slate_size)
        self.single_observation_space = observation_space(self.task)
        self.single_action_space = action_space(self.task)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._rngs: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws the worlds (with a seed, or the first time) and starts a session in each."""
        if seed is not None or not self._rngs:
            self._rngs = lane_generators(seed, self.num_envs)
            self._worlds.draw_worlds(self._rngs, self.shared_world)
        self._worlds.start_session(self._rngs)
        self._t = 0
        return self._worlds.observation(), {}

    def step(
        self, actions: Any
    ) -> tuple[dict[str, Any], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one round in every lane.

        Raises:
            ActionError: Actions of the wrong shape, dtype or range; the round is not spent.
        """
        none = np.zeros(self.num_envs, dtype=np.bool_)
        if self._t >= self.config.horizon:
            observation, info = self.reset()
            return observation, np.zeros(self.num_envs), none, none.copy(), info
        shape = (self.num_envs,) if self.action_mode == "select" else (self.num_envs, self.task.slate_size)
        slates = _slates(actions, shape, self.config.num_items).reshape(self.num_envs, -1)
        reward, parts, outcome = self._worlds.play(self._t, slates.T)
        best = parts["oracle_reward"]
        parts |= {"catalogue_oracle_reward": best.copy(), "regret": best - parts["expected_reward"]}
        info = {**parts, "outcome": {name: values.copy() for name, values in outcome.items()}}
        info |= {f"_{name}": np.ones(self.num_envs, dtype=np.bool_) for name in list(info)}
        self._t += 1
        truncated = np.full(self.num_envs, self._t >= self.config.horizon)
        return self._worlds.observation(), reward, none, truncated, info


def _slates(actions: Any, shape: tuple[int, ...], num_items: int) -> Indices:
    """Actions as an integer array of ``shape``.

    Raises:
        ActionError: They are of another type, shape or range.
    """
    found = np.asarray(actions)
    if found.shape != shape or not np.issubdtype(found.dtype, np.integer):
        raise ActionError(
            f"An action must be {' x '.join(map(str, shape))} integers, not an array of shape {found.shape} and "
            f"dtype {found.dtype}."
        )
    bad = found[(found < 0) | (found >= num_items)]
    if bad.size:
        raise ActionError(f"Item {int(bad[0])} is not in the pool of {num_items}: use 0 to {num_items - 1}.")
    return found.astype(np.int64)


def _task(config: PromptsConfig, knobs: dict[str, Any], mode: ActionMode) -> TaskSpec:
    book = catalogue(config.num_items)
    return TaskSpec(
        id="HarePrompts-v0",
        action_mode=mode,
        horizon=config.horizon,
        num_users=1,
        query_dim=QUERY_DIM,
        content_dim=CONTENT_DIM,
        num_items=config.num_items,
        slate_size=config.slate_size if mode == "slate" else 1,
        pool=book.vectors,
        pool_texts=book.texts,
        has_pool_mask=True,
        kwargs=dict(knobs),
    )
