"""Environments that each break one rule of the contract."""

import random
from dataclasses import replace

import numpy as np
from gymnasium import spaces
from small_tasks import NumericTask, SlateTask, TextTask


class NoTask(NumericTask):
    def reset(self, *, seed=None, options=None):
        result = super().reset(seed=seed)
        self.task = {"horizon": 40}
        return result


class UnversionedTask(NumericTask):
    def describe(self):
        return replace(super().describe(), id="SmallNumeric")


class NotJSON(NumericTask):
    def describe(self):
        return replace(super().describe(), kwargs={"made_by": print})


class LosesInJSON(NumericTask):
    def describe(self):
        return replace(super().describe(), kwargs={9: "b", 10: "a"})


class WrongMode(NumericTask):
    def describe(self):
        return replace(super().describe(), action_mode="slate", slate_size=2)


class WrongObservationSpace(NumericTask):
    def _set_task(self, task):
        super()._set_task(task)
        self.observation_space = spaces.Dict({"query": spaces.Box(-1.0, 1.0, (3,), np.float64)})


class WrongActionSpace(NumericTask):
    def _set_task(self, task):
        super()._set_task(task)
        self.action_space = spaces.Discrete(7)


class IgnoresHorizon(NumericTask):
    def __init__(self, action_mode=None, render_mode=None, horizon=40):
        super().__init__(action_mode, render_mode, 30)


class ResetRaises(NumericTask):
    def draw_world(self):
        raise KeyError("world")


class StepRaises(NumericTask):
    def draw_round(self):
        super().draw_round()
        if self.t == 17:
            raise ZeroDivisionError("division by zero")


class MissingKey(NumericTask):
    def observe(self):
        return {"query": self.query.copy()}


class Float32Query(NumericTask):
    def observe(self):
        return {**super().observe(), "query": self.query.astype(np.float32)}


class NaNQuery(NumericTask):
    def observe(self):
        return {**super().observe(), "query": self.query * (np.nan if self.t == 3 else 1.0)}


class InfiniteQuery(NumericTask):
    def observe(self):
        return {**super().observe(), "query": np.full(3, np.inf)}


class UnknownUser(NumericTask):
    def observe(self):
        return {**super().observe(), "user": np.int64(4)}


class SharedObservation(NumericTask):
    buffer = np.zeros(3)

    def observe(self):
        self.buffer[:] = self.query
        return {**super().observe(), "query": self.buffer}


class SharedPool(SlateTask):
    def observe(self):
        return {**super().observe(), "pool": self.pool}

    def draw_round(self):
        if not hasattr(self, "pool"):
            super().draw_round()


class NothingToChoose(SlateTask):
    def observe(self):
        return {**super().observe(), "pool_mask": np.zeros(7, dtype=np.int8)}


class Changed(NumericTask):
    """Changes what the frame's step returns."""

    def step(self, action):
        return self.change(*super().step(action))


class NumpyReward(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, np.float64(reward), terminated, truncated, info


class LargeReward(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, 1.0 + reward, terminated, truncated, info


class NaNReward(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, float("nan"), terminated, truncated, info


class Terminates(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, self.t == 9, truncated, info


class TruncatesEarly(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, terminated, self.t == 5, info


class NeverTruncates(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, terminated, False, info


class MissingInfo(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        del info["regret"]
        return observation, reward, terminated, truncated, info


class TextInfo(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, terminated, truncated, {**info, "regret": "0.5"}


class InfiniteInfo(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, terminated, truncated, {**info, "oracle_reward": float("inf")}


class UnclearObserved(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        return observation, reward, terminated, truncated, {**info, "observed": 1}


class FixedInfo(Changed):
    def change(self, observation, reward, terminated, truncated, info):
        names = ("expected_reward", "oracle_reward", "catalogue_oracle_reward", "regret")
        return observation, reward, terminated, truncated, {**info, **dict(zip(names, self.values, strict=True))}


class NegativeMean(FixedInfo):
    values = (-0.25, 1.0, 0.5, 0.75)


class LowOracle(FixedInfo):
    values = (0.75, 0.5, 0.75, 0.0)


class LowCatalogue(FixedInfo):
    values = (0.75, 1.0, 0.5, 0.0)


class HighCatalogue(FixedInfo):
    values = (0.25, 0.5, 0.75, 0.5)


class OtherRegret(FixedInfo):
    values = (0.25, 1.0, 0.5, 0.75)


class TaskDrifts(NumericTask):
    def draw_round(self):
        super().draw_round()
        if self.t == 20:
            self.task = replace(self.task, pool=self.pool + 1.0)


class HiddenCounter(NumericTask):
    """Keeps something from one session to the next."""

    sessions = 0

    def draw_world(self):
        super().draw_world()
        self.sessions += 1

    def draw_round(self):
        super().draw_round()
        if self.t == 8 and self.sessions > 2:
            self.query = -self.query


class OwnEntropy(NumericTask):
    """Each instance draws from a generator that no seed reaches."""

    def __init__(self, action_mode=None, render_mode=None, horizon=40):
        super().__init__(action_mode, render_mode, horizon)
        self.luck = np.random.default_rng().standard_normal(3)

    def draw_round(self):
        super().draw_round()
        self.query = self.luck


class GlobalNumPy(NumericTask):
    def draw_round(self):
        super().draw_round()
        self.query = np.random.standard_normal(3)  # noqa: NPY002


class GlobalPython(NumericTask):
    def draw_round(self):
        super().draw_round()
        self.user = np.int64(random.randrange(4))


class IgnoresSeed(NumericTask):
    def reset(self, *, seed=None, options=None):
        return super().reset(seed=None if seed is None else 7)


class RepeatsItself(NumericTask):
    def reset(self, *, seed=None, options=None):
        self.last = self.last if seed is None else seed
        return super().reset(seed=self.last)


class ForgetsUnseeded(NumericTask):
    """Without a seed, takes a new one from the operating system."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=int(np.random.default_rng().integers(2**31)) if seed is None else seed)


class AcceptsAnything(NumericTask):
    def judge(self, action):
        return 0.5 if action is None else super().judge(action)


class RefusesOtherwise(NumericTask):
    def judge(self, action):
        return float(self.value(self.pool[action]))


class SpendsTheRound(NumericTask):
    def step(self, action):
        self.np_random.random()
        return super().step(action)


class PoorOptimum(NumericTask):
    def optimal_action(self):
        return int(self.value(self.pool).argmin())


class OddOptimum(NumericTask):
    def optimal_action(self):
        return 6.0


class SilentRender(NumericTask):
    def render(self):
        return " "


class GreyRender(NumericTask):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def render(self):
        return np.zeros((4, 4), dtype=np.uint8)


class RenderDraws(NumericTask):
    def draw_round(self):
        super().draw_round()
        if self.render_mode is not None:
            self.query = -self.query


class LongText(TextTask):
    def judge(self, action):
        return super().judge(action[:60] if isinstance(action, str) else action)


class CrampedPool(SlateTask):
    def observe(self):
        mask = self.mask * (self.t != 5)
        mask[0] = 1
        return {**super().observe(), "pool_mask": mask}


class ListOutcome(SlateTask):
    def parts(self, action, reward):
        return {**super().parts(action, reward), "outcome": [0.5]}


class NaNOutcome(SlateTask):
    def parts(self, action, reward):
        return {**super().parts(action, reward), "outcome": {"dwell": float("nan")}}


class ChangingOutcome(SlateTask):
    def parts(self, action, reward):
        parts = super().parts(action, reward)
        return {**parts, "outcome": {"dwell": 3.0}} if self.t == 6 else parts


class NotMeasured(SlateTask):
    measures = ("usable", "clicks")
