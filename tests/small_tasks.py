"""Three small environments that share nothing but the contract: numbers, texts, and slates of a changing pool."""

import gymnasium as gym
import numpy as np

from hare_gym.contract import TaskSpec
from hare_gym.environment import Environment, content_vector, item_index
from hare_gym.errors import ActionError


class SmallTask(Environment):
    """The frame of the three: a subclass draws a round and judges an action."""

    users = 4

    def __init__(self, action_mode=None, render_mode=None, horizon=40, **knobs):
        super().__init__(action_mode, render_mode)
        self.horizon = horizon
        self.kwargs = {"horizon": horizon, **knobs}
        self.drawn = False
        self._set_task(self.describe())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None or not self.drawn:
            self.draw_world()
            self.drawn = True
            self._set_task(self.describe())
        self.t = 0
        self._start_rendering()
        self.draw_round()
        return self.observe(), {}

    def step(self, action):
        expected = self.judge(action)
        reward = float(self.np_random.random() < expected)
        oracle, catalogue = self.oracles()
        existing = self.action_mode in ("select", "slate")
        info = {
            "expected_reward": expected,
            "oracle_reward": oracle,
            "catalogue_oracle_reward": catalogue,
            "regret": (catalogue if existing else oracle) - expected,
            **self.parts(action, reward),
        }
        self._note_round(int(self.user), action, reward, info)
        self.t += 1
        self.draw_round()
        return self.observe(), reward, False, self.t >= self.horizon, info

    def parts(self, action, reward):
        return {}

    def draw_world(self):
        pass

    def draw_round(self):
        self.user = self.np_random.integers(self.users)
        self.query = unit(self.np_random.standard_normal(3))

    def observe(self):
        return {"query": self.query.copy(), "user": self.user}


class NumericTask(SmallTask):
    """Vectors: the closer the content to the query, turned by the user, the better."""

    modes = ("select", "synthesize")
    pool = np.zeros((6, 3))

    def describe(self):
        return TaskSpec(
            id="SmallNumeric-v0",
            action_mode=self.action_mode,
            horizon=self.horizon,
            num_users=self.users,
            query_dim=3,
            content_dim=3,
            num_items=6,
            pool=self.pool,
            kwargs=self.kwargs,
        )

    def draw_world(self):
        self.pool = unit(self.np_random.standard_normal((6, 3)))
        self.signs = self.np_random.choice([-1.0, 1.0], size=(self.users, 3))

    def ideal(self):
        return self.query * self.signs[self.user]

    def judge(self, action):
        select = self.action_mode == "select"
        y = self.pool[item_index(action, 6)] if select else np.array(content_vector(action, 3))
        return float(self.value(y))

    def value(self, y):
        return 0.5 + 0.5 * np.clip(y @ self.ideal(), -1.0, 1.0)

    def oracles(self):
        return 1.0, float(self.value(self.pool).max())

    def optimal_action(self):
        if self.action_mode == "select":
            return int(self.value(self.pool).argmax())
        return self.ideal().astype(np.float32)


NEEDS = ("fix my bike", "cook rice", "learn to sing", "repair a roof")
TEXTS = ("How to cook: rice, beans – and more", "fix a bike chain", "sing", "“roof” repair in one day")


class TextTask(SmallTask):
    """Texts: the share of words in common with what the user needs, who likes it short or long."""

    modes = ("write",)

    def describe(self):
        return TaskSpec(
            id="SmallText-v0",
            action_mode="write",
            horizon=self.horizon,
            num_users=self.users,
            query_dim=3,
            content_dim=3,
            num_items=len(TEXTS),
            pool=np.arange(12.0).reshape(4, 3) / 12,
            pool_texts=TEXTS,
            has_query_text=True,
            text_length=60,
            encoder="none",
            kwargs=self.kwargs,
        )

    def draw_round(self):
        super().draw_round()
        self.need = NEEDS[self.np_random.integers(len(NEEDS))]

    def observe(self):
        return {**super().observe(), "query_text": self.need}

    def judge(self, action):
        if not isinstance(action, str):
            raise ActionError(f"A write action must be a text, not {action!r}.")
        if len(action) > 60:
            raise ActionError(f"The text has {len(action)} characters: at most 60 are allowed.")
        return self.value(action)

    def value(self, text):
        words, needed = set(text.lower().split()), set(self.need.split())
        return len(words & needed) / max(1, len(words | needed))

    def oracles(self):
        return 1.0, max(self.value(text) for text in TEXTS)

    def optimal_action(self):
        return self.need


class SlateTask(SmallTask):
    """Slates of two from a pool that is new each round; an item that is not there, or there twice, earns nothing.

    An outcome tells whether the first item was taken (0) or none (-1), and of what is there the runner keeps a sum.
    """

    modes = ("slate", "select")
    measures = ("usable",)
    size = 7

    def describe(self):
        return TaskSpec(
            id="SmallSlate-v0",
            action_mode=self.action_mode,
            horizon=self.horizon,
            num_users=self.users,
            query_dim=3,
            content_dim=3,
            num_items=self.size,
            slate_size=2 if self.action_mode == "slate" else 1,
            kwargs=self.kwargs,
        )

    def draw_round(self):
        super().draw_round()
        self.pool = unit(self.np_random.standard_normal((self.size, 3)))
        self.mask = np.ones(self.size, dtype=np.int8)
        self.mask[self.np_random.choice(self.size, 3, replace=False)] = 0

    def observe(self):
        return {**super().observe(), "pool": self.pool.copy(), "pool_mask": self.mask.copy()}

    def values(self):
        return np.where(self.mask == 1, 0.5 + 0.5 * np.clip(self.pool @ self.query, -1.0, 1.0), 0.0)

    def judge(self, action):
        if self.action_mode == "select":
            items = np.array([item_index(action, self.size)])
        else:
            items = np.asarray(action)
            if items.shape != (2,) or not np.issubdtype(items.dtype, np.integer):
                raise ActionError(f"A slate must be two integers, not {action!r}.")
            for item in items:
                item_index(item, self.size)
        return float(self.values()[np.unique(items)].sum() / self.task.slate_size)

    def parts(self, action, reward):
        outcome = {"selected": reward - 1.0, "usable": float(self.mask[action].sum())}
        return {"usable": outcome["usable"], "outcome": outcome}

    def oracles(self):
        best = np.sort(self.values())[::-1]
        return 1.0, float(best[: self.task.slate_size].mean())

    def optimal_action(self):
        best = np.argsort(-self.values())[: self.task.slate_size]
        return best if self.action_mode == "slate" else int(best[0])


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


SMALL_TASKS = {
    "SmallNumeric-v0": "small_tasks:NumericTask",
    "SmallText-v0": "small_tasks:TextTask",
    "SmallSlate-v0": "small_tasks:SlateTask",
}

for _id, _entry_point in SMALL_TASKS.items():
    if _id not in gym.registry:
        gym.register(id=_id, entry_point=_entry_point)
