"""How long 20 seeds of 10,000 rounds of joint LinUCB take, recording and start-up of the workers included.

python benchmarks/bench_seeds.py [--jobs 2]
"""

import argparse
import os
import platform
import tempfile
import time

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

from hare_evaluation.parallel import run_all
from hare_evaluation.spec import RunSpec
from hare_evaluation.store import Store


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    specs = [
        RunSpec(
            env="HareBilinear-v0", agent="linucb", seed_set="benchmark", seed=seed, env_kwargs={"horizon": 10_000}
        )
        for seed in range(20)
    ]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        records = run_all(specs, Store(folder), jobs=jobs)
        seconds = time.perf_counter() - start
    assert all(record["status"] == "ok" for record in records)
    print("| runs | jobs | processors | seconds | rounds/s |")
    print("|---|---|---|---|---|")
    print(
        f"| 20 seeds x 10,000 rounds, joint LinUCB | {jobs} | {os.cpu_count()} x {platform.machine()} | "
        f"{seconds:.1f} | {200_000 / seconds:,.0f} |"
    )


if __name__ == "__main__":
    main()
