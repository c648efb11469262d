"""A small task that adapters to other libraries are tried on, without an environment."""

import numpy as np

from hare_gym import TaskSpec


def toy_task(mode="select", horizon=500, items=4, dim=4):
    """Items along the axes; what a content earns is up to the test."""
    return TaskSpec(
        id="toy",
        action_mode=mode,
        horizon=horizon,
        num_users=2,
        query_dim=dim,
        content_dim=dim,
        num_items=items,
        pool=np.eye(items, dim),
    )


def observation(rng, task):
    query = rng.standard_normal(task.query_dim)
    return {"query": query / np.linalg.norm(query), "user": np.int64(rng.integers(task.num_users))}
