"""What the loop costs: recording, checks and timing on top of bare act, step and update.

    python benchmarks/bench_loop.py

Bare sessions and recorded ones alternate within one process on the same seed, so that they share the machine's
moods; the overhead is the median of the ratios of neighbouring sessions.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import statistics
from time import process_time

from hare_evaluation.environments import make
from hare_evaluation.runner import Session, one_thread, seeds
from hare_gym.registry import make_agent


def bare(env_id: str, agent_name: str, horizon: int) -> float:
    """Seconds of a session with nothing but act, step and update, preparation included."""
    env, agent = make(env_id, {"horizon": horizon}), make_agent(agent_name)
    environment_seed, rng = seeds("bench", 0)
    started = process_time()
    with one_thread():
        observation, _ = env.reset(seed=environment_seed)
        agent.reset(env.unwrapped.task, rng)
        act, step, update = agent.act, env.step, agent.update
        over = False
        while not over:
            action = act(observation)
            following, reward, _, over, _ = step(action)
            update(observation, action, reward)
            observation = following
    return process_time() - started


def recorded(env_id: str, agent_name: str, horizon: int) -> float:
    """Seconds of the same session in the loop."""
    session = Session(make(env_id, {"horizon": horizon}), make_agent(agent_name), lanes=1)
    environment_seed, rng = seeds("bench", 0)
    started = process_time()
    with one_thread():
        session.play(environment_seed, rng)
        session.ledger.summary()
        session.actions_hash.hexdigest()
    return process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10_000, help="rounds in a session")
    parser.add_argument("--pairs", type=int, default=9, help="pairs of sessions")
    parser.add_argument("--agents", nargs="+", default=["linucb", "linucb-disjoint", "random"])
    options = parser.parse_args()
    print(f"{'agent':20} {'bare µs/round':>14} {'recorded':>10} {'added':>8} {'overhead':>9}")
    for name in options.agents:
        arguments = ("HareBilinear-v0", name, options.rounds)
        bare(*arguments), recorded(*arguments)
        pairs = []
        for i in range(options.pairs):
            first, second = (bare, recorded) if i % 2 else (recorded, bare)
            one, two = first(*arguments), second(*arguments)
            pairs.append((one, two) if i % 2 else (two, one))
        micro = 1e6 / options.rounds
        base = statistics.median(pair[0] for pair in pairs) * micro
        loop = statistics.median(pair[1] for pair in pairs) * micro
        ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
        print(f"{name:20} {base:14.1f} {loop:10.1f} {loop - base:8.2f} {ratio - 1:9.1%}")


if __name__ == "__main__":
    main()
