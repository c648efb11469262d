"""Environments as runs name them: by id or ``"package.module:Id-v0"``, one world or many lanes of it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

from hare_gym.errors import ConfigError, UnknownNameError, unknown_name
from hare_gym.registry import environment_ids, make_environment


def make(id: str, kwargs: Mapping[str, Any], lanes: int = 1) -> Any:
    """The environment, or with lanes the native vector environment that shares one world between them.

    Raises:
        UnknownNameError: No such id, or a knob that the environment does not have.
        ConfigError: Lanes of an environment that has no native vector form.
    """
    entry = registered(id)
    if lanes == 1:
        return make_environment(entry.id, **kwargs)
    if entry.vector_entry_point is None:
        raise ConfigError(f"{entry.id} has no native vector environment: use lanes=1.")
    return gym.make_vec(
        entry.id, num_envs=lanes, vectorization_mode="vector_entry_point", shared_world=True, **kwargs
    )


def registered(id: str) -> EnvSpec:
    """Gymnasium's entry for an environment's id; ``"package.module:Id-v0"`` imports the module first.

    Raises:
        UnknownNameError: No such module or id.
    """
    module, _, id = id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise UnknownNameError(
                f"Environment '{module}:{id}': there is no module {error.name!r}. "
                "Install its package, or run from the folder that holds it with PYTHONPATH=."
            ) from error
    known = environment_ids()
    if id not in known:
        raise unknown_name("environment", id, known, "List them with: hare list envs")
    return gym.registry[id]
