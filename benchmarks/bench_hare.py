"""Cost of HARE: a round beside joint LinUCB and NeuralUCB at N=64, d=8; act as the pool grows to a million items.

    python benchmarks/bench_hare.py            # both; about two minutes
    python benchmarks/bench_hare.py --pools 1000 10000

The agents play the same session of `HareBilinear-v0` in turn, several times, in one process with one thread; the
ratios are taken turn by turn. For the pools, HARE has learned 600 rounds before its act is timed; what the search
loses is the best score in the whole pool minus the best among its candidates.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import time

import gymnasium as gym
import numpy as np

import hare_gym  # noqa: F401
from hare_agents.hare import HARE, HAREAgent
from hare_agents.linucb import JointLinUCB
from hare_agents.neural_ucb import NeuralUCB
from hare_gym.contract import Agent

REPEATS, ROUNDS = 5, 5000


def microseconds_a_round(agent: Agent, horizon: int = ROUNDS) -> tuple[float, float]:
    env = gym.make("HareBilinear-v0", horizon=horizon, disable_env_checker=True).unwrapped
    observation, _ = env.reset(seed=0)
    agent.reset(env.task, np.random.default_rng(0))
    acting = learning = 0.0
    for _ in range(horizon):
        start = time.perf_counter()
        action = agent.act(observation)
        acted = time.perf_counter()
        following, reward, *_ = env.step(action)
        stepped = time.perf_counter()
        agent.update(observation, action, reward)
        learning += time.perf_counter() - stepped
        acting += acted - start
        observation = following
    return acting / horizon * 1e6, learning / horizon * 1e6


def rounds() -> None:
    agents = {
        "joint LinUCB": JointLinUCB,
        "HARE": HAREAgent,
        "HARE, core only": lambda: HAREAgent(attention=False),
        "NeuralUCB, diagonal": lambda: NeuralUCB(covariance="diagonal"),
    }
    figures = {name: [] for name in agents}
    for _ in range(REPEATS):
        for name, make in agents.items():
            figures[name].append(microseconds_a_round(make(), 500 if name.startswith("Neural") else ROUNDS))
    baseline = np.array(figures["joint LinUCB"]).sum(axis=1)
    print("| agent | act, µs | update, µs | both | x joint LinUCB, median (lowest to highest) |")
    print("|---|---|---|---|---|")
    for name, values in figures.items():
        table = np.array(values)
        ratio = table.sum(axis=1) / baseline
        act, update = np.median(table, axis=0)
        print(
            f"| {name} | {act:.0f} | {update:.0f} | {np.median(table.sum(axis=1)):.0f} |"
            f" {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f}) |"
        )


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    y = rng.standard_normal(shape)
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def pools(sizes: list[int]) -> None:
    print("| items | start, s | act, µs | x the first | candidates | best item found | mean score lost |")
    print("|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    centres = unit(rng, 64, 8)
    first = None
    for size in sizes:
        items = centres[np.arange(size) % 64] + 0.3 * rng.standard_normal((size, 8))
        items /= np.linalg.norm(items, axis=1, keepdims=True)
        start = time.perf_counter()
        hare = HARE(items)
        built = time.perf_counter() - start
        ideal = unit(rng, 8, 8)
        queries = unit(rng, 1100, 8)
        times, losses, found = [], [], []
        for t, x in enumerate(queries):
            start = time.perf_counter()
            item = hare.act(x, t % 20)
            if t < 600:
                hare.update(
                    x, t % 20, item, float(np.exp(2.0 * (items[item] @ ideal @ x / np.linalg.norm(ideal @ x) - 1)))
                )
                continue
            times.append(time.perf_counter() - start)
            if hare.pool.searched and t % 10 == 0:
                round = hare.prepare(x, t % 20)
                scores = hare._scores(round, items, hare.pool.cluster)
                losses.append(scores.max() - scores[item])
                found.append(len(hare.pool.candidates(hare._directions(round))[0]))
        act = float(np.median(times)) * 1e6
        first = first or act
        searched = (
            f"{np.mean(found):,.0f} | {np.mean(np.array(losses) == 0):.0%} | {np.mean(losses):.1e}"
            if losses
            else "all | 100% | 0"
        )
        print(f"| {size:,} | {built:.1f} | {act:.0f} | {act / first:.1f} | {searched} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, nargs="+", help="only the pools, of these sizes")
    sizes = parser.parse_args().pools
    if sizes is None:
        rounds()
        print()
    pools(sizes or [1_000, 10_000, 100_000, 1_000_000])


if __name__ == "__main__":
    main()
