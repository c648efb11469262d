"""Names for environments and agents: one public door, used by the built-ins as well.

A package offers agents in its ``pyproject.toml``::

    [project.entry-points."hare_gym.agents"]
    my-agent = "my_package.agents:MyAgent"

and environments by a function that calls :func:`register_environment`::

    [project.entry-points."hare_gym.environments"]
    my_package = "my_package.envs:register"

Without a package, ``"my_package.agents:MyAgent"`` works wherever an agent's name does.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import gymnasium as gym

from hare_gym.contract import Agent
from hare_gym.errors import ConfigError, HareError, UnknownNameError, unknown_name

AGENT_GROUP = "hare_gym.agents"
ENVIRONMENT_GROUP = "hare_gym.environments"

_environments: dict[str, str] = {}


def register_environment(
    id: str,
    entry_point: str,
    vector_entry_point: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Registers an environment with Gymnasium and with this package's checkers and docs.

    Args:
        id: A versioned id, ``"HareBilinear-v0"``. A published id never changes behaviour.
        entry_point: ``"package.module:Class"``, a string, so that the spec stays serialisable.
        vector_entry_point: Its native vector class, if it has one.
        kwargs: Knobs that this id fixes.
    """
    if id in gym.registry:
        return
    gym.register(id=id, entry_point=entry_point, vector_entry_point=vector_entry_point, kwargs=dict(kwargs or {}))
    _environments[id] = entry_point


def load_environment_plugins() -> None:
    """Lets every installed package register its environments. ``import hare_gym`` calls it once."""
    for entry in entry_points(group=ENVIRONMENT_GROUP):
        try:
            entry.load()()
        except Exception as error:  # a stranger's broken package must not take this one down
            warnings.warn(f"Environments of {entry.value!r} were not registered: {error!r}")


def environment_ids() -> list[str]:
    """The ids of every environment registered through :func:`register_environment`, sorted."""
    return sorted(_environments)


def make_environment(id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """``gymnasium.make`` with a did-you-mean for the id.

    Raises:
        UnknownNameError: No such id, or a knob that the environment does not have.
    """
    if id not in _environments:
        raise unknown_name("environment", id, _environments, "List them with: hare list envs")
    return gym.make(id, disable_env_checker=True, **kwargs)


def agent_names() -> list[str]:
    """The names of every installed agent, sorted."""
    return sorted(_agents_on(tuple(sys.path)))


@cache
def _agents_on(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """The agents that packages on ``path`` offer; reading every package's metadata takes as long as a short run."""
    return {entry.name: entry for entry in entry_points(group=AGENT_GROUP)}


def agent_class(name: str) -> type[Agent]:
    """The class behind an agent's name or a ``"package.module:Class"`` path.

    Raises:
        UnknownNameError: Nothing answers to the name.
        ConfigError: The path leads to something that is no :class:`Agent`.
    """
    if ":" in name:
        loaded = _load_path(name)
    else:
        found = _agents_on(tuple(sys.path))
        if name not in found:
            raise unknown_name("agent", name, found, "List them with: hare list agents")
        loaded = found[name].load()
    if not (isinstance(loaded, type) and issubclass(loaded, Agent)):
        raise ConfigError(f"Agent {name!r} is {loaded!r}, which is not a subclass of hare_gym.Agent.")
    return loaded


def make_agent(name: str, **hyperparameters: Any) -> Agent:
    """An agent by name, not yet reset.

    Raises:
        UnknownNameError: Nothing answers to the name, or a hyperparameter the agent does not have.
    """
    cls = agent_class(name)
    try:
        return cls(**hyperparameters)
    except HareError:
        raise
    except TypeError as error:
        raise ConfigError(f"Agent {name!r} does not accept {sorted(hyperparameters)}: {error}.") from error


def _load_path(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UnknownNameError(
            f"Agent {path!r}: there is no module {error.name!r}. "
            "Install its package, or run from the folder that holds it with PYTHONPATH=."
        ) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise unknown_name(f"class in {module_name}", attribute, public)
    return getattr(module, attribute)
