"""Time to rank and to build the site: `python benchmarks/bench_leaderboard.py [--entries 500] [--seeds 20]`.

Results are made up and written first; what is timed is loading them (hashes and schema), ranking, and writing the
pages. The processor's seconds are those of this process, which uses one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _board import environment, run, run_set

from hare_evaluation.runner import checkpoints
from hare_leaderboard.ranking import rank_all
from hare_leaderboard.results import ResultStore
from hare_leaderboard.site import build_site

LIMIT = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--tracks", type=int, default=6)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = ResultStore(Path(folder, "results"))
        fill(store, args.entries, args.seeds, args.tracks)
        wall, cpu, last = time.perf_counter(), time.process_time(), time.process_time()
        steps = {}
        found = store.load()
        steps["load"], last = time.process_time() - last, time.process_time()
        boards = rank_all(found)
        steps["rank"], last = time.process_time() - last, time.process_time()
        build_site(boards, Path(folder, "site"))
        steps["build"] = time.process_time() - last
        total, wall = time.process_time() - cpu, time.perf_counter() - wall
        pages = len(list(Path(folder, "site").glob("*.html")))
    print(f"{args.entries} entries, {args.seeds} seeds, {args.tracks} tracks, {pages} pages")
    print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in steps.items()))
    print(f"{total:.1f} s of the processor, {wall:.1f} s of the clock; limit {LIMIT:.0f} s")
    if total > LIMIT:
        raise SystemExit("Too slow.")


def fill(store: ResultStore, entries: int, seeds: int, tracks: int) -> None:
    rng = np.random.default_rng(0)
    points = checkpoints(2000)
    world = environment(hidden=seeds, public=0, checkpoints=points)
    for i in range(entries):
        for track in range(tracks):
            regrets = np.maximum(1.0, rng.normal(100.0 + i, 20.0, seeds))
            runs = [run(seed=s, regret=float(regret), checkpoints=points) for s, regret in enumerate(regrets)]
            update = {"environments": [world], "runs": runs}
            store.add(run_set(f"agent-{i}", track=f"track-{track}", seed=i).model_copy(update=update))


if __name__ == "__main__":
    main()
