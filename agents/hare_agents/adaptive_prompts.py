"""The engine of adaptive prompts as an agent: `hare_agents.prompts` playing, with its statistics in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hare_agents._adapter import finite_reward
from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.context import Context, encode
from hare_agents.prompts.engine import PromptEngine
from hare_agents.prompts.events import MICRO
from hare_agents.prompts.library import Library, Prompt
from hare_agents.prompts.scoring import total
from hare_gym.config import configure
from hare_gym.contract import Action, ActionMode, Agent, Observation, SearchSpace, TaskSpec
from hare_gym.errors import DataError
from hare_gym.prompts import CONTENT_DIM, QUERY_DIM, cards_of, decode_context

_SELECTED = np.array([0, 1, 0, 0, 0], dtype=np.int64)
_COMPLETED = np.array([0, 0, 1, 0, 0], dtype=np.int64)
_DAY_HOURS, _HOUR = 24.0, 3_600.0
_ROUND_HOURS = 0.05
_SUCCESS = 0.5


@dataclass(frozen=True)
class AdaptivePromptsConfig:
    """The hyperparameters of `AdaptivePrompts`: the engine's published defaults, and a switch for each of its parts.

    Attributes:
        entropy: The entropy multiplier.
        ucb: The learned factor, success rate and its width.
        freshness: Freshness.
        new_bonus: The bonus of new prompts.
        diversity: The least distance of topics within a slate.
        back_off: Borrowing from coarser contexts.
        c: Width of the exploration.
        completion_weight: Weight of completions against selections in a success.
        strength: Impressions that all coarser contexts may count for.
        favoured: The largest entropy multiplier.
        freshness_hours: Scale of the recovery.
        bonus: The factor of a prompt never shown.
    """

    entropy: bool = True
    ucb: bool = True
    freshness: bool = True
    new_bonus: bool = True
    diversity: bool = True
    back_off: bool = False
    c: float = field(default=1.5, metadata={"low": 0})
    completion_weight: float = field(default=0.0, metadata={"low": 0, "high": 1})
    strength: float = field(default=10.0, metadata={"above": 0})
    favoured: float = field(default=1.5, metadata={"low": 1})
    freshness_hours: float = field(default=48.0, metadata={"above": 0})
    bonus: float = field(default=1.3, metadata={"low": 1})

    def engine_config(self, slate_size: int) -> PromptsConfig:
        """The same, as the engine is told."""
        return PromptsConfig.of(
            {
                "slate_size": slate_size,
                "entropy": {"enabled": self.entropy, "favoured": self.favoured},
                "ucb": {"enabled": self.ucb, "c": self.c, "completion_weight": self.completion_weight},
                "freshness": {"enabled": self.freshness, "hours": self.freshness_hours},
                "new": {"enabled": self.new_bonus, "bonus": self.bonus},
                "diversity": {"enabled": self.diversity},
                "back_off": {"enabled": self.back_off, "strength": self.strength},
            },
            "agent 'adaptive-prompts'",
        )


class AdaptivePrompts(Agent):
    """Shows the slate of the largest base relevance x entropy multiplier x UCB x freshness x bonus of the new.

    It learns from outcomes (`feedback`): what of the slate was selected, whether it was completed, and where entropy
    went. Where a task has no outcomes, a reward of at least 1/2 selects everything that was shown. Base relevance is
    the editor's affinity to the visitor's lens and to the topic that is read; in tasks without prompts it is the same
    for all items. Nothing is drawn.
    """

    modes: ClassVar[frozenset[ActionMode]] = frozenset({"slate", "select"})
    search_space: ClassVar[SearchSpace] = {
        "c": {"type": "float", "low": 0.02, "high": 2.0, "log": True},
        "completion_weight": {"type": "choice", "values": [0.0, 0.25, 0.5]},
        "strength": {"type": "float", "low": 3.0, "high": 300.0, "log": True},
        "favoured": {"type": "float", "low": 1.0, "high": 2.5},
        "freshness_hours": {"type": "float", "low": 4.0, "high": 96.0, "log": True},
    }

    def __init__(self, **hyperparameters: Any) -> None:
        self.config: AdaptivePromptsConfig = configure(
            AdaptivePromptsConfig, hyperparameters, "agent 'adaptive-prompts'"
        )

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Forgets all counts."""
        super().reset(spec, rng)
        self._has_prompts = _has_prompts(spec)
        self.engine = PromptEngine(Library(_prompts(spec)), self.config.engine_config(spec.slate_size))
        self._hours, self._hour, self._told = 0.0, -1.0, 0

    def act(self, observation: Observation) -> Action:
        """The slate, or in ``select`` the first of it."""
        context = self._context(observation)
        mask = observation.get("pool_mask")
        usable = None if mask is None else np.asarray(mask).astype(bool)
        k = self.spec.slate_size
        key = encode(self.engine.config.context, context)
        scores = total(self.engine.factors(key, self._now(context) * _HOUR))
        chosen = self.engine.choose(scores, k, usable)
        if len(chosen) < k:
            raise DataError(f"A slate of {k} items was asked for, but {len(chosen)} can be used this round.")
        return chosen[0] if self.spec.action_mode == "select" else np.array(chosen, dtype=np.int64)

    def feedback(self, observation: Observation, action: Action, outcome: Mapping[str, float]) -> None:
        """Counts what was shown, and what the visitor made of it."""
        if "selected" not in outcome:
            return
        context = self._context(observation)
        items, key = self._shown(context, action)
        selected = int(outcome["selected"])
        if selected >= 0:
            row = int(items[selected])
            self.engine.statistics.add(row, key, _SELECTED)
            if outcome.get("completed"):
                self.engine.statistics.add(row, key, _COMPLETED)
            if "entropy_after" in outcome and self._has_prompts:
                change = round((outcome["entropy_after"] - context.entropy) * MICRO)
                self.engine.statistics.add(row, key, np.array([0, 0, 0, 1, change], dtype=np.int64))
        self._told += 1

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Learns from the reward where no outcome told more."""
        reward = finite_reward("adaptive-prompts", reward)
        if self._told:
            self._told -= 1
            return
        items, key = self._shown(self._context(observation), action)
        if reward >= _SUCCESS:
            for row in items:
                self.engine.statistics.add(int(row), key, _SELECTED)

    def _shown(self, context: Context, action: Action) -> tuple[NDArray[np.int64], str]:
        """Counts the impressions and lets time pass; gives the items and the context's key."""
        items = np.atleast_1d(np.asarray(action, dtype=np.int64))
        key = encode(self.engine.config.context, context)
        self._hours, self._hour = self._now(context), context.hour
        for row in items:
            self.engine.count_impression(int(row), key, self._hours * _HOUR)
        return items, key

    def _context(self, observation: Observation) -> Context:
        if not self._has_prompts:
            return Context()
        seen = decode_context(observation["query"])
        return Context(seen.lens, seen.topic, min(max(seen.entropy, 0.0), 1.0), seen.depth, seen.hour % _DAY_HOURS)

    def _now(self, context: Context) -> float:
        """Hours since the session began. Of the time of day a step of more than half a day is taken as one back."""
        if not self._has_prompts:
            return self._hours + _ROUND_HOURS
        passed = (context.hour - self._hour) % _DAY_HOURS if self._hour >= 0.0 else 0.0
        return self._hours + (passed if passed <= _DAY_HOURS / 2 else 0.0)

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts, and the clock."""
        return {**self.engine.state(), "clock": np.array([self._hours, self._hour, float(self._told)])}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what `state` gave."""
        self.engine.load_state(state)
        self._hours, self._hour, told = state["clock"].tolist()
        self._told = int(told)

    def diagnostics(self) -> dict[str, float]:
        """How many contexts were met, and how many prompts are no longer new."""
        shown = self.engine.statistics.impressions >= self.engine.config.new.impressions
        return {"contexts": float(len(self.engine.statistics.contexts)), "established": float(shown.sum())}


def _has_prompts(spec: TaskSpec) -> bool:
    dimensions = (spec.query_dim, spec.content_dim)
    return dimensions == (QUERY_DIM, CONTENT_DIM) and spec.pool is not None and spec.pool_texts is not None


def _prompts(spec: TaskSpec) -> list[Prompt]:
    """The task's items as prompts; ids are in the order of the pool."""
    width = len(str(spec.num_items))
    ids = [f"item-{i:0{width}}" for i in range(spec.num_items)]
    if not _has_prompts(spec):
        return [Prompt(id=id) for id in ids]
    return [
        Prompt(
            id=id,
            text=card.text,
            topic=card.topic,
            affinity={f"topic:{card.topic}": 100.0, **{f"lens:{lens}": a for lens, a in card.affinity.items()}},
        )
        for id, card in zip(ids, cards_of(spec), strict=True)
    ]
