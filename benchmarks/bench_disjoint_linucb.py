"""Time of one decide + update of disjoint LinUCB, beside other libraries and the cost of reading memory.

    pip install ".[peers]"
    pip install --no-deps obp==0.4.1 coba contextualbandits
    python benchmarks/bench_disjoint_linucb.py

Every side plays the same contexts in float64 with one thread, and the sides take turns within one process: in each
repeat all of them run once, and ratios are taken repeat by repeat. Times are of the processor: on an idle machine
those of the clock. A library that is not installed is named with the command that installs it. ``--no-deps`` leaves
this project's own dependencies as they are; what the three import comes with it and its ``peers``.

What is compared: `DisjointLinUCB` through ``act`` and ``update`` with an observation, without intercept, so that all
models have width d. The plain reference is the usual NumPy program: all inverses in one (K, d, d) array, widths by
matrix products, Sherman-Morrison in place; no checks, no ties, no refactoring. obp, MABWiser and contextualbandits
have the same model. coba has no disjoint one: its LinUCB is a single joint model of d + 2 features here.

One read of K d d numbers, by the quickest of several ways, is what any program pays that goes over all inverses as
full matrices. At the second size they are 32 MB and it is the memory's speed; at the first they stay in a cache.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import platform
import time
import warnings

import numpy as np

from hare_agents.linucb_disjoint import DisjointLinUCB
from hare_gym.contract import TaskSpec

REPEATS = 11
CONTEXTS = 512
READ = "one read of K d d numbers"


def contexts(d):
    return np.random.default_rng(1).standard_normal((CONTEXTS, d)) / np.sqrt(d)


def ours(K, d, pulls):
    """Our agent after ``pulls`` rounds of each arm, and what brings it back there."""
    spec = TaskSpec("bench", "select", 10**6, 1, d, 1, K, pool=np.zeros((K, 1)))
    agent = DisjointLinUCB(intercept=False)
    agent.reset(spec, np.random.default_rng(0))
    rounds = [{"query": x, "user": 0} for x in contexts(d)]
    rng = np.random.default_rng(2)
    for i, k in enumerate(rng.permutation(np.repeat(np.arange(K), pulls)).tolist()):
        agent.update(rounds[i % CONTEXTS], k, rng.random())

    def step(t):
        k = agent.act(rounds[t])
        agent.update(rounds[t], k, 0.5)

    saved = agent.state()
    return step, lambda: agent.load_state(saved)


def reference(K, d):
    X = contexts(d)
    A_inv = np.tile(np.eye(d), (K, 1, 1))
    rows = A_inv.reshape(K * d, d)
    theta, b = np.zeros((K, d)), np.zeros((K, d))

    def step(t):
        x = X[t]
        widths = np.sqrt((rows @ x).reshape(K, d) @ x)
        k = int((theta @ x + widths).argmax())
        v = A_inv[k] @ x
        A_inv[k] -= np.outer(v, v / (1.0 + v @ x))
        b[k] += 0.5 * x
        theta[k] = A_inv[k] @ b[k]

    return step


def obp(K, d):
    from obp.policy import LinUCB

    X, policy = contexts(d), LinUCB(dim=d, n_actions=K, epsilon=1.0)

    def step(t):
        x = X[t : t + 1]
        k = int(policy.select_action(x)[0])
        policy.update_params(k, 0.5, x)

    return step


def mabwiser(K, d):
    from mabwiser.mab import MAB, LearningPolicy

    X, bandit = contexts(d), MAB(list(range(K)), LearningPolicy.LinUCB(alpha=1.0, l2_lambda=1.0))
    bandit.fit([0], [0.5], X[:1])

    def step(t):
        x = X[t : t + 1]
        k = bandit.predict(x)
        bandit.partial_fit([k], [0.5], x)

    return step


def contextualbandits(K, d):
    from contextualbandits.online import LinUCB

    X, policy = contexts(d), LinUCB(K, alpha=1.0, fit_intercept=False, njobs=1)

    def step(t):
        x = X[t : t + 1]
        policy.partial_fit(x, policy.predict(x), np.array([0.5]))

    return step


def coba(K, d):
    from coba import LinUCBLearner

    X, learner, items = [tuple(x) for x in contexts(d).tolist()], LinUCBLearner(alpha=1), list(range(K))

    def step(t):
        k, chance = learner.predict(X[t], items)[:2]
        learner.learn(X[t], k, 0.5, chance)

    return step


def memory_reads(K, d):
    """Several ways to read an array of K d d float64 once."""
    matrix = np.random.default_rng(0).standard_normal((K, d * d))
    flat, x, out = matrix.ravel(), matrix[0].copy(), np.empty(K)
    return (lambda _: np.dot(matrix, x, out=out), lambda _: flat.dot(flat), lambda _: flat.max())


PEERS = {
    "obp": (obp, "pip install --no-deps obp==0.4.1"),
    "contextualbandits": (contextualbandits, "pip install --no-deps contextualbandits"),
    "coba (joint model)": (coba, "pip install --no-deps coba"),
    "MABWiser": (mabwiser, "pip install mabwiser"),
}


def seconds(step, start, count):
    """Mean seconds of ``count`` rounds."""
    begin = time.process_time()
    for t in range(start, start + count):
        step(t % CONTEXTS)
    return (time.process_time() - begin) / count


def sides_of(K, d):
    """The sides as (name, steps, rounds a repeat, what to do before), and the rows of those not installed."""
    limit, quick = (d + 1) // 2, 200 if K * d < 10_000 else 100
    sides = []
    forms = (("every arm dense", limit + 1), ("5 pulls an arm", 5), (f"{limit - 1} pulls an arm", limit - 1))
    for form, pulls in forms:
        step, restore = ours(K, d, pulls)
        sides.append((f"hare-gym, {form}", [step], quick, restore))
    sides.append((READ, memory_reads(K, d), quick, None))
    sides.append(("plain NumPy reference", [reference(K, d)], quick, None))
    missing = []
    for name, (make, command) in PEERS.items():
        try:
            step = make(K, d)
        except ImportError:
            missing.append(f"| {name} | not installed: `{command}` | | |")
            continue
        seconds(step, 0, 3)
        sides.append((name, [step], max(2, quick // 50), None))
    return sides, missing


def main():
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}, one thread;")
    print(f"{REPEATS} interleaved repeats: median (lowest to highest)\n")
    for K, d in ((100, 32), (1000, 64)):
        sides, missing = sides_of(K, d)
        times = np.empty((REPEATS, len(sides)))
        for repeat in range(REPEATS):
            for i, (_, steps, count, restore) in enumerate(sides):
                if restore:
                    restore()
                times[repeat, i] = min(seconds(step, repeat * count, count) for step in steps)
        names = [name for name, *_ in sides]
        read = times[:, names.index(READ)]
        print(f"K = {K}, d = {d}\n")
        print("| side | ms a decide + update | over hare-gym, dense | over one read |")
        print("|---|---|---|---|")
        for name, column in zip(names, times.T, strict=True):
            cells = (spread(1e3 * column), spread(column / times[:, 0]), spread(column / read))
            print(f"| {name} | {' | '.join(cells)} |")
        print("\n".join(missing) + "\n" if missing else "")


def spread(values):
    return f"{np.median(values):.3g} ({values.min():.3g} to {values.max():.3g})"


if __name__ == "__main__":
    warnings.filterwarnings("ignore")  # other libraries' own
    main()
