"""What it costs that an agent is in a process of its own: `python benchmarks/bench_protocol.py`.

Blocks of rounds are played alternately by an agent in this process and by the same agent in a sandbox, on the same
observations; of each the fastest block counts, since whatever else the machine does can only slow one down. Seconds
are of the clock: waiting for the other process is part of the price.
"""

import argparse
import time

import numpy as np

from hare_evaluation.remote import RemoteAgent
from hare_evaluation.runner import one_thread
from hare_gym import TaskSpec, make_agent
from hare_gym.worker import generator
from hare_leaderboard.channel import Limits
from hare_leaderboard.sandbox import ISOLATED, Sandbox, probe

BLOCK = 200


def task(query_dim, users=20, items=64, dim=8):
    pool = np.random.default_rng(0).standard_normal((items, dim))
    pool /= np.linalg.norm(pool, axis=1, keepdims=True)
    return TaskSpec(
        id="bench", action_mode="select", horizon=10**6, num_users=users, query_dim=query_dim, content_dim=dim,
        num_items=items, pool=pool,
    )  # fmt: skip


def block(agent, spec, rng, lanes):
    """Seconds a round of one block, of the agent alone."""
    shape = (lanes,) if lanes > 1 else ()
    spent = 0.0
    for _ in range(BLOCK):
        query = rng.standard_normal((*shape, spec.query_dim)) / spec.query_dim**0.5
        seen = {"query": query, "user": rng.integers(spec.num_users, size=shape or None)}
        reward = rng.random(shape) if lanes > 1 else float(rng.random())
        started = time.perf_counter()
        if lanes > 1:
            agent.update_batch(seen, agent.act_batch(seen), reward)
        else:
            agent.update(seen, agent.act(seen), reward)
        spent += time.perf_counter() - started
    return spent / (BLOCK * lanes)


def compared(name, kwargs, spec, blocks, lanes=1, tier="bwrap"):
    near, process = make_agent(name, **kwargs), Sandbox(tier, Limits(total_seconds=3600.0)).start()
    far = RemoteAgent(process, name, kwargs)
    try:
        near.reset(spec, generator(np.random.default_rng(1).bytes(16)))
        far.reset(spec, np.random.default_rng(1))
        rngs = [np.random.default_rng(2), np.random.default_rng(2)]
        times = [
            [block(agent, spec, rng, lanes) for agent, rng in zip((near, far), rngs, strict=True)]
            for _ in range(blocks)
        ]
        assert far.fault is None, far.fault
    finally:
        process.kill()
    return np.array(times) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=30, help=f"blocks of {BLOCK} rounds of each agent")
    blocks = parser.parse_args().blocks
    tier = next(each for each in ISOLATED if probe(each) is None)
    print(f"microseconds a round, fastest of {blocks} blocks of {BLOCK}; sandbox: {tier}")
    print(f"{'':44}{'here':>9}{'sandbox':>9}{'more':>9}{'ratio':>7}")
    rows = [
        ("random, 64 floats", "random", {}, task(64), 1),
        ("random, 1,024 floats", "random", {}, task(1024), 1),
        ("random, 64 floats, batches of 64", "random", {}, task(64), 64),
        ("LinUCB, d=8", "linucb", {}, task(8), 1),
        ("NeuralUCB, d=8", "neural-ucb", {}, task(8), 1),
        ("NeuralUCB, d=8, batches of 16", "neural-ucb", {}, task(8), 16),
    ]
    with one_thread():
        for label, name, kwargs, spec, lanes in rows:
            times = compared(name, kwargs, spec, blocks, lanes, tier)
            here, there = times.min(axis=0)
            print(f"{label:44}{here:9.1f}{there:9.1f}{there - here:9.1f}{there / here:7.2f}", flush=True)


if __name__ == "__main__":
    main()
