"""Does an environment, or an agent, keep the contract of :mod:`hare_gym.contract`?

:func:`check_task` and :func:`check_agent` say what is wrong, where, and what to do about it. Every registered
environment and agent goes through them in this project's tests; ``hare check`` runs them from the shell.
"""

from __future__ import annotations

import copy
import inspect
import io
import math
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import (
    ACTION_MODES,
    INFO_KEYS,
    Action,
    ActionMode,
    Agent,
    Observation,
    TaskSpec,
    action_space,
    nth_observation,
    observation_space,
)
from hare_gym.errors import ActionError, ConfigError, ContractError, HareError, unknown_name
from hare_gym.registry import environment_ids

ROUNDS = 200
"""Rounds in a checked session, where the environment lets its horizon be chosen."""

_LONGEST = 20_000
_SEED = 1
_BATCH = 3
_TOLERANCE = 1e-9
# a float32 action cannot hit a float64 optimum exactly
_OPTIMUM_TOLERANCE = 1e-6
_SMALL_KNOBS: Mapping[str, Mapping[str, Any]] = {
    "HareBilinear-v0": {"num_items": 12, "num_clusters": 4, "num_users": 5, "dim": 4, "user_dim": 2, "features": 4},
    "HareClassification-v0": {"table": "wine"},
    "HareSkills-v0": {},  # before other tasks that are written for, as its pool stays
}


def check_task(env: gym.Env[Any, Any]) -> None:
    """Checks a single environment, in the action mode that it was made with.

    It is made anew several times (through its ``spec``), with a horizon of 200 rounds if it has that knob; one that
    has not is played to its end if that comes within 20,000 rounds.

    Args:
        env: An environment from ``gymnasium.make``. It is left as it was.

    Raises:
        ContractError: The first breach found: what is wrong, where, and what to do.
    """
    name = type(env.unwrapped).__name__
    if env.spec is None:
        raise ContractError(
            f"{name} has no spec. Register it and make it with gymnasium.make, so that others can make the same one."
        )
    if not re.search(r"-v\d+$", env.spec.id):
        raise ContractError(
            f"The id {env.spec.id!r} has no version. End it in -v0: a published id never changes behaviour."
        )
    try:
        env.spec.to_json()
    except Exception as error:
        raise ContractError(
            f"{env.spec.id}: spec.to_json() raised {type(error).__name__}: {error}. Register a string as entry point "
            "('package.module:Class') and give knobs that are plain JSON values."
        ) from error
    make, horizon = _shortened(env.spec)
    probe = make()
    task = _check_description(probe, env.spec.id, horizon)
    where = f"{env.spec.id} [{task.action_mode}]"
    _check_sessions(make, where, min(task.horizon, ROUNDS), task.horizon <= _LONGEST)
    _check_refusals(make, where)
    if hasattr(probe.unwrapped, "optimal_action"):
        _check_optimum(make, where)
    _check_rendering(make, where, probe.metadata.get("render_modes", []))
    probe.close()


_Make = Callable[..., gym.Env[Any, Any]]


def _shortened(spec: Any) -> tuple[_Make, int | None]:
    """How to make the environment, and the horizon that it was told to have, if it has that knob."""

    def make(**kwargs: Any) -> gym.Env[Any, Any]:
        return gym.make(spec, disable_env_checker=True, **kwargs)

    try:
        make(horizon=ROUNDS).close()
    except (HareError, TypeError):
        return make, None
    return lambda **kwargs: make(horizon=ROUNDS, **kwargs), ROUNDS


def _check_description(env: gym.Env[Any, Any], id: str, horizon: int | None) -> TaskSpec:
    """The task after a reset, if it is one, survives JSON, and agrees with the spaces and modes."""
    _call(id, env.reset, seed=_SEED)
    task = getattr(env.unwrapped, "task", None)
    if not isinstance(task, TaskSpec):
        raise ContractError(f"{id}: env.unwrapped.task is {_brief(task)} after reset. Set it to a hare_gym.TaskSpec.")
    if not re.search(r"-v\d+$", task.id):
        raise ContractError(f"{id}: task.id is {task.id!r}, which has no version. Set it to the registered id.")
    try:
        again = TaskSpec.from_json(task.to_json())
    except (TypeError, ValueError) as error:
        raise ContractError(
            f"{id}: the task does not survive JSON: {error}. Keep its kwargs and texts to plain finite JSON values."
        ) from error
    if again != task or again.digest != task.digest:
        raise ContractError(f"{id}: the task read back from its JSON has another digest. Use plain JSON values.")
    modes = getattr(env.unwrapped, "modes", ACTION_MODES)
    if task.action_mode not in modes:
        raise ContractError(
            f"{id}: task.action_mode is {task.action_mode!r}, which is not among its modes {tuple(modes)}. "
            "Add it to the class's modes, or make the task with one of them."
        )
    for kind, space, implied in (
        ("observation", env.observation_space, observation_space(task)),
        ("action", env.action_space, action_space(task)),
    ):
        if space != implied:
            raise ContractError(
                f"{id}: its {kind}_space is {space}, but its task implies {implied}. "
                f"Set it to hare_gym.contract.{kind}_space(task)."
            )
    if horizon is not None and task.horizon != horizon:
        raise ContractError(f"{id}: made with horizon={horizon}, its task.horizon is {task.horizon}. Use the knob.")
    return task


@dataclass
class _Session:
    """A session as bytes, round by round; round 0 is the reset."""

    rounds: list[bytes]

    def difference(self, other: _Session) -> int | None:
        """The first round that is not the same in both, or None."""
        for t, (one, two) in enumerate(zip(self.rounds, other.rounds, strict=False)):
            if one != two:
                return t
        return None if len(self.rounds) == len(other.rounds) else min(len(self.rounds), len(other.rounds))


_Choose = Callable[[gym.Env[Any, Any], TaskSpec, Observation, np.random.Generator], Action]
_Inspect = Callable[[TaskSpec, int, Observation, Any, Any, Any, Mapping[str, Any]], None]


def _random_action(env: Any, task: TaskSpec, observation: Observation, rng: np.random.Generator) -> Action:
    if task.action_mode == "synthesize":
        y = rng.standard_normal(task.content_dim)
        return (y / np.linalg.norm(y)).astype(np.float32)
    if task.action_mode == "write":
        texts = task.pool_texts or ("", "a text", "another text")
        return texts[rng.integers(len(texts))]
    mask = observation.get("pool_mask")
    usable = np.arange(task.num_items) if mask is None else np.flatnonzero(mask)
    if task.action_mode == "slate":
        return rng.choice(usable, task.slate_size, replace=False)
    return int(rng.choice(usable))


def _play(
    env: gym.Env[Any, Any],
    where: str,
    rounds: int,
    seed: int | None = _SEED,
    salt: int = 0,
    choose: _Choose = _random_action,
    inspect: _Inspect | None = None,
) -> _Session:
    """Plays up to ``rounds`` rounds, with ``salt`` as the seed of the process's global generators."""
    rng = np.random.default_rng(_SEED)
    with _global_generators(where, salt):
        observation, _ = _call(where, env.reset, seed=seed)
        task: TaskSpec = env.unwrapped.task  # type: ignore[attr-defined]
        session = _Session([task.digest.encode() + _bytes(observation)])
        for t in range(1, rounds + 1):
            action = choose(env, task, observation, rng)
            observation, reward, terminated, truncated, info = _call(f"{where}, round {t}", env.step, action)
            if inspect is not None:
                inspect(task, t, observation, reward, terminated, truncated, info)
            numbers = {key: value for key, value in info.items() if isinstance(value, float | int | np.number)}
            numbers |= {f"outcome.{key}": value for key, value in info.get("outcome", {}).items()}
            session.rounds.append(
                _bytes(observation) + repr((reward, bool(truncated), sorted(numbers.items()))).encode()
            )
            if truncated or terminated:
                break
    return session


def _check_sessions(make: _Make, where: str, rounds: int, to_the_end: bool) -> None:
    """Every observation, reward, flag and info of a session; and what seeds do."""
    env = make()
    kept: list[tuple[int, Observation]] = []
    outcome: dict[str, int] = {}

    def inspect(
        task: TaskSpec, t: int, observation: Observation, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> None:
        here = f"{where}, round {t}"
        _check_observation(here, env.observation_space, observation)
        _check_room(here, task, observation)
        _check_fresh(here, task, kept, observation)
        kept.append((t, observation))
        del kept[:-3]
        _check_reward(here, reward)
        _check_info(here, task, info)
        _check_parts(here, info, outcome, getattr(env.unwrapped, "measures", ()))
        if terminated:
            raise ContractError(f"{here}: terminated is {terminated}. A session ends by truncation only.")
        if bool(truncated) != (t == task.horizon):
            raise ContractError(
                f"{here}: truncated is {truncated}, but the task's horizon is {task.horizon}. "
                "Truncate in the round that reaches the horizon, and in no other."
            )

    observation, _ = _call(where, env.reset, seed=_SEED)
    _check_observation(f"{where}, reset", env.observation_space, observation)
    _check_room(f"{where}, reset", env.unwrapped.task, observation)  # type: ignore[attr-defined]
    digest = env.unwrapped.task.digest  # type: ignore[attr-defined]
    _check_fresh(f"{where}, reset", env.unwrapped.task, [], observation)  # type: ignore[attr-defined]
    kept.append((0, observation))
    whole = env.unwrapped.task.horizon if to_the_end else rounds  # type: ignore[attr-defined]
    first = _play(env, where, whole, inspect=inspect)
    if env.unwrapped.task.digest != digest:  # type: ignore[attr-defined]
        raise ContractError(f"{where}: the task changed during a session. Only a reset may set another.")

    second_env = make()
    for again, salt, what in ((env, 1, "the same environment"), (second_env, 2, "another instance")):
        repeated = _play(again, where, whole, salt=salt)
        different = first.difference(repeated)
        if different is not None:
            raise ContractError(
                f"{where}: reset(seed={_SEED}) in {what} gave another session from round {different} on. "
                "Draw everything from self.np_random, and set all hidden state in reset."
            )
    # logged data may come in the log's own order, whatever the seed
    logged = hasattr(env.unwrapped, "log")
    if first.difference(_play(second_env, where, whole, seed=_SEED + 1)) is None and not logged:
        raise ContractError(
            f"{where}: seeds {_SEED} and {_SEED + 1} gave the same session. "
            "Call super().reset(seed=seed) and draw from self.np_random."
        )
    _play(second_env, where, whole)
    following = [_play(one, where, whole, seed=None) for one in (env, second_env)]
    if first.difference(following[0]) is None and not logged:
        raise ContractError(
            f"{where}: reset() without a seed repeated the session. Go on drawing from self.np_random unreseeded."
        )
    if following[0].difference(following[1]) is not None:
        raise ContractError(
            f"{where}: two instances that played the same session differ after reset() without a seed. "
            "Draw everything from self.np_random."
        )
    env.close()
    second_env.close()


def _check_observation(where: str, space: Any, observation: Any) -> None:
    if not isinstance(observation, dict) or observation.keys() != space.spaces.keys():
        found = sorted(observation) if isinstance(observation, dict) else _brief(observation)
        raise ContractError(f"{where}: the observation has {found}, but must be a dict of {sorted(space.spaces)}.")
    for key, part in space.spaces.items():
        value = observation[key]
        wrong_dtype = isinstance(part, gym.spaces.Box) and getattr(value, "dtype", None) != part.dtype
        if wrong_dtype or value not in part:
            raise ContractError(f"{where}: observation[{key!r}] is {_brief(value)}, which is not in {part}.")
        if isinstance(part, gym.spaces.Box) and not np.isfinite(value).all():
            raise ContractError(f"{where}: observation[{key!r}] holds NaN or infinity. Give finite numbers.")
    if "pool_mask" in observation and not observation["pool_mask"].any():
        raise ContractError(f"{where}: pool_mask is zero everywhere. Leave at least one item to choose.")


def _check_room(where: str, task: TaskSpec, observation: Observation) -> None:
    usable = int(np.sum(observation.get("pool_mask", task.num_items)))
    if usable < task.slate_size:
        raise ContractError(
            f"{where}: pool_mask leaves {usable} items for a slate of {task.slate_size}. Leave at least as many."
        )


def _check_fresh(where: str, task: TaskSpec, kept: list[tuple[int, Observation]], observation: Observation) -> None:
    others = [(f"the one of round {t}", earlier) for t, earlier in kept]
    if task.pool is not None:
        others.append(("task.pool", {"pool": task.pool}))
    for key, value in observation.items():
        if isinstance(value, np.ndarray):
            for what, other in others:
                if any(isinstance(part, np.ndarray) and np.shares_memory(value, part) for part in other.values()):
                    raise ContractError(f"{where}: observation[{key!r}] shares memory with {what}. Return a copy.")


def _check_reward(where: str, reward: Any) -> None:
    if type(reward) is not float:
        raise ContractError(f"{where}: the reward is {_brief(reward)}. Return float(reward).")
    if not 0.0 <= reward <= 1.0:
        raise ContractError(f"{where}: the reward is {reward}. Scale it to [0, 1].")


def _check_info(where: str, task: TaskSpec, info: Mapping[str, Any]) -> None:
    observed = info.get("observed", True)
    if not isinstance(observed, bool | np.bool_):
        raise ContractError(f"{where}: info['observed'] is {_brief(observed)}. Make it True or False.")
    if not observed:
        return
    missing = [key for key in INFO_KEYS if key not in info]
    if missing:
        raise ContractError(f"{where}: info lacks {missing}. The runner needs {list(INFO_KEYS)}.")
    for key in INFO_KEYS:
        if isinstance(info[key], bool) or not isinstance(info[key], float | int | np.number):
            raise ContractError(f"{where}: info[{key!r}] is {_brief(info[key])}. Make it a float.")
        if not math.isfinite(info[key]):
            raise ContractError(f"{where}: info[{key!r}] is {info[key]}. Make it finite.")
    expected, oracle, catalogue, regret = (float(info[key]) for key in INFO_KEYS)
    if not -_TOLERANCE <= expected <= 1.0 + _TOLERANCE:
        raise ContractError(f"{where}: expected_reward is {expected}. It is a mean of rewards in [0, 1].")
    if expected > oracle + _TOLERANCE:
        raise ContractError(f"{where}: expected_reward {expected} is above oracle_reward {oracle}. Raise the oracle.")
    existing = task.action_mode in ("select", "slate")
    if existing and expected > catalogue + _TOLERANCE:
        raise ContractError(
            f"{where}: expected_reward {expected} is above catalogue_oracle_reward {catalogue}. "
            "An item was shown, so the best item is at least as good."
        )
    if catalogue > oracle + _TOLERANCE:
        raise ContractError(
            f"{where}: catalogue_oracle_reward {catalogue} is above oracle_reward {oracle}. "
            "The best content that could exist includes what exists."
        )
    best, which = (catalogue, "catalogue_oracle_reward") if existing else (oracle, "oracle_reward")
    if abs(regret - (best - expected)) > _TOLERANCE:
        raise ContractError(
            f"{where}: regret is {regret}, but {which} minus expected_reward is {best - expected}, "
            f"which is the regret in {task.action_mode!r}."
        )


def _check_parts(where: str, info: Mapping[str, Any], outcome: dict[str, int], measures: Any) -> None:
    """An outcome has the same names in every round (``outcome`` remembers those of the first); measures are there."""
    if not info.get("observed", True):
        return
    found = info.get("outcome", {})
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ContractError(f"{where}: info['outcome'] is {_brief(found)}. Make it a dict of floats by name.")
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, float | int | np.number) or not math.isfinite(value):
            raise ContractError(f"{where}: info['outcome'][{name!r}] is {_brief(value)}. Make it a finite float.")
    outcome |= {} if outcome else dict.fromkeys(found, 0)
    if found.keys() != outcome.keys():
        raise ContractError(
            f"{where}: info['outcome'] has {sorted(found)}, but had {sorted(outcome)} before. Give the same names in "
            "every round."
        )
    for name in measures:
        value = info.get(name)
        if isinstance(value, bool) or not isinstance(value, float | int | np.number) or not math.isfinite(value):
            raise ContractError(
                f"{where}: info[{name!r}] is {_brief(value)}, but the environment lists it in measures. Make it a "
                "finite float in every round."
            )


def _check_refusals(make: _Make, where: str) -> None:
    """Bad actions are refused with ActionError, and the session goes on as if they had not been tried."""
    asked = 0

    def choose(env: Any, task: TaskSpec, observation: Observation, rng: np.random.Generator) -> Action:
        nonlocal asked
        asked += 1
        if asked <= 2:
            for what, action in _bad_actions(task):
                _check_refused(f"{where}, round {asked}", env, what, action)
        return _random_action(env, task, observation, rng)

    env = make()
    undisturbed = _play(env, where, 10)
    different = undisturbed.difference(_play(env, where, 10, choose=choose))
    env.close()
    if different is not None:
        raise ContractError(
            f"{where}: after refused actions the session went on differently in round {different}. "
            "Check the action before anything is drawn or counted, so that the round is not spent."
        )


def _check_refused(where: str, env: Any, what: str, action: Any) -> None:
    try:
        env.step(action)
    except ActionError:
        return
    except Exception as error:
        raise ContractError(
            f"{where}: {what} as action raised {type(error).__name__}: {error}. Raise hare_gym.errors.ActionError."
        ) from error
    raise ContractError(f"{where}: {what} was accepted as action. Raise hare_gym.errors.ActionError.")


def _bad_actions(task: TaskSpec) -> list[tuple[str, Any]]:
    """Actions outside the action space. One inside it must be played, since Gymnasium's checker samples from it:
    an item that ``pool_mask`` leaves out, or that stands twice in a slate, then simply earns nothing.
    """
    N, k, d = task.num_items, task.slate_size, task.content_dim
    bad: dict[ActionMode, list[tuple[str, Any]]] = {
        "select": [
            (f"item {N} of {N}", N),
            ("item -1", -1),
            ("the float 0.5", 0.5),
            ("the bool True", True),
            ("an array of two items", np.zeros(2, dtype=np.int64)),
        ],
        "slate": [
            (f"a slate of {k + 1}", np.arange(k + 1) % N),
            (f"a slate with item {N} of {N}", np.arange(N - k + 1, N + 1)),
            ("a slate of floats", np.arange(k, dtype=np.float64)),
        ],
        "synthesize": [
            (f"a vector of length {d + 1}", np.zeros(d + 1, dtype=np.float32)),
            ("a vector with NaN", np.full(d, np.nan, dtype=np.float32)),
            ("a vector with infinity", np.full(d, np.inf, dtype=np.float32)),
            ("a vector of integers", np.zeros(d, dtype=np.int64)),
        ],
        "write": [("a number", 3), ("a text of more than text_length characters", "a" * (task.text_length + 1))],
    }
    return [("None", None), *bad[task.action_mode]]


def _check_optimum(make: _Make, where: str) -> None:
    """The best action has no regret, but for the width of an oracle that is a bound."""
    env = make()

    def choose(env: Any, task: TaskSpec, observation: Observation, rng: np.random.Generator) -> Action:
        action = _call(where, env.unwrapped.optimal_action, passing=(ConfigError,))
        if action not in env.action_space:
            raise ContractError(
                f"{where}: optimal_action() gave {_brief(action)}, which is not in {env.action_space}. "
                "Return what step takes."
            )
        return action

    def inspect(
        task: TaskSpec, t: int, observation: Observation, reward: Any, terminated: Any, truncated: Any, info: Any
    ) -> None:
        width = float(info.get("oracle_width", 0.0))
        if info.get("observed", True) and info["regret"] > width + _OPTIMUM_TOLERANCE:
            raise ContractError(
                f"{where}, round {t}: optimal_action() has regret {info['regret']:.6g}. Return the oracle's action, "
                "or, where the oracle is only a bound, give its width as info['oracle_width']."
            )

    with suppress(ConfigError):  # an environment may say that it knows no best action
        _play(env, where, 50, choose=choose, inspect=inspect)
    env.close()


def _check_rendering(make: _Make, where: str, modes: Iterable[str]) -> None:
    plain = make()
    expected = _play(plain, where, 5)
    plain.close()
    for mode in modes:
        env = make(render_mode=mode)
        session = _play(env, where, 5)
        shown = _call(f"{where}, render_mode={mode!r}", env.render)
        if mode == "ansi" and not (isinstance(shown, str) and shown.strip()):
            raise ContractError(f"{where}: render() in 'ansi' returned {_brief(shown)}. Return a text.")
        if mode == "rgb_array" and not (
            isinstance(shown, np.ndarray) and shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] == 3
        ):
            raise ContractError(
                f"{where}: render() in 'rgb_array' returned {_brief(shown)}. Return uint8 (height, width, 3)."
            )
        if expected.difference(session) is not None:
            raise ContractError(f"{where}: render_mode={mode!r} changes the session. Rendering must only look.")
        env.close()


def check_agent(agent: Agent, env_id: str | Iterable[str] | None = None) -> None:
    """Checks an agent on small tasks, in each action mode that it declares.

    In each it plays 200 rounds, then again with a fresh copy, after a second reset, and from a saved state. A task
    that the agent's ``reset`` refuses with ConfigError is left out, unless it refuses them all.

    Args:
        agent: An instance of :class:`~hare_gym.contract.Agent`. Copies of it play; it is left as it was.
        env_id: The environments to play, each in the modes that both have. By default ``HareBilinear-v0``, and for a
            mode that it lacks the first registered environment that has it and that the agent does not refuse.

    Raises:
        ContractError: The first breach found: what is wrong, where, and what to do.
        UnknownNameError: An environment that is not registered.
    """
    if not isinstance(agent, Agent):
        raise ContractError(f"check_agent wants an instance of a subclass of hare_gym.Agent, not {_brief(agent)}.")
    name = type(agent).__name__
    _check_class(agent, name)
    found = played = False
    refusals = []
    for tasks in _tasks_of(agent, [env_id] if isinstance(env_id, str) else env_id):
        for id, mode in tasks:
            found = True
            refusal = _check_agent_on(agent, name, id, mode)
            if refusal is None:
                played = True
                break
            refusals.append(refusal)
    if not found:
        raise ContractError(
            f"{name} plays {sorted(agent.modes)}, which none of the environments has. Name one with env_id."
        )
    if not played:
        raise ContractError(f"{name} refused every task: {refusals[0]}")


def _check_class(agent: Agent, name: str) -> None:
    modes = agent.modes
    if not isinstance(modes, frozenset) or not modes or not modes <= set(ACTION_MODES):
        raise ContractError(f"{name}.modes is {modes!r}. Make it a frozenset of some of {ACTION_MODES}.")
    for method, arguments in (
        ("act", ("observation",)),
        ("update", ("observation", "action", "reward")),
        ("feedback", ("observation", "action", "outcome")),
    ):
        parameters = list(inspect.signature(getattr(agent, method)).parameters.values())
        if len(parameters) != len(arguments) or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
            found = ", ".join(str(parameter) for parameter in parameters)
            raise ContractError(
                f"{name}.{method} takes ({found}). It must take ({', '.join(arguments)}): an agent sees "
                "nothing else, info least of all."
            )


def _tasks_of(agent: Agent, env_ids: Iterable[str] | None) -> Iterator[Iterable[tuple[str, ActionMode]]]:
    """What to play: of each part the first task that the agent does not refuse."""
    if env_ids is not None:
        yield from ([(id, mode)] for id in env_ids for mode in _modes_of(id) if mode in agent.modes)
        return
    yield from (_tasks_in(mode) for mode in ACTION_MODES if mode in agent.modes)


def _tasks_in(mode: ActionMode) -> Iterator[tuple[str, ActionMode]]:
    """The registered environments that have a mode, small ones first; each is made when it is asked for."""
    for id in sorted(environment_ids(), key=lambda id: (id not in _SMALL_KNOBS, id)):
        # one that cannot be made without data of the user's is left out
        with suppress(HareError):
            if mode in _modes_of(id):
                yield id, mode


def _modes_of(id: str) -> tuple[ActionMode, ...]:
    if ":" not in id and id not in gym.registry:
        raise unknown_name("environment", id, environment_ids(), "List them with: hare list envs")
    env = gym.make(id, disable_env_checker=True)
    task = getattr(env.unwrapped, "task", None)
    modes: tuple[ActionMode, ...] = getattr(env.unwrapped, "modes", () if task is None else (task.action_mode,))
    env.close()
    return modes


def _check_agent_on(agent: Agent, name: str, id: str, mode: ActionMode) -> str | None:
    """Checks one task. Returns why the agent refuses it, if it does."""
    where = f"{name} on {id} [{mode}]"

    def sit(player: Agent, salt: int) -> _Seat:
        knobs = {"action_mode": mode, **_SMALL_KNOBS.get(id, {})}
        try:
            env = gym.make(id, disable_env_checker=True, horizon=ROUNDS + 20, **knobs)
        except (HareError, TypeError):
            env = gym.make(id, disable_env_checker=True, **knobs)
        return _Seat(player, env, where, salt)

    player = _copy(agent)
    seat = sit(player, 0)
    try:
        seat.reset()
    except ConfigError as error:
        return str(error)
    saved: dict[str, NDArray[Any]] = {}
    turns: list[_Turn] = []
    rounds = min(ROUNDS, seat.task.horizon - 1)
    save_at = rounds // 2
    for t in range(1, rounds + 1):
        if t == save_at + 1:
            saved, generator = _checked_state(where, player), seat.rng.bit_generator.state
            frozen = _state_bytes(saved)
        turns.append(seat.turn(thorough=t <= 10 or t % 20 == 0))
    if _state_bytes(saved) != frozen:
        raise ContractError(f"{where}: arrays that state() gave changed in later rounds. Return copies.")
    _check_the_rest(seat)

    fresh = _copy(agent)
    _repeat(
        sit(fresh, 1),
        turns,
        "in a fresh copy with the same seeds",
        ("Draw from self.rng alone: no global generator, no time, no order of a set."),
    )
    _repeat(sit(player, 2), turns, "after a second reset", "Make reset() forget everything.")

    heir = _copy(agent)
    seat = sit(heir, 3)
    seat.reset()
    for turn in turns[:save_at]:
        seat.step(turn.action)
    with _global_generators(where, 3):
        _call(where, heir.load_state, saved)
    seat.rng.bit_generator.state = generator
    for turn in turns[save_at:]:
        if not _same_action(seat.turn(thorough=False).action, turn.action):
            raise ContractError(
                f"{where}, round {seat.t}: an agent that was saved after round {save_at} and loaded into a new one "
                "acts differently. Let state() hold everything learned, and load_state() take it all back."
            )
    return None


def _copy(agent: Agent) -> Agent:
    # an adapter may hold the module of the library that it adapts, which cannot be copied and need not be
    return copy.deepcopy(agent, {id(module): module for module in list(sys.modules.values())})


@dataclass(frozen=True)
class _Turn:
    observation: Observation
    action: Action
    reward: float


class _Seat:
    """One agent at one environment, in a session."""

    def __init__(self, agent: Agent, env: gym.Env[Any, Any], where: str, salt: int) -> None:
        self.agent, self.env, self.where, self.salt = agent, env, where, salt
        self.rng = np.random.default_rng(_SEED)
        self.t = 0

    def reset(self) -> None:
        self.observation, _ = self.env.reset(seed=_SEED)
        self.task: TaskSpec = self.env.unwrapped.task  # type: ignore[attr-defined]
        with _global_generators(self.where, self.salt):
            _call(self.where, self.agent.reset, self.task, self.rng, passing=(ConfigError,))
            if getattr(self.agent, "spec", None) is not self.task or getattr(self.agent, "rng", None) is not self.rng:
                raise ContractError(
                    f"{self.where}: after reset, self.spec and self.rng are not what was given. "
                    "Call super().reset(spec, rng) first."
                )
            if self.agent.privileged:
                _call(self.where, self.agent.attach, self.env.unwrapped)

    def turn(self, thorough: bool) -> _Turn:
        """One round; a thorough one looks whether acting changes what was learned."""
        where = f"{self.where}, round {self.t + 1}"
        observation = self.observation
        frozen = _bytes(observation)
        before = _state_bytes(_checked_state(where, self.agent)) if thorough else b""
        with _global_generators(where, self.salt + self.t):
            action = _call(where, self.agent.act, observation)
            _check_action(where, self.task, self.env.action_space, observation, action)
            if thorough and _state_bytes(_checked_state(where, self.agent)) != before:
                raise ContractError(f"{where}: act() changed state(). Learn in update() only.")
            shown = copy.deepcopy(action)
            reward, observed = self.step(action)
            told = dict(self.outcome)
            if observed:
                if self.outcome:
                    _call(where, self.agent.feedback, observation, action, self.outcome)
                _call(where, self.agent.update, observation, action, reward)
        if _bytes(observation) != frozen or not _same_action(action, shown) or self.outcome != told:
            raise ContractError(
                f"{where}: the agent wrote into the observation, the action or the outcome. Copy before changing."
            )
        return _Turn(observation, shown, reward)

    def step(self, action: Action) -> tuple[float, bool]:
        self.observation, reward, _, _, info = self.env.step(action)
        self.outcome: Mapping[str, float] = info.get("outcome", {})
        self.t += 1
        return float(reward), bool(info.get("observed", True))


def _repeat(seat: _Seat, turns: list[_Turn], when: str, fix: str) -> None:
    seat.reset()
    for expected in turns:
        if not _same_action(seat.turn(thorough=False).action, expected.action):
            raise ContractError(f"{seat.where}, round {seat.t}: {when} the agent acts differently. {fix}")
    seat.env.close()


def _check_action(where: str, task: TaskSpec, space: Any, observation: Observation, action: Any) -> None:
    advice = {
        "select": "Return an int from 0 to num_items - 1.",
        "slate": "Return an integer array of slate_size items.",
        "synthesize": "Return a float32 array of content_dim numbers from -1 to 1.",
        "write": "Return a str; hare_gym.contract.sanitise makes any text fit.",
    }[task.action_mode]
    if isinstance(action, bool | np.bool_) or action not in space:
        raise ContractError(f"{where}: act() returned {_brief(action)}, which is not in {_short(space)}. {advice}")
    if task.action_mode not in ("select", "slate"):
        return
    items = np.atleast_1d(action)
    if len(set(items.tolist())) < len(items):
        raise ContractError(f"{where}: act() returned a slate with an item twice: {items.tolist()}. Choose k of N.")
    mask = observation.get("pool_mask")
    if mask is not None and not np.asarray(mask)[items].all():
        raise ContractError(f"{where}: act() returned {items.tolist()}, of which pool_mask leaves out some. Heed it.")


def _checked_state(where: str, agent: Agent) -> dict[str, NDArray[Any]]:
    state = _call(where, agent.state)
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ContractError(f"{where}: state() returned {_brief(state)}. Return a dict of arrays by name.")
    for key, value in state.items():
        if not isinstance(value, np.ndarray):
            raise ContractError(f"{where}: state()[{key!r}] is {_brief(value)}. Make it a NumPy array.")
        if value.dtype.hasobject:
            raise ContractError(
                f"{where}: state()[{key!r}] has dtype object, which only pickle can store. Use numbers or text."
            )
    return state


def _check_the_rest(seat: _Seat) -> None:
    """What the runner calls beside act and update: probabilities, diagnostics, the batch forms, extreme rewards."""
    agent, task, observation = seat.agent, seat.task, seat.observation
    where = f"{seat.where}, after round {seat.t}"
    with _global_generators(where, seat.salt):
        before = _state_bytes(agent.state())
        _check_probabilities(where, task, observation, _call(where, agent.probabilities, observation))
        diagnostics = _call(where, agent.diagnostics)
        if not isinstance(diagnostics, dict):
            raise ContractError(f"{where}: diagnostics() returned {_brief(diagnostics)}. Return a dict of floats.")
        for key, value in diagnostics.items():
            if not isinstance(key, str) or not isinstance(value, float | int) or not math.isfinite(value):
                raise ContractError(f"{where}: diagnostics()[{key!r}] is {_brief(value)}. Make it a finite float.")
        size = 1 if agent.privileged else _BATCH
        batch = {key: _stacked([value] * size) for key, value in observation.items()}
        actions = _call(where, agent.act_batch, batch)
        if len(actions) != size:
            raise ContractError(f"{where}: act_batch() returned {len(actions)} actions for {size} observations.")
        for i in range(size):
            _check_action(f"{where}, act_batch", task, seat.env.action_space, nth_observation(batch, i), actions[i])
        if _state_bytes(agent.state()) != before:
            raise ContractError(
                f"{where}: probabilities(), diagnostics() or act_batch() changed state(). Learn in update() only."
            )
        if seat.outcome:
            outcomes = {name: np.full(size, float(value)) for name, value in seat.outcome.items()}
            _call(where, agent.feedback_batch, batch, actions, outcomes)
        _call(where, agent.update_batch, batch, actions, np.linspace(0.0, 1.0, size))
        for reward in (0.0, 1.0):
            action = _call(where, agent.act, observation)
            _call(where, agent.update, observation, action, reward)


def _stacked(values: list[Any]) -> Any:
    return tuple(values) if isinstance(values[0], str) else np.stack(values)


def _check_probabilities(where: str, task: TaskSpec, observation: Observation, chances: Any) -> None:
    if chances is None:
        return
    if not isinstance(chances, np.ndarray) or chances.shape != (task.num_items,):
        raise ContractError(
            f"{where}: probabilities() returned {_brief(chances)}. Return an array of shape ({task.num_items},) "
            "or None."
        )
    if not (chances >= 0.0).all():
        raise ContractError(f"{where}: probabilities() holds {chances.min()}. A probability is at least 0.")
    if abs(float(chances.sum()) - 1.0) > 1e-6:
        raise ContractError(f"{where}: probabilities() sum to {float(chances.sum())}. Make them sum to 1.")
    mask = observation.get("pool_mask")
    if mask is not None and chances[np.asarray(mask) == 0].any():
        raise ContractError(f"{where}: probabilities() gives a chance to items that pool_mask leaves out. Heed it.")


@contextmanager
def _global_generators(where: str, salt: int) -> Iterator[None]:
    """Seeds the process's global generators with ``salt``, watches NumPy's and Python's, and puts all back."""
    torch: Any = sys.modules.get("torch")
    kept = np.random.get_state(), random.getstate()  # noqa: NPY002
    kept_torch = torch.random.get_rng_state() if torch else None
    np.random.seed(salt)  # noqa: NPY002
    random.seed(salt)
    if torch:
        torch.random.default_generator.manual_seed(salt)
    before = _generator_states()
    try:
        yield
        for what, one, two in zip(("numpy.random", "random"), before, _generator_states(), strict=True):
            if one != two:
                raise ContractError(
                    f"{where}: the global generator of {what} was used. Draw from the one that is handed in: "
                    "self.np_random in an environment, self.rng in an agent."
                )
    finally:
        np.random.set_state(kept[0])  # noqa: NPY002
        random.setstate(kept[1])
        if torch:
            torch.random.set_rng_state(kept_torch)


def _generator_states() -> tuple[str, str]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return repr((name, np.asarray(keys).tobytes(), rest)), repr(random.getstate())


def _call(where: str, method: Callable[..., Any], *args: Any, passing: Any = (), **kwargs: Any) -> Any:
    """Calls, and says where it failed if it does."""
    try:
        return method(*args, **kwargs)
    except (ContractError, *passing):
        raise
    except Exception as error:
        raise ContractError(
            f"{where}: {getattr(method, '__name__', method)}() raised {type(error).__name__}: {error}"
        ) from error


def _bytes(observation: Observation) -> bytes:
    """An observation as bytes, so that two are compared bit for bit."""
    parts = []
    for key in sorted(observation):
        value = np.asarray(observation[key])
        parts += [key, str(value.dtype), str(value.shape), value.tobytes().hex()]
    return "\0".join(parts).encode()


def _state_bytes(state: Mapping[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    for key in sorted(state):
        file.write(f"{key}\0{state[key].dtype}\0{state[key].shape}\0".encode())
        file.write(state[key].tobytes())
    return file.getvalue()


def _same_action(one: Action, two: Action) -> bool:
    return one == two if isinstance(one, str) else np.array_equal(one, two)


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}" if value.ndim else f"the {value.dtype} array {value}"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _short(space: Any) -> str:
    return f"Text({space.max_length})" if isinstance(space, gym.spaces.Text) else str(space)
