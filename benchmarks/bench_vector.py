"""Rounds per second of `HareBilinear-v0`: native vector form, Gymnasium's sync vector form, one at a time.

    python benchmarks/bench_vector.py

The three are timed in turn, several times, in one process with one thread; the ratios are taken turn by turn.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import time

import gymnasium as gym
import numpy as np

import hare_gym  # noqa: F401

REPEATS = 7


def rounds_per_second(step, rounds, count):
    start = time.perf_counter()
    for t in range(count):
        step(t)
    return rounds * count / (time.perf_counter() - start)


def main():
    native = gym.make_vec("HareBilinear-v0", num_envs=1024)
    sync = gym.make_vec("HareBilinear-v0", num_envs=1024, vectorization_mode="sync")
    single = gym.make("HareBilinear-v0", disable_env_checker=True).unwrapped
    for env in (native, sync, single):
        env.reset(seed=0)
    native.action_space.seed(0)
    actions = [native.action_space.sample() for _ in range(16)]
    figures = []
    for _ in range(REPEATS):
        # the native form pays for its randomness in full (blocks of 128 rounds); the sync form for none of it
        figures.append(
            [
                rounds_per_second(lambda t: native.step(actions[t % 16]), 1024, 512),
                rounds_per_second(lambda t: sync.step(actions[t % 16]), 1024, 16),
                rounds_per_second(lambda t: single.step(t % 64), 1, 1280),
            ]
        )
    figures = np.array(figures)
    print("| form | rounds/s, median | lowest to highest | native is faster by |")
    print("|---|---|---|---|")
    for name, column in zip(("native vector, 1,024", "sync vector, 1,024", "single"), figures.T, strict=True):
        ratio = figures[:, 0] / column
        print(
            f"| {name} | {np.median(column):,.0f} | {column.min():,.0f} to {column.max():,.0f} |"
            f" {np.median(ratio):.1f} x ({ratio.min():.1f} to {ratio.max():.1f}) |"
        )


if __name__ == "__main__":
    main()
