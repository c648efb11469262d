"""A sample submission as a stranger would write it: epsilon-greedy on each item's mean reward, with numpy alone."""

import numpy as np

from hare_gym import Agent


class Good(Agent):
    def __init__(self, epsilon=0.1):
        self.epsilon = epsilon

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.sums, self.counts = np.zeros(spec.num_items), np.zeros(spec.num_items)

    def act(self, observation):
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(self.spec.num_items))
        return int(np.argmax(self.sums / np.maximum(self.counts, 1.0)))

    def update(self, observation, action, reward):
        self.sums[action] += reward
        self.counts[action] += 1.0

    def state(self):
        return {"sums": self.sums.copy(), "counts": self.counts.copy()}

    def load_state(self, state):
        self.sums, self.counts = state["sums"].copy(), state["counts"].copy()
