"""Speed of `HareRecipe-v0` and `HareStudyPlan-v0`: rounds of select by vector form and one at a time, texts composed.

    python benchmarks/bench_domains.py

Timed in turn, several times, in one process with one thread; the ratios are taken turn by turn. CPU seconds are
counted, so that other programs on the machine matter less.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import time

import gymnasium as gym
import numpy as np

import hare_gym  # noqa: F401

REPEATS, TEXTS, SIZES = 5, 80, (20, 64, 256)


def rounds_per_second(env, actions, count):
    env.reset()
    start = time.process_time()
    for _ in range(count):
        env.step(actions)
    return np.size(actions) * count / (time.process_time() - start)


def texts_per_second(domain, users):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(domain.items), (2, TEXTS))
    contents, evenly = domain.phi[a] + domain.phi[b], np.full(len(domain.items), 1 / len(domain.items))
    queries = [domain.query_text(users[k % len(users)], k % domain.num_needs) for k in range(TEXTS)]
    start = time.process_time()
    for z, query in zip(contents, queries, strict=True):
        domain.compose(z, query, domain.texts, evenly, rng)
    return TEXTS / (time.process_time() - start)


def bench(name):
    single = gym.make(name, disable_env_checker=True).unwrapped
    lanes = {
        size: gym.make_vec(name, num_envs=size, vectorization_mode="vector_entry_point", shared_world=True)
        for size in SIZES
    }
    for env in (single, *lanes.values()):
        env.reset(seed=0)
    items = len(single.domain.items)
    figures = {}
    for _ in range(REPEATS):
        figures.setdefault("rounds, one at a time", []).append(rounds_per_second(single, 0, 900))
        for size, env in lanes.items():
            figures.setdefault(f"rounds, {size} lanes", []).append(
                rounds_per_second(env, np.arange(size) % items, 128)
            )
        figures.setdefault("texts composed", []).append(texts_per_second(single.domain, single.users))
    one = np.array(figures["rounds, one at a time"])
    for case, found in figures.items():
        beside = f"{np.median(found / one):.3g}" if case.endswith("lanes") else ""
        print(f"| `{name}` | {case} | {np.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} | {beside} |")


if __name__ == "__main__":
    print("| environment | what | a CPU second, median | lowest to highest | times one at a time |")
    print("|---|---|---:|---|---:|")
    bench("HareRecipe-v0")
    bench("HareStudyPlan-v0")
