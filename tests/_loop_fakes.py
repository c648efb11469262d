"""Small agents and environments for the tests of the loop: greedy, slow, failing, and lying ones."""

import math
import time
from typing import Any

import gymnasium as gym
import numpy as np
import typer

from hare_gym import Agent, TaskSpec, register_environment
from hare_gym.contract import action_space, observation_space


class Greedy(Agent):
    """Learns each item's mean; random with chance ``epsilon``."""

    def __init__(self, epsilon: float = 0.1, pause: float = 0.0) -> None:
        self.epsilon, self.pause = epsilon, pause

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.sums, self.counts = np.zeros(spec.num_items), np.full(spec.num_items, 1e-9)
        time.sleep(self.pause)

    def act(self, observation):
        if self.rng.random() < self.epsilon:
            return int(self.rng.integers(self.spec.num_items))
        return int(np.argmax(self.sums / self.counts))

    def update(self, observation, action, reward):
        self.sums[action] += reward
        self.counts[action] += 1

    def diagnostics(self):
        tried = float((self.counts > 1).sum())
        return {"tried": tried, "nothing": math.nan} | ({"late": 1.0} if self.counts.sum() > 20.5 else {})


class Clean(Greedy):
    """Keeps the contract: its diagnostics are finite, and its state can be saved."""

    def diagnostics(self):
        return {"tried": float((self.counts > 1).sum())}

    def state(self):
        return {"sums": self.sums.copy(), "counts": self.counts.copy()}

    def load_state(self, state):
        self.sums, self.counts = state["sums"].copy(), state["counts"].copy()


class Fails(Greedy):
    """Raises ``kind`` in a round, or in ``reset`` for round 0."""

    def __init__(self, round: int = 700, kind: str = "ValueError") -> None:
        super().__init__()
        self.round, self.kind = round, kind

    def reset(self, spec, rng):
        super().reset(spec, rng)
        self.played = 0
        self._fail_in(0)

    def act(self, observation):
        self.played += 1
        self._fail_in(self.played)
        return super().act(observation)

    def _fail_in(self, round):
        if round == self.round:
            error = {"ENOSPC": OSError(28, "No space left on device")}
            raise error.get(self.kind) or getattr(__import__("builtins"), self.kind)(f"I am {object()!r}")


class Composer(Agent):
    """Synthesizes only."""

    modes = frozenset({"synthesize"})

    def act(self, observation):
        return observation["query"].astype(np.float32)


class Peeks(Agent):
    """Privileged: plays the best item."""

    privileged = True

    def attach(self, env):
        self.env = env

    def act(self, observation):
        return self.env.optimal_action()


class Unclean(Agent):
    """Uses randomness that is not its own."""

    def act(self, observation):
        return int(np.random.default_rng().integers(self.spec.num_items))


class Odd(gym.Env):
    """Gives what it is told to: rewards, observations, and rounds that nobody observed."""

    def __init__(
        self,
        action_mode: str | None = None,
        horizon: int = 10,
        reward: float = 0.5,
        reward_from: int = 1,
        query: float | str = 0.0,
        regret: float = 0.25,
        hide_every: int = 0,
        endless: bool = False,
        ends_at: int = 0,
        render_mode: str | None = None,
    ):
        self.horizon, self.reward, self.reward_from = horizon, reward, reward_from
        self.query, self.regret = query, regret
        self.hide_every, self.endless, self.ends_at = hide_every, endless, ends_at
        self.task = TaskSpec("Odd-v0", "select", horizon, 2, 3, 2, 4, pool=np.eye(4)[:, :2])
        self.observation_space, self.action_space = observation_space(self.task), action_space(self.task)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def _observation(self) -> dict[str, Any]:
        return {"query": np.full(3, float(self.query) if self.t == 4 else 1.0), "user": 0}

    def step(self, action):
        self.t += 1
        info = {"regret": self.regret, "expected_reward": 0.5, "oracle_reward": 0.75, "catalogue_oracle_reward": 0.75}
        if self.hide_every and self.t % self.hide_every == 0:
            info = {"observed": False}
        reward = self.reward if self.t >= self.reward_from else 0.5
        over = not self.endless and self.t >= (self.ends_at or self.horizon)
        return self._observation(), reward, False, over, info


register_environment("Odd-v0", "_loop_fakes:Odd")


class KillsItsProcess(Greedy):
    """Dies as from an out-of-memory killer, if it is in a process of its own."""

    def act(self, observation):
        import multiprocessing
        import os
        import signal

        assert multiprocessing.parent_process() is not None
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)


commands = typer.Typer()


@commands.command()
def hello() -> None:
    print("hello from extra")


@commands.command()
def other() -> None:
    print("a second command, so that the first keeps its name")
