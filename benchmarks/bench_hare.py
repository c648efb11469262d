"""Cost of HARE: a round beside other agents at N=64, d=8; batches; act as the pool grows; memory as users come.

    python benchmarks/bench_hare.py            # all of it; some minutes
    python benchmarks/bench_hare.py --pools 1000 10000
    python benchmarks/bench_hare.py --users 100000 500000   # about 12 kB each

The agents play the same session of `HareBilinear-v0` in turn, several times, in one process with one thread; the
ratios are taken turn by turn. For the pools, HARE has learned 600 rounds before its act is timed; what the search
loses is the best score in the whole pool minus the best among its candidates. Batches are timed beside a loop of the
same rounds. Users are new ones, each with one round, and then 2,000 rounds of users drawn from all.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import resource
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
                rows, _ = hare.pool.all_items()
                scores = hare._scores(round, rows, hare.pool.cluster, None)
                losses.append(scores.max() - scores[item])
                found.append(len(hare._look(round, None, None, None)[1]))
        act = float(np.median(times)) * 1e6
        first = first or act
        searched = (
            f"{np.mean(found):,.0f} | {np.mean(np.array(losses) == 0):.0%} | {np.mean(losses):.1e}"
            if losses
            else "all | 100% | 0"
        )
        print(f"| {size:,} | {built:.1f} | {act:.0f} | {act / first:.1f} | {searched} |", flush=True)


def taught(items: np.ndarray, rounds: int = 600) -> HARE:
    """A HARE that has learned some rounds of twenty users, one item each."""
    rng = np.random.default_rng(1)
    hare = HARE(items)
    for t, x in enumerate(unit(rng, rounds, 8)):
        item = hare.act(x, t % 20)
        hare.update(x, t % 20, item, float(0.5 + 0.4 * items[item] @ x))
    return hare


def batches() -> None:
    """Microseconds a user, one by one and as a batch."""
    print("| items | users at once | act, µs: loop | batch | x faster | update, µs: loop | batch | x faster |")
    print("|---|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(2)
    for size in (64, 100_000):
        first = taught(unit(rng, size, 8))
        for batch in (64, 1024):
            seconds = []
            hare, other = HARE(unit(rng, 1, 8)), HARE(unit(rng, 1, 8))
            for one in (hare, other):
                one.load_state(first.state())
            for _ in range(3):
                X, users, rewards = unit(rng, batch, 8), rng.integers(0, 20, batch), rng.random(batch)
                start = time.perf_counter()
                loop = [hare.act(x, user) for x, user in zip(X, users.tolist(), strict=True)]
                looped = time.perf_counter()
                chosen = hare.act_many(X, users)
                at_once = time.perf_counter()
                assert chosen.tolist() == loop
                for x, user, item, reward in zip(X, users.tolist(), loop, rewards.tolist(), strict=True):
                    other.update(x, user, item, reward)
                told = time.perf_counter()
                hare.update_many(X, users, chosen, rewards)
                end = time.perf_counter()
                seconds.append((looped - start, at_once - looped, told - at_once, end - told))
                other.load_state(hare.state())
            a, b, c, d = np.median(seconds, axis=0) / batch * 1e6
            print(
                f"| {size:,} | {batch:,} | {a:.0f} | {b:.1f} | {a / b:.1f} | {c:.0f} | {d:.0f} | {c / d:.1f} |",
                flush=True,
            )


def peak() -> int:
    """The most memory that this process has had, in bytes (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def users(counts: list[int]) -> None:
    """Cost of a round and memory as users come, each seen once; the first are met again at every count."""
    print("| users | act + update, µs | of a new user | peak memory, GB | stated, GB |")
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(3)
    hare = HARE(unit(rng, 64, 8))
    before, seen = peak(), 0
    for count in counts:
        while seen < count:
            size = min(1000, count - seen)
            X, new = unit(rng, size, 8), np.arange(seen, seen + size)
            start = time.perf_counter()
            hare.update_many(X, new, rng.integers(0, 64, size), rng.random(size))
            joined = (time.perf_counter() - start) / size
            seen += size
        times = []
        for x, user in zip(unit(rng, 2000, 8), rng.integers(0, seen, 2000).tolist(), strict=True):
            start = time.perf_counter()
            hare.update(x, user, hare.act(x, user), 0.5)
            times.append(time.perf_counter() - start)
        used = peak() - before
        print(
            f"| {seen:,} | {np.mean(times) * 1e6:.0f} | {joined * 1e6:.0f} | {used / 1e9:.2f} |"
            f" {hare.bytes_per_user * seen / 1e9:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", action="store_true", help="only a round beside other agents")
    parser.add_argument("--pools", type=int, nargs="*", help="only the pools, of these sizes")
    parser.add_argument("--batches", action="store_true", help="only batches of users")
    parser.add_argument("--users", type=int, nargs="*", help="only memory and cost with so many users")
    chosen = parser.parse_args()
    everything = not (chosen.rounds or chosen.batches or chosen.pools is not None or chosen.users is not None)
    if everything or chosen.rounds:
        rounds()
    if everything or chosen.batches:
        batches()
    if everything or chosen.users is not None:
        users(chosen.users or [1_000, 10_000, 100_000])
    if everything or chosen.pools is not None:
        pools(chosen.pools or [1_000, 10_000, 100_000, 1_000_000])


if __name__ == "__main__":
    main()
