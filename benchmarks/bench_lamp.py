"""Speed of LaMP: `load` opens 25,000 questions with profiles of 100 items; `select` plays `HareLaMP*`.

    python benchmarks/bench_lamp.py load [--questions 25000] [--items 100]
    python benchmarks/bench_lamp.py select

The questions are opened in a process of their own, so that its peak of memory is theirs. Ours (Python's own decoder
over chunks) takes turns with ijson, where that is installed, on a tenth of the questions: `pip install ijson`.

`select` counts rounds by CPU second: the first session, in which every question is written, read, measured and judged
once, and later ones of the same world, which find these kept.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym
import numpy as np

import hare_gym  # noqa: F401
from hare_gym.lamp.data import load as load_lamp
from hare_gym.lamp.streaming import objects_of

REPEATS = 5
BLOCKS = 50


def make(folder, questions, items):
    """The test file of task 3, of texts of 80 words; profiles are drawn from 50, which spares the making."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnop"), rng.integers(2, 11))) for _ in range(3000)])

    def text():
        return " ".join(rng.choice(words, 80))

    profiles = [
        json.dumps([{"id": f"{b}-{k}", "text": text(), "score": str(rng.integers(1, 6))} for k in range(items)])
        for b in range(BLOCKS)
    ]
    path = folder / "test_questions.json"
    with path.open("w") as file:
        file.write("[")
        for k in range(questions):
            asked = json.dumps(f"What is the score of the following review? review: {text()}")
            file.write(f'{", " if k else ""}{{"id": "{k}", "input": {asked}, "profile": {profiles[k % BLOCKS]}}}')
        file.write("]")
    return path


def open_once(folder):
    """Opens the file, looks up 200 questions, and tells what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    opened = load_lamp(folder, 3, "test")
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.process_time()
    looked_up = opened.questions[:: max(1, len(opened) // 200)]
    each = (time.process_time() - start) / len(looked_up)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(opened)} questions of {len(looked_up[0].profile)} items: {wall:.1f} s, {cpu:.1f} CPU seconds")
    print(f"peak of memory {peak:.0f} MiB; one question looked up in {1e3 * each:.2f} CPU milliseconds")


def compare(path):
    """Python's decoder over chunks against ijson, taking turns; megabytes a CPU second."""
    try:
        import ijson
    except ImportError:
        print("ijson is not installed: no comparison")
        return

    def ours():
        for _ in objects_of(path):
            pass

    def theirs():
        with path.open("rb") as file:
            for _ in ijson.items(file, "item", use_float=True, buf_size=1 << 20):
                pass

    taken = np.empty((REPEATS, 2))
    for k in range(REPEATS):
        for side, read in enumerate((ours, theirs)):
            start = time.process_time()
            read()
            taken[k, side] = time.process_time() - start
    megabytes = path.stat().st_size / 1e6
    ratio = taken[:, 0] / taken[:, 1]
    ours_speed, their_speed = megabytes / np.median(taken, axis=0)
    print(f"stream: ours {ours_speed:.0f}, ijson ({ijson.backend}) {their_speed:.0f} MB a CPU second")
    print(f"time of ours over ijson's: {np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})")


def load(questions, items):
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder), questions, items)
        print(f"{path.stat().st_size / 1e9:.2f} GB")
        subprocess.run([sys.executable, __file__, "open", "--folder", folder], check=True)
        compare(make(Path(folder), max(1, questions // 10), items))


def select():
    """A table of rounds by CPU second: one at a time, and 32 lanes that play one world."""
    rounds, lanes = 1000, 32

    def timed(step, count):
        start = time.process_time()
        for _ in range(rounds // count):
            step()
        return rounds / (time.process_time() - start)

    print("| environment | single, first session | single, later | vector, first session | vector, later |")
    print("|---|---|---|---|---|")
    for number in range(1, 8):
        id = f"HareLaMP{number}-v0"
        single = gym.make(id, disable_env_checker=True, horizon=rounds).unwrapped
        vector = gym.make_vec(
            id,
            num_envs=lanes,
            vectorization_mode="vector_entry_point",
            horizon=rounds // lanes,
            shared_world=True,
        )
        none = np.zeros(lanes, dtype=np.int64)
        cells = []
        for env, step, count in ((single, lambda: single.step(0), 1), (vector, lambda: vector.step(none), lanes)):  # noqa: B023
            firsts, later = [], []
            for seed in range(REPEATS):
                env.reset(seed=seed)
                firsts.append(timed(step, count))
                for _ in range(3):  # after some sessions hardly a question is new
                    env.reset()
                    last = timed(step, count)
                later.append(last)
            cells += [
                f"{np.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})" for found in (firsts, later)
            ]
        print(f"| {id} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "open", "select"])
    parser.add_argument("--questions", type=int, default=25_000)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "open":
        open_once(Path(given.folder))
    elif given.what == "select":
        select()
    else:
        load(given.questions, given.items)


if __name__ == "__main__":
    main()
