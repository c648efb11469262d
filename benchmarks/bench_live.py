"""What a round of the live demonstration costs, and how long it takes to start.

A round is everything that a press of the button does: both skills, the rating, learning, the explanation and its four
pictures; by a persona, who has a third text written for the curve of retrieval with a profile. ``personas`` instead
tells what the eight personas get, each in a session of their own.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROUNDS = 40


def main() -> None:
    from hare_evaluation.live import charts
    from hare_evaluation.live.ratings import Rating
    from hare_evaluation.live.session import LiveSession
    from hare_evaluation.live.store import Sessions
    from hare_evaluation.live.world import World

    world = World()

    def drawn(session: LiveSession) -> None:
        told = session.explain()
        for draw in (charts.user_state, charts.attention, charts.entropies, charts.rewards):
            draw(told)

    def by_persona(session: LiveSession, k: int) -> None:
        session.play()
        drawn(session)

    def by_person(session: LiveSession, k: int) -> None:
        turn = session.ask(f"help me with test number {k} of the {'ab' * (k % 7)} module")
        session.rate(turn.number, Rating(1 + k % 5, ("too basic",) if k % 3 else ()))
        drawn(session)

    with tempfile.TemporaryDirectory() as scratch:
        sessions = Sessions(world, Path(scratch) / "demo.sqlite")
        sessions.get("warm").ask("a need that no corpus knows")  # loads the encoder
        print("| a round, composer | median, ms | of CPU | 95% | slowest |\n|---|---|---|---|---|")
        for name, persona, play in (("a persona's", 0, by_persona), ("a person's, a new need each", -1, by_person)):
            session = sessions.get(name)
            session.become(persona)
            print(row(name, [timed(play, session, k) for k in range(ROUNDS)]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for k in range(10):
            sessions.get(str(k)).become(0)
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 / 10
        print(f"\nA session in memory: {more:.0f} MiB. On disk: {size(sessions.path) / ROUNDS:.0f} kB a round.")
        first, second = (started(Path(scratch)) for _ in range(2))
    print("\n| start until the page answers | seconds | of CPU |\n|---|---|---|")
    for name, (wall, cpu) in (("first time", first), ("from then on", second)):
        print(f"| {name} | {wall:.1f} | {cpu:.1f} |")


def personas() -> None:
    from hare_evaluation.live.session import LiveSession
    from hare_evaluation.live.world import World

    world = World()
    print("| persona | rounds | HARE | RAG | RAG with profile | entropy |\n|---|---|---|---|---|---|")
    for k, persona in enumerate(world.personas):
        session = LiveSession(world)
        session.become(k)
        session.play(2 * 15)
        told = session.explain()
        for start in (0, 15):
            means = [np.mean(told.rewards[name][start : start + 15]) for name in ("HARE", "RAG", "RAG with profile")]
            cells = " | ".join(f"{mean:.2f}" for mean in means)
            change = f"{told.entropies[start]:.2f} to {told.entropies[start + 15]:.2f}"
            print(f"| {persona.name if not start else ''} | {start + 1} to {start + 15} | {cells} | {change} |")


def timed(play: Callable[..., None], *arguments: object) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    play(*arguments)
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def row(name: str, times: list[tuple[float, float]]) -> str:
    wall, cpu = np.array(times).T
    late = np.percentile(wall, 95)
    return f"| {name} | {np.median(wall):.0f} | {np.median(cpu):.0f} | {late:.0f} | {wall.max():.0f} |"


def size(path: Path) -> float:
    return sum(each.stat().st_size for each in path.parent.glob(path.name + "*")) / 2 / 1024  # two such sessions


def started(scratch: Path) -> tuple[float, float]:
    """Wall and CPU seconds of ``hare demo`` until it says that it answers; the cache is in ``scratch``."""
    command = [sys.executable, "-c", "from hare_evaluation.cli import main; main()", "demo", "--no-browser"]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(
        [*command, "--port", "0", "--store", str(scratch / "started.sqlite")],
        env={**os.environ, "HARE_CACHE": str(scratch / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        while "HARE, live:" not in server.stdout.readline():
            pass
        wall = time.perf_counter() - begin
        server.terminate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    personas() if sys.argv[1:] == ["personas"] else main()
