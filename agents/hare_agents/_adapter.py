"""What the adapters to other libraries share."""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import Observation, TaskSpec
from hare_gym.errors import DataError, MissingPackageError


def optional_package(module: str, package: str, extra: str) -> ModuleType:
    """Imports ``module`` of the optional ``package``.

    Raises:
        MissingPackageError: It is not installed; the message says which extra brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingPackageError(
            f"{package} is not installed. Install it with: pip install 'hare-gym[{extra}]'"
        ) from error


def context_vector(spec: TaskSpec, observation: Observation) -> NDArray[np.float64]:
    """The query and the user as one-hot, ``(query_dim + num_users,)``. A query's text is left out."""
    x = np.zeros(spec.query_dim + spec.num_users)
    x[: spec.query_dim] = observation["query"]
    x[spec.query_dim + int(observation["user"])] = 1.0
    return x


def finite_reward(owner: str, reward: float) -> float:
    """``reward`` as a float.

    Raises:
        DataError: It is NaN or infinite: one such reward would spoil everything learned.
    """
    if not math.isfinite(reward):
        raise DataError(f"{owner}: the reward must be a finite number, not {reward!r}.")
    return float(reward)
