"""Any algorithm of Stable-Baselines3 as an agent, trained online through the same loop as every other.

Stable-Baselines3 wants to own the loop: ``model.learn()`` calls ``env.step()``. Here the runner owns it, so this
module does, one round at a time, what ``collect_rollouts`` of its two families does in a ``while``: ask the policy,
store the transition, and call the algorithm's own ``train()`` when a rollout is full or a training step is due.
Networks, losses, buffers and optimisers are all the library's. A second thread that runs ``learn()`` would also
admit algorithms with a collection loop of their own (``RecurrentPPO``, ``MaskablePPO``), but it cannot take back an
action whose reward nobody observed, nor act for many users before the first reward comes, and it can hang; those
algorithms are refused instead, by name.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hare_agents._adapter import context_vector, finite_reward
from hare_agents.items import usable_items
from hare_gym.config import configure
from hare_gym.contract import (
    Action,
    ActionMode,
    Agent,
    Observation,
    SearchSpace,
    TaskSpec,
    action_space,
    nth_observation,
)
from hare_gym.errors import ConfigError, DataError, UnknownNameError, unknown_name

OWNER = "agent 'sb3'"

PLAYS: Mapping[str, tuple[ActionMode, ...]] = {
    "A2C": ("select", "synthesize"),
    "DDPG": ("synthesize",),
    "DQN": ("select",),
    "PPO": ("select", "synthesize"),
    "SAC": ("synthesize",),
    "TD3": ("synthesize",),
}
"""The library's own algorithms and the action modes that each can play."""

_OURS = ("policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model")

# NumPy's and torch's global generators and torch's thread count belong to the whole process.
_GLOBAL_STATE = threading.RLock()
_NUMPY: Any = np.random


@dataclass(frozen=True)
class StableBaselines3Config:
    """Knobs of `StableBaselines3`.

    Attributes:
        algorithm: ``"PPO"``, ``"A2C"``, ``"DQN"``, ``"SAC"``, ``"TD3"`` or ``"DDPG"``, or ``"package.module:Class"``
            for another that keeps the collection loop of the library's on-policy or off-policy base class (such as
            ``"sb3_contrib:TRPO"``).
        policy: The library's name for a policy over a flat observation, or ``"package.module:Class"``.
        kwargs: Arguments of the algorithm's constructor, such as ``{"learning_rate": 1e-3, "n_steps": 128}``. A
            number as ``action_noise`` is the standard deviation of Gaussian noise.
    """

    algorithm: str = "PPO"
    policy: str = "MlpPolicy"
    kwargs: Any = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.kwargs, Mapping):
            raise ConfigError(f"{OWNER}: kwargs must be a mapping of names to values, not {self.kwargs!r}.")


class StableBaselines3(Agent):
    """Plays ``select`` with PPO, A2C and DQN, and ``synthesize`` with PPO, A2C, SAC, TD3 and DDPG.

    **Observation.** One flat float32 vector: the query and the user as one-hot, so that the network's first layer
    holds a learned vector for each user; texts are dropped. Where the pool changes from round to round, the pool's
    vectors and its mask follow. An index whose item is masked out means the a-th modulo n of the n items that are
    there: to the learner a fixed property of the world, since these algorithms cannot mask.

    **Rounds.** Each round is an episode of one step that terminates, since no action changes a later round. The
    return is the reward whatever the discount; ``gamma`` is 0 so that nothing else enters by rounding.

    **Defaults** are the library's, which are meant for a million steps, except where a session of a few thousand
    rounds needs others: on-policy ``n_steps`` at most 64 (PPO's ``batch_size`` 64), so that learning starts early;
    ``learning_rate`` 1e-3 for PPO and DQN, whose gradient steps number a few hundred then; a replay buffer that
    holds one session (at most 100,000 rounds); ``action_noise`` 0.1 for TD3 and DDPG, which do not explore without
    (Fujimoto et al. 2018). Schedules (DQN's exploration) run over the task's horizon. None was tuned on this
    package's environments; a linear toy with four items served to see that they learn.

    **Rewards that never come.** ``update`` may be skipped (nobody observed the round): the transition is then
    simply not stored. ``act_batch`` decides for many users before their rewards. A reward for an action that is
    not among the last decided is learned from with the probability that the policy gives to the action now.

    **Randomness** is the agent's generator alone. NumPy's global functions, which the library uses, draw from it
    during each call; torch's CPU generator is seeded from it for each call; both, and torch's number of threads
    (1 during the call, so that results do not depend on it), are put back afterwards, whatever happens. A lock
    keeps two such agents in two threads from mixing. Python's ``random`` is not touched. The device is the CPU,
    which the library itself recommends for networks of this size.

    **State.** The networks, the optimisers, the rollout or replay buffer and the counters, as arrays: a loaded
    agent with the same generator continues exactly. Not kept: with ``use_sde``, the noise matrix of the moment,
    which is drawn anew; and an action whose reward has not come yet.

    Source: Raffin et al. 2021, "Stable-Baselines3: Reliable Reinforcement Learning Implementations", JMLR 22.

    Raises:
        UnknownNameError: An algorithm, a policy or an argument of the algorithm that does not exist.
        ConfigError: An algorithm that cannot be played round by round, or, at ``reset``, not in the task's mode.
    """

    modes = frozenset({"select", "synthesize"})
    libraries = ("stable-baselines3", "torch")
    # of the on-policy algorithms, of which one is the default; to tune another, derive a class with its own space
    search_space: ClassVar[SearchSpace] = {
        "kwargs.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "kwargs.n_steps": {"type": "choice", "values": [16, 32, 64, 128, 256]},
    }

    def __init__(self, **knobs: Any) -> None:
        self.config = configure(StableBaselines3Config, knobs, OWNER)
        self._algorithm = _algorithm_class(self.config.algorithm)
        self._name = self._algorithm.__name__
        self._on_policy = _is_on_policy(self._algorithm)
        self._check_kwargs()
        self._policy = self._policy_argument()

    def _check_kwargs(self) -> None:
        known = _arguments(self._algorithm)
        for name in self.config.kwargs:
            if name in _OURS:
                raise ConfigError(f"{OWNER}: kwargs must not hold {name!r}: the agent sets it itself.")
            if name not in known:
                raise unknown_name(f"argument of {self._name}", str(name), [n for n in known if n not in _OURS])

    def _policy_argument(self) -> Any:
        if ":" in self.config.policy:
            return _load(self.config.policy, "policy")
        # the observation is a flat vector, which the image and the dictionary policies cannot read
        flat = [name for name in self._algorithm.policy_aliases if name not in ("CnnPolicy", "MultiInputPolicy")]
        if self.config.policy not in flat:
            raise unknown_name(f"policy of {self._name}", self.config.policy, flat)
        return self.config.policy

    # -- the model ----------------------------------------------------------------------------------------------

    def reset(self, spec: TaskSpec, rng: np.random.Generator) -> None:
        """Builds the networks anew, from ``rng``."""
        super().reset(spec, rng)
        plays = PLAYS.get(self._name, ("select", "synthesize"))
        if spec.action_mode not in plays:
            others = [name for name, modes in PLAYS.items() if spec.action_mode in modes]
            can = f"Algorithms that can: {', '.join(others)}." if others else "No algorithm here can."
            raise ConfigError(f"{OWNER}: {self._name} cannot play action mode {spec.action_mode!r}. {can}")
        self._pending: dict[bytes, tuple[Any, ...]] = {}
        size = spec.query_dim + spec.num_users
        if spec.pool is None:
            size += spec.num_items * (spec.content_dim + 1)
        env = _Spaces(spaces.Box(-np.inf, np.inf, (size,), np.float32), action_space(spec))
        with self._contained():
            try:
                self._model = self._algorithm(self._policy, env, device="cpu", **self._arguments(spec))
            except (AssertionError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"{OWNER}: {self._name} could not be built for action mode {spec.action_mode!r}: {error}"
                ) from error
            self._prepare()

    def _arguments(self, spec: TaskSpec) -> dict[str, Any]:
        """The constructor's arguments: the user's over the defaults that the class's docstring names."""
        from stable_baselines3 import DQN, PPO, TD3
        from stable_baselines3.common.noise import NormalActionNoise

        own = _arguments(self._algorithm)
        defaults: dict[str, Any] = {"gamma": 0.0}
        if self._on_policy:
            n_steps = self.config.kwargs.get("n_steps", min(own["n_steps"].default, 64))
            defaults |= {"n_steps": n_steps, "batch_size": min(n_steps, 64)}
        else:
            defaults["buffer_size"] = min(spec.horizon, 100_000)
        if issubclass(self._algorithm, TD3):
            defaults["action_noise"] = 0.1
        if issubclass(self._algorithm, PPO | DQN):
            defaults["learning_rate"] = 1e-3
        arguments = {name: value for name, value in defaults.items() if name in own}
        # the library writes into the dictionaries that it is given
        arguments |= copy.deepcopy(dict(self.config.kwargs))
        noise = arguments.get("action_noise")
        if isinstance(noise, int | float):
            shape = spec.content_dim
            arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, float(noise)))
        return arguments

    def _prepare(self) -> None:
        """What ``learn`` does before its loop."""
        from stable_baselines3.common.logger import Logger

        model = self._model
        model.set_logger(Logger(folder=None, output_formats=[]))
        model.action_space._np_random = self.rng
        model.policy.set_training_mode(False)
        if model.use_sde:
            self._actor().reset_noise(1)

    def _actor(self) -> Any:
        return self._model.policy if self._on_policy else self._model.actor

    @contextmanager
    def _contained(self) -> Iterator[None]:
        """Lends the process's random generators and torch's thread count to the library for one call."""
        import torch

        generator = torch.default_generator
        with _GLOBAL_STATE:
            threads = torch.get_num_threads()
            torch_state = generator.get_state()
            numpy_bits = _NUMPY.get_bit_generator()
            numpy_state = _NUMPY.get_state(legacy=False)
            if threads != 1:
                torch.set_num_threads(1)
            generator.manual_seed(int(self.rng.integers(2**63)))
            _NUMPY.set_bit_generator(self.rng.bit_generator)
            try:
                yield
            finally:
                _NUMPY.set_bit_generator(numpy_bits)
                if numpy_state["has_gauss"]:  # changing generators drops the second of a pair of normals
                    _NUMPY.set_state(numpy_state)
                generator.set_state(torch_state)
                if threads != 1:
                    torch.set_num_threads(threads)

    # -- acting -------------------------------------------------------------------------------------------------

    def _context(self, observation: Observation) -> NDArray[np.float32]:
        x = context_vector(self.spec, observation)
        if self.spec.pool is None:
            mask = np.asarray(observation["pool_mask"], dtype=np.float64)
            x = np.concatenate([x, (np.asarray(observation["pool"]) * mask[:, None]).ravel(), mask])
        return x.astype(np.float32)

    def act(self, observation: Observation) -> Action:
        """An item's index, or a content vector, float32 ``(content_dim,)``, drawn from the policy."""
        return self._act([observation])[0]

    def act_batch(self, observations: Observation) -> Action:
        """B actions from one pass through the network (off-policy: B passes, each with noise of its own)."""
        size = len(observations["user"])
        return np.stack(self._act([nth_observation(observations, i) for i in range(size)]))

    def _act(self, observations: list[Observation]) -> list[Action]:
        contexts = np.stack([self._context(observation) for observation in observations])
        with self._contained():
            decisions = self._on_policy_actions(contexts) if self._on_policy else self._off_policy_actions(contexts)
        self._pending = {}
        actions: list[Action] = []
        for observation, x, (action, *transition) in zip(observations, contexts, decisions, strict=True):
            if self.spec.action_mode == "select":
                action = self._item(observation, int(action))
            self._pending[_key(x, action)] = tuple(transition)
            actions.append(action)
        return actions

    def _item(self, observation: Observation, index: int) -> int:
        if "pool_mask" not in observation or observation["pool_mask"][index]:
            return index
        items = usable_items(self.spec, observation)
        return int(items[index % len(items)])

    def _on_policy_actions(self, contexts: NDArray[np.float32]) -> list[tuple[Any, ...]]:
        """For each row: the action to play, the policy's own action, its value and its log probability."""
        import torch

        model = self._model
        with torch.no_grad():
            raw, values, log_probs = model.policy(torch.as_tensor(contexts))
        raw = raw.numpy()
        actions = raw
        if self.spec.action_mode == "synthesize":
            if model.policy.squash_output:
                actions = model.policy.unscale_action(raw)
            actions = np.clip(actions, -1.0, 1.0).astype(np.float32)
        return [(actions[i], raw[i : i + 1], values[i : i + 1], log_probs[i : i + 1]) for i in range(len(raw))]

    def _off_policy_actions(self, contexts: NDArray[np.float32]) -> list[tuple[Any, ...]]:
        """For each row: the action to play, and the one that the replay buffer stores."""
        model = self._model
        decisions = []
        for x in contexts:
            model._last_obs = x[None]
            action, stored = model._sample_action(model.learning_starts, model.action_noise)
            if self.spec.action_mode == "synthesize":
                action = np.clip(action, -1.0, 1.0).astype(np.float32)
            decisions.append((action[0], stored))
        return decisions

    def probabilities(self, observation: Observation) -> NDArray[np.float64] | None:
        """Exact in ``select``; ``None`` in ``synthesize``, where the policy has a density."""
        import torch

        if self.spec.action_mode != "select":
            return None
        model, N = self._model, self.spec.num_items
        x = self._context(observation)[None]
        if self._on_policy:
            with torch.no_grad():
                p = model.policy.get_distribution(torch.as_tensor(x)).distribution.probs[0].double().numpy()
        elif hasattr(model, "exploration_rate"):
            epsilon = 1.0 if model.num_timesteps < model.learning_starts else model.exploration_rate
            p = np.full(N, epsilon / N)
            p[int(model.predict(x, deterministic=True)[0][0])] += 1.0 - epsilon
        else:
            return None
        chances = np.zeros(N)
        np.add.at(chances, [self._item(observation, index) for index in range(N)], p / p.sum())
        return chances

    # -- learning -----------------------------------------------------------------------------------------------

    def update(self, observation: Observation, action: Action, reward: float) -> None:
        """Stores the transition, and trains when a rollout is full or a training step is due.

        Raises:
            DataError: A reward that is not finite.
        """
        reward = finite_reward(OWNER, reward)
        x = self._context(observation)
        with self._contained():
            transition = self._pending.get(_key(x, action)) or self._transition(x, action)
            if self._on_policy:
                self._update_on_policy(x, transition, reward)
            else:
                self._update_off_policy(x, transition, reward)

    def _transition(self, x: NDArray[np.float32], action: Action) -> tuple[Any, ...]:
        """What ``act`` would have remembered, had it just chosen ``action``."""
        import torch

        policy = self._model.policy
        stored = np.asarray(action)[None]
        if self.spec.action_mode == "synthesize" and policy.squash_output:
            stored = policy.scale_action(stored)
        if not self._on_policy:
            return (stored,)
        with torch.no_grad():
            values, log_probs, _ = policy.evaluate_actions(torch.as_tensor(x[None]), torch.as_tensor(stored))
        return stored, values, log_probs

    def _update_on_policy(self, x: NDArray[np.float32], transition: tuple[Any, ...], reward: float) -> None:
        import torch

        model = self._model
        buffer = model.rollout_buffer
        raw, value, log_prob = transition
        buffer.add(x[None], raw.reshape(1, -1), np.array([reward]), np.ones(1), value, log_prob)
        self._count_round()
        if buffer.full:
            buffer.compute_returns_and_advantage(last_values=torch.zeros(1), dones=np.ones(1))
            model.train()
            model.policy.set_training_mode(False)
            buffer.reset()
        self._resample_noise(buffer.pos)

    def _update_off_policy(self, x: NDArray[np.float32], transition: tuple[Any, ...], reward: float) -> None:
        model = self._model
        model._last_obs = x[None]
        # the next observation of a terminal transition is never used; its own stands in
        model._store_transition(
            model.replay_buffer, transition[0], x[None], np.array([reward]), np.ones(1, dtype=np.bool_), [{}]
        )
        self._count_round()
        model._on_step()
        model._episode_num += 1
        if model.action_noise is not None:
            model.action_noise.reset()
        rollout = model.num_timesteps % model.train_freq.frequency
        if rollout == 0 and model.num_timesteps > model.learning_starts:
            steps = model.gradient_steps if model.gradient_steps >= 0 else model.train_freq.frequency
            if steps > 0:
                model.train(gradient_steps=steps, batch_size=model.batch_size)
                model.policy.set_training_mode(False)
        self._resample_noise(rollout)

    def _count_round(self) -> None:
        model = self._model
        model.num_timesteps += 1
        model._update_current_progress_remaining(model.num_timesteps, max(self.spec.horizon, model.num_timesteps))

    def _resample_noise(self, rollout: int) -> None:
        """New noise for state-dependent exploration: at each rollout's start and every ``sde_sample_freq``."""
        model = self._model
        if model.use_sde and (rollout == 0 or (model.sde_sample_freq > 0 and rollout % model.sde_sample_freq == 0)):
            self._actor().reset_noise(1)

    # -- what was learned ---------------------------------------------------------------------------------------

    _COUNTERS = (
        "num_timesteps",
        "_n_updates",
        "_n_calls",
        "_episode_num",
        "exploration_rate",
        "_current_progress_remaining",
    )

    def state(self) -> dict[str, NDArray[Any]]:
        """Parameters, optimisers, buffer and counters by name, such as ``policy/action_net.weight``."""
        model = self._model
        arrays: dict[str, NDArray[Any]] = {}
        for owner, values in model.get_parameters().items():
            if owner.endswith("optimizer"):
                for index, moments in values["state"].items():
                    arrays |= {f"{owner}/{index}/{name}": _array(value) for name, value in moments.items()}
            else:
                arrays |= {f"{owner}/{name}": _array(value) for name, value in values.items()}
        for name in model._get_torch_save_params()[1]:
            arrays[f"variable/{name}"] = _array(getattr(model, name))
        buffer = self._buffer()
        arrays["buffer"] = np.array([buffer.pos, int(buffer.full)])
        for name, array in _buffer_arrays(buffer).items():
            arrays[f"buffer/{name}"] = array[: buffer.size()].copy()
        for name in self._COUNTERS:
            if hasattr(model, name):
                arrays[f"counter/{name}"] = np.array(getattr(model, name))
        return arrays

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Takes back what :meth:`state` gave, after a ``reset`` with the same task, algorithm and arguments.

        Raises:
            DataError: An array that this algorithm's networks have is missing or has another shape.
        """
        import torch

        model = self._model
        ours = self.state()
        for name in ours:
            if name.startswith(("policy/", "variable/", "counter/")):
                if name not in state:
                    raise DataError(f"{OWNER}: the state holds no {name!r}; was it another algorithm's?")
                if state[name].shape != ours[name].shape:
                    raise DataError(
                        f"{OWNER}: {name!r} has shape {state[name].shape} in the state, not {ours[name].shape}."
                    )
        parameters = model.get_parameters()
        for owner, values in parameters.items():
            mine = {key.removeprefix(f"{owner}/"): a for key, a in state.items() if key.startswith(f"{owner}/")}
            if owner.endswith("optimizer"):
                values["state"] = {}
                for key, array in mine.items():
                    index, _, name = key.partition("/")
                    values["state"].setdefault(int(index), {})[name] = _moment(array)
            else:
                parameters[owner] = {name: torch.as_tensor(np.array(array)) for name, array in mine.items()}
        model.set_parameters(parameters, exact_match=True, device="cpu")
        with torch.no_grad():
            for name in model._get_torch_save_params()[1]:
                getattr(model, name).copy_(torch.as_tensor(np.array(state[f"variable/{name}"])))
        buffer = self._buffer()
        buffer.reset()
        for name, array in _buffer_arrays(buffer).items():
            array[: len(state[f"buffer/{name}"])] = state[f"buffer/{name}"]
        buffer.pos, buffer.full = int(state["buffer"][0]), bool(state["buffer"][1])
        for name in self._COUNTERS:
            if hasattr(model, name):
                setattr(model, name, state[f"counter/{name}"].item())
        self._pending = {}

    def diagnostics(self) -> dict[str, float]:
        """The library's own training figures, such as ``train/entropy_loss``, as of the last training step."""
        recorded = self._model.logger.name_to_value
        return {name: float(value) for name, value in recorded.items() if name.startswith("train/")}

    def _buffer(self) -> Any:
        return self._model.rollout_buffer if self._on_policy else self._model.replay_buffer


class _Spaces(gym.Env[Any, Any]):
    """The two spaces that an algorithm's constructor asks an environment for; the runner has the real one."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space = observations
        self.action_space = actions


def _algorithm_class(name: str) -> Any:
    """The algorithm's class.

    Raises:
        UnknownNameError: There is none of the name.
        ConfigError: It is no algorithm, or one with a collection loop of its own.
    """
    if ":" in name:
        algorithm = _load(name, "algorithm")
    elif name in PLAYS:
        import stable_baselines3

        algorithm = getattr(stable_baselines3, name)
    else:
        raise unknown_name(
            f"algorithm of {OWNER}", name, PLAYS, 'Another package\'s is named "package.module:Class".'
        )
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    if not (isinstance(algorithm, type) and issubclass(algorithm, OnPolicyAlgorithm | OffPolicyAlgorithm)):
        _refuse(name, "is not an on-policy or off-policy algorithm of Stable-Baselines3")
    base = OnPolicyAlgorithm if issubclass(algorithm, OnPolicyAlgorithm) else OffPolicyAlgorithm
    if algorithm.collect_rollouts is not base.collect_rollouts:
        _refuse(name, "gathers its rollouts in a way of its own, which cannot be played round by round")
    return algorithm


def _refuse(name: str, why: str) -> NoReturn:
    raise ConfigError(f"{OWNER}: {name} {why}. Algorithms that can be played: {', '.join(PLAYS)}.")


def _is_on_policy(algorithm: Any) -> bool:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    return issubclass(algorithm, OnPolicyAlgorithm)


def _load(path: str, kind: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"{kind} {path!r} of {OWNER}: there is no module {error.name!r}. Install its package."
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise unknown_name(f"{kind} in {module_name}", attribute, public)
    return getattr(module, attribute)


def _arguments(algorithm: Any) -> Mapping[str, inspect.Parameter]:
    own = dict(inspect.signature(algorithm.__init__).parameters)
    own.pop("self")
    return own


def _key(x: NDArray[np.float32], action: Action) -> bytes:
    action = np.asarray(action)
    kind = np.int64 if action.dtype.kind in "iu" else np.float32
    return bytes(x.tobytes() + action.astype(kind).tobytes())


def _array(value: Any) -> NDArray[Any]:
    return np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _moment(array: NDArray[Any]) -> Any:
    """An optimiser's entry as torch had it: some optimisers count their steps in a plain int."""
    import torch

    array = np.array(array)
    return int(array) if array.ndim == 0 and array.dtype.kind == "i" else torch.as_tensor(array)


def _buffer_arrays(buffer: Any) -> dict[str, NDArray[Any]]:
    return {name: value for name, value in vars(buffer).items() if isinstance(value, np.ndarray)}
