"""`hare serve` under load: so many users at once, who ask, read, answer and think, against a server of its own.

    python benchmarks/bench_service.py [--users 100] [--seconds 20] [--think 1] [--database URL]

Each user pauses for `--think` seconds on average (exponentially) before each request; at 0 all ask as fast as they
are answered, which measures the most that the server does and says nothing of how long anybody would wait.

Prints requests per second, the quantiles of the answer times, and whether every acknowledged reward is in the log.
The clients run in this process and the server in another, so both want a processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import sqlalchemy as sa

from hare_agents.service import schema

DIM, ITEMS = 16, 1000


async def user(
    client: httpx.AsyncClient, name: str, think: float, until: float, times: dict[str, list[float]], kept: set[str]
) -> None:
    rng = np.random.default_rng(abs(hash(name)) % 2**32)
    while time.perf_counter() < until:
        await asyncio.sleep(rng.exponential(think))
        ask = {"user": name, "query": rng.standard_normal(DIM).round(4).tolist()}
        start = time.perf_counter()
        answer = await client.post("/v1/recommend", json=ask)
        answer.raise_for_status()
        middle = time.perf_counter()
        round = answer.json()["round"]
        await asyncio.sleep(rng.exponential(think))
        said = time.perf_counter()
        (await client.post("/v1/feedback", json={"round": round, "reward": float(rng.random())})).raise_for_status()
        times["recommend"].append(middle - start)
        times["feedback"].append(time.perf_counter() - said)
        kept.add(round)


async def load(base: str, users: int, think: float, seconds: float) -> tuple[dict[str, list[float]], set[str]]:
    times: dict[str, list[float]] = {"recommend": [], "feedback": []}
    kept: set[str] = set()
    limits = httpx.Limits(max_connections=users, max_keepalive_connections=users)
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(user(client, f"user-{k}", think, until, times, kept) for k in range(users)))
    return times, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=18_999)
    parser.add_argument("--database", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = given.database or f"sqlite:///{folder}/hare.db"
        pool = np.random.default_rng(0).standard_normal((ITEMS, DIM))
        pool /= np.linalg.norm(pool, axis=1, keepdims=True)
        rows = "\n".join(json.dumps({"id": f"item-{k}", "vector": row}) for k, row in enumerate(pool.tolist()))
        (Path(folder) / "pool.jsonl").write_text(rows)
        (Path(folder) / "config.yaml").write_text("limits: {per_second: 0}\n")
        command = ["serve", "--database", database, "--pool", f"{folder}/pool.jsonl", "--port", str(given.port)]
        server = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from hare_evaluation.cli import main; main()",
                *command,
                *("--config", f"{folder}/config.yaml", "--dim", str(DIM)),
            ],
            stdout=subprocess.DEVNULL,
        )
        base = f"http://127.0.0.1:{given.port}"
        for _ in range(600):
            try:
                httpx.get(f"{base}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        times, acknowledged = asyncio.run(load(base, given.users, given.think, given.seconds))
        server.kill()
        server.wait()
        with sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://")).connect() as connection:
            rewarded = sa.select(schema.events.c.round).where(schema.events.c.reward.is_not(None))
            logged = connection.execute(rewarded).scalars().all()
    print(
        f"{given.users} users, {2 * len(acknowledged) / given.seconds:.0f} requests a second for {given.seconds:g} s"
    )
    for name, values in times.items():
        p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99]) * 1000
        print(f"{name:10s} p50 {p50:6.1f} ms  p95 {p95:6.1f} ms  p99 {p99:6.1f} ms")
    lost, twice = len(acknowledged - set(logged)), len(logged) - len(set(logged))
    print(f"killed with SIGKILL: {len(acknowledged)} rewards acknowledged, {lost} lost, {twice} double")


if __name__ == "__main__":
    main()
