"""What packages above the evaluation use of those below it, so that their imports need go no further than here."""

from __future__ import annotations

from hare_gym.checks import check_agent
from hare_gym.contract import ActionMode, Agent, TaskSpec
from hare_gym.errors import (
    ActionError,
    ConfigError,
    ContractError,
    DataError,
    HareError,
    UnknownNameError,
    unknown_name,
)
from hare_gym.registry import agent_class, environment_ids, make_agent

__all__ = [
    "ActionError",
    "ActionMode",
    "Agent",
    "ConfigError",
    "ContractError",
    "DataError",
    "HareError",
    "TaskSpec",
    "UnknownNameError",
    "agent_class",
    "check_agent",
    "environment_ids",
    "make_agent",
    "unknown_name",
]
