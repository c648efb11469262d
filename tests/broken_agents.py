"""Agents that each break one rule of the contract, around one that breaks none."""

import random

import numpy as np

from hare_gym.contract import Agent
from hare_gym.errors import ConfigError


class Sound(Agent):
    """Learns each item's mean reward and plays the best, or now and then any; content and texts at random."""

    modes = frozenset({"select", "slate", "synthesize", "write"})

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.counts = np.zeros(spec.num_items)
        self.sums = np.zeros(spec.num_items)

    def act(self, observation):
        mode, spec = self.spec.action_mode, self.spec
        if mode == "synthesize":
            return self.rng.uniform(-0.5, 0.5, spec.content_dim).astype(np.float32)
        if mode == "write":
            return str(self.rng.choice(spec.pool_texts))
        mask = observation.get("pool_mask", np.ones(spec.num_items))
        scores = np.where(
            mask, self.sums / np.maximum(self.counts, 1.0) + 0.3 * self.rng.random(spec.num_items), -1.0
        )
        order = np.argsort(-scores)
        return int(order[0]) if mode == "select" else order[: spec.slate_size]

    def update(self, observation, action, reward):
        if self.spec.action_mode in ("select", "slate"):
            self.counts[action] += 1
            self.sums[action] += reward

    def state(self):
        return {"counts": self.counts.copy(), "sums": self.sums.copy()}

    def load_state(self, state):
        self.counts, self.sums = state["counts"].copy(), state["sums"].copy()

    def probabilities(self, observation):
        if self.spec.action_mode != "select":
            return None
        mask = observation.get("pool_mask", np.ones(self.spec.num_items))
        return mask / mask.sum()

    def diagnostics(self):
        return {"rounds": float(self.counts.sum())}


class NoModes(Sound):
    modes = frozenset()


class UnknownMode(Sound):
    modes = frozenset({"choose"})


class TextOnly(Sound):
    modes = frozenset({"write"})


class WantsInfo(Sound):
    def update(self, observation, action, reward, info):
        pass


class WantsAnything(Sound):
    def act(self, observation, **extra):
        return super().act(observation)


class RefusesAll(Sound):
    def reset(self, spec, rng):
        super().reset(spec, rng)
        raise ConfigError("Refused: it is Monday.")


class SkipsSuper(Sound):
    def reset(self, spec, rng):
        self.spec = spec
        self.rng = np.random.default_rng(rng)
        self.counts, self.sums = np.zeros(spec.num_items), np.zeros(spec.num_items)
        self.rng = np.random.default_rng(3)


class ActRaises(Sound):
    def act(self, observation):
        return [0, 1, 2][int(self.counts.sum())]


class UpdateRaises(Sound):
    def update(self, observation, action, reward):
        super().update(observation, action, reward)
        if self.counts.sum() == 150:
            raise OverflowError("too many")


class PastThePool(Sound):
    def act(self, observation):
        return 6


class BoolAction(Sound):
    def act(self, observation):
        return True


class FloatAction(Sound):
    def act(self, observation):
        return 2.0


class DoubleVector(Sound):
    modes = frozenset({"synthesize"})

    def act(self, observation):
        return self.rng.uniform(-0.5, 0.5, 3)


class LongVector(Sound):
    modes = frozenset({"synthesize"})

    def act(self, observation):
        return np.full(3, 1.5, dtype=np.float32)


class OddText(TextOnly):
    def act(self, observation):
        return "a smile 🙂"


class RepeatsItem(Sound):
    modes = frozenset({"slate"})

    def act(self, observation):
        return np.array([5, 5])


class IgnoresMask(Sound):
    modes = frozenset({"select"})

    def act(self, observation):
        return 0


class LearnsInAct(Sound):
    def act(self, observation):
        self.counts[0] += 1.0
        return super().act(observation)


class ListState(Sound):
    def state(self):
        return [self.counts.copy()]


class NumberState(Sound):
    def state(self):
        return {**super().state(), "rounds": 3}


class ObjectState(Sound):
    def state(self):
        return {**super().state(), "history": np.array([{"a": 1}], dtype=object)}


class LiveState(Sound):
    def state(self):
        return {"counts": self.counts, "sums": self.sums}


class ForgetsToSave(Sound):
    def state(self):
        return {"counts": self.counts.copy()}

    def load_state(self, state):
        self.counts = state["counts"].copy()


class LoadRaises(Sound):
    def load_state(self, state):
        raise KeyError("sums")


class GlobalNumPyAgent(Sound):
    def act(self, observation):
        return int(np.random.randint(4))  # noqa: NPY002


class GlobalPythonAgent(Sound):
    def act(self, observation):
        return random.randrange(4)


class KeptInTheClass(Sound):
    """Keeps something where neither a copy nor a reset reaches it."""

    sessions = [0]

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.sessions[0] += 1

    def act(self, observation):
        return self.sessions[0] % self.spec.num_items


class RemembersTheLast(Sound):
    counts = None

    def reset(self, spec, rng):
        before = self.counts
        super().reset(spec, rng)
        if before is not None:
            self.counts = before


class WritesIntoObservation(Sound):
    def act(self, observation):
        observation["query"][0] = 0.0
        return super().act(observation)


class ShortProbabilities(Sound):
    def probabilities(self, observation):
        return np.full(3, 1.0 / 3.0)


class NegativeProbabilities(Sound):
    def probabilities(self, observation):
        return np.array([-0.5, 1.5, 0.0, 0.0, 0.0, 0.0])


class SmallProbabilities(Sound):
    def probabilities(self, observation):
        return np.full(6, 0.125)


class MaskedProbabilities(Sound):
    def probabilities(self, observation):
        return np.full(7, 1.0 / 7.0)


class DiagnosticsList(Sound):
    def diagnostics(self):
        return [1.0]


class DiagnosticsNaN(Sound):
    def diagnostics(self):
        return {"entropy": float("nan")}


class DiagnosticsText(Sound):
    def diagnostics(self):
        return {"phase": "exploring"}


class ShortBatch(Sound):
    def act_batch(self, observations):
        return super().act_batch(observations)[:2]


class WrongBatch(Sound):
    def act_batch(self, observations):
        return super().act_batch(observations) + 6


class LearnsInDiagnostics(Sound):
    def diagnostics(self):
        self.counts[0] += 1.0
        return {}


class UpdateBatchRaises(Sound):
    def update_batch(self, observations, actions, rewards):
        raise NotImplementedError("later")


class NeedsReward(Sound):
    def update(self, observation, action, reward):
        super().update(observation, action, 1.0 / (1.0 - reward) if self.counts.sum() > 200 else reward)


class WantsTheReward(Sound):
    def feedback(self, observation, action, outcome, reward):
        pass


class FeedbackRaises(Sound):
    def feedback(self, observation, action, outcome):
        raise KeyError("dwell")


class FeedbackBatchRaises(Sound):
    def feedback_batch(self, observations, actions, outcomes):
        raise NotImplementedError("later")


class WritesIntoOutcome(Sound):
    def feedback(self, observation, action, outcome):
        outcome["selected"] = 0.0
        outcome["seen"] = 1.0


class LosesFeedback(Sound):
    """Learns from outcomes what it does not save."""

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.last = 0

    def feedback(self, observation, action, outcome):
        self.last += 1

    def act(self, observation):
        action = super().act(observation)
        return np.roll(action, self.last > 50)
