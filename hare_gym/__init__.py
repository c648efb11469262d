"""hare-gym: Gymnasium environments for personalised recommendation and generation under exploration.

``import hare_gym`` registers the environments; so does ``gymnasium.make("hare_gym:HareBilinear-v0")``.
"""

from importlib.metadata import version as _version

from hare_gym.checks import check_agent, check_task
from hare_gym.contract import ACTION_MODES, Action, ActionMode, Agent, Observation, TaskSpec
from hare_gym.errors import HareError
from hare_gym.registry import (
    agent_class,
    agent_names,
    environment_ids,
    load_environment_plugins,
    make_agent,
    make_environment,
    register_environment,
)

__version__ = _version("hare-gym")

__all__ = [
    "ACTION_MODES",
    "Action",
    "ActionMode",
    "Agent",
    "HareError",
    "Observation",
    "TaskSpec",
    "agent_class",
    "agent_names",
    "check_agent",
    "check_task",
    "environment_ids",
    "make_agent",
    "make_environment",
    "register_environment",
]

load_environment_plugins()
