"""Recommending 3 of 10,000 prompts: the engine against a plain loop over prompts, and the load on the event store.

    python benchmarks/bench_prompts.py recommend
    python benchmarks/bench_prompts.py batches [--postgres]
    python benchmarks/bench_prompts.py load [--postgres] [--writers 8] [--events 50000] [--batch 200]

``naive_scores`` and ``naive_choice`` are the formula read aloud, one prompt at a time. The tests hold the engine to
them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hare_agents.prompts import (
    Completion,
    Context,
    EntropyChange,
    Impression,
    Library,
    Prompt,
    PromptEngine,
    PromptsConfig,
    Selection,
    encode,
)
from hare_agents.prompts.context import decode, key_of

LENSES = ("skeptic", "builder", "learner", "critic")
NOW = 1_790_000_000.0
HOUR, DAY = 3_600.0, 86_400.0


@dataclass
class Counted:
    """What the formula needs to know, in dictionaries.

    Attributes:
        shown: Impressions by prompt.
        last: When last shown, by prompt, or by prompt and context.
        changes: Samples and their sum in millionths, by prompt and initial bucket.
        seen: Impressions and successes by key of a context (coarser ones too), then by prompt.
    """

    shown: dict = field(default_factory=dict)
    last: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)


def naive_levels(config, key):
    """The key of a context and those of the coarser ones that lend to it, finest first."""
    coarser = config.back_off.levels if config.back_off.enabled else []
    return [key, *(key_of(decode(config.context, key), level) for level in coarser)]


def naive_counts(config, events):
    """Everything counted anew from the events."""
    counted, w = Counted(), config.ucb.completion_weight
    for event in events:
        if event.kind == "impression":
            counted.shown[event.prompt] = counted.shown.get(event.prompt, 0) + 1
            place = event.prompt if config.freshness.scope == "prompt" else (event.prompt, event.context)
            counted.last[place] = max(event.at, counted.last.get(place, -math.inf))
        if event.kind == "entropy":
            place = event.prompt, decode(config.context, event.context)["entropy"]
            samples, change = counted.changes.get(place, (0, 0))
            counted.changes[place] = samples + 1, change + event.value()
        for level in naive_levels(config, event.context):
            pair = counted.seen.setdefault(level, {}).setdefault(event.prompt, [0, 0.0])
            pair[0] += event.kind == "impression"
            pair[1] += (event.kind == "selection") * (1 - w) + (event.kind == "completion") * event.value() * w
    return counted


def naive_scores(config, library, counted, context, now):
    """Scores by id, one prompt at a time."""
    key = encode(config.context, context)
    buckets = decode(config.context, key)
    levels = [counted.seen.get(level, {}) for level in naive_levels(config, key)]
    evidence = {id: naive_evidence(config, [level.get(id, (0, 0.0)) for level in levels]) for id in library.ids}
    N = sum(n for n, _ in evidence.values())
    scores = {}
    for prompt in library.prompts:
        place = prompt.id if config.freshness.scope == "prompt" else (prompt.id, key)
        scores[prompt.id] = (
            naive_base(config.relevance, prompt, buckets)
            * naive_entropy(
                config.entropy, buckets["entropy"], *counted.changes.get((prompt.id, buckets["entropy"]), (0, 0))
            )
            * naive_ucb(config.ucb, *evidence[prompt.id], N)
            * naive_freshness(config.freshness, counted.last.get(place), now)
            * naive_new(config.new, counted.shown.get(prompt.id, 0))
        )
    return scores


def naive_evidence(config, levels):
    """Impressions and successes of one prompt; ``levels`` are its counts from the finest context to the coarsest."""
    n = s = 0.0
    for level in range(len(levels) - 1, -1, -1):
        finer = levels[level - 1] if level > 0 else (0, 0.0)
        if level < len(levels) - 1 and n > config.back_off.strength:
            n, s = config.back_off.strength, s * config.back_off.strength / n
        n, s = n + levels[level][0] - finer[0], s + levels[level][1] - finer[1]
    return n, s


def naive_base(section, prompt, buckets):
    affinities = [
        prompt.affinity.get(f"{name}:{buckets[name]}", section.default_affinity) for name in ("lens", "topic")
    ]
    missed = sum(buckets[feature] not in values for feature, values in prompt.targets.items())
    return sum(affinities) / 2 * section.off_target**missed


def naive_entropy(section, bucket, samples, change):
    if not section.enabled or samples < section.min_samples:
        return 1.0
    mean = change / samples / 1e6
    if bucket == "medium":
        size = abs(mean) / section.moderate_change
        if size <= 1:
            return 1 + (section.favoured - 1) * size
        return section.favoured + (section.disfavoured - section.favoured) * min(1, (size - 1) / 2)
    gained = (-mean if bucket == "high" else mean) / section.strong_change
    far = section.favoured - 1 if gained > 0 else 1 - section.disfavoured
    return 1 + far * max(-1, min(1, gained))


def naive_ucb(section, n, s, N):
    if not section.enabled:
        return 1.0
    return s / n + section.c * math.sqrt(math.log(N + 1) / n) if n > 0 else 1 + section.c


def naive_freshness(section, last, now):
    if not section.enabled or last is None:
        return 1.0
    return min(1.0, section.floor + max(0.0, now - last) / HOUR / section.hours)


def naive_new(section, shown):
    if not section.enabled or shown >= section.impressions:
        return 1.0
    return 1 + (section.bonus - 1) * (1 - shown / section.impressions)


def naive_choice(config, library, scores, k):
    """Ids of a diverse slate, best first."""
    topic = {prompt.id: library.topic_names.index(prompt.topic) for prompt in library.prompts}
    least = config.diversity.min_distance if config.diversity.enabled else 0.0
    ranked = sorted(scores, key=lambda id: (-scores[id], id))
    chosen = []
    for id in ranked:
        if len(chosen) < k and all(library.distances[topic[id], topic[other]] >= least for other in chosen):
            chosen.append(id)
    return (chosen + [id for id in ranked if id not in chosen])[:k]


def made_library(count, rng, topics=40):
    """Prompts of random topics, affinities and targets, with vectors for the topics."""
    names = [f"topic-{i:02}" for i in range(topics)]
    prompts = [
        Prompt(
            id=f"prompt-{i:05}",
            topic=names[rng.integers(topics)],
            affinity={f"lens:{lens}": float(rng.uniform(0, 100)) for lens in LENSES if rng.random() < 0.7},
            targets={"entropy": ["high", "medium"]} if rng.random() < 0.3 else {},
        )
        for i in range(count)
    ]
    return Library(prompts, {name: rng.standard_normal(6).tolist() for name in names})


def made_context(rng):
    """A random visit."""
    lens, topic = LENSES[rng.integers(len(LENSES))], f"topic-{rng.integers(4):02}"
    return Context(lens, topic, float(rng.random()), int(rng.integers(12)), int(rng.integers(24)))


def made_events(config, library, count, rng):
    """Impressions with what followed, over ten days."""
    events = []
    while len(events) < count:
        context = made_context(rng)
        told = {"prompt": library.ids[rng.integers(len(library))], "context": encode(config.context, context)}
        at = NOW - float(rng.uniform(0, 10 * DAY))
        events.append(Impression(**told, at=at))
        if rng.random() < 0.4:
            events.append(Selection(**told, at=at, dwell=float(rng.exponential(40))))
            after = float(np.clip(context.entropy + rng.normal(0, 0.1), 0, 1))
            events.append(EntropyChange(**told, at=at, before=context.entropy, after=after))
            events.append(Completion(**told, at=at, completed=bool(rng.random() < 0.5)))
    return events[:count]


def recommend(count=10_000, size=100_000, repeats=200):
    """Milliseconds of a recommendation, and the ratio to the plain loop; both have everything counted."""
    for back_off in (False, True):
        rng = np.random.default_rng(0)
        config = PromptsConfig.of({"back_off": {"enabled": back_off}})
        library = made_library(count, rng)
        engine = PromptEngine(library, config)
        events = made_events(config, library, size, rng)
        for event in events:
            engine.observe(event)
        counted = naive_counts(config, events)
        times, loops = [], []
        for i in range(repeats):
            context = made_context(rng)
            start = time.process_time()
            slate = engine.recommend(context, NOW)
            times.append((time.process_time() - start) * 1e3)
            if i % 10 == 0:
                start = time.process_time()
                naive = naive_choice(config, library, naive_scores(config, library, counted, context, NOW), 3)
                loops.append((time.process_time() - start) * 1e3)
                assert naive == [one.prompt for one in slate]
        fast, slow = statistics.median(times), statistics.median(loops)
        print(
            f"{count:,} prompts, {size:,} events, back-off {'on' if back_off else 'off'}: {fast:.2f} ms, 95% under "
            f"{np.percentile(times, 95):.2f} ms; the loop takes {slow:.1f} ms, {slow / fast:.0f} times as long"
        )


def written(seed, count, config, library):
    """The events of one writer, one after the other: the same for the same seed, ids included."""
    rng = np.random.default_rng(seed)
    keys = [encode(config.context, made_context(rng)) for _ in range(50)]
    for _ in range(count):
        told = {
            "prompt": library.ids[rng.integers(len(library))],
            "context": keys[rng.integers(50)],
            "id": str(uuid.UUID(bytes=rng.bytes(16), version=4)),
        }
        kind = rng.random()
        if kind < 0.6:
            yield Impression(**told)
        elif kind < 0.8:
            yield Selection(**told, dwell=float(rng.exponential(40)))
        elif kind < 0.9:
            yield Completion(**told, completed=bool(rng.random() < 0.5))
        else:
            before = {"low": 0.1, "medium": 0.5, "high": 0.9}[decode(config.context, told["context"])["entropy"]]
            yield EntropyChange(**told, before=before, after=float(rng.random()))


LOADED = Library([Prompt(id=f"prompt-{i:03}") for i in range(200)])


def write(url, seed, count, batch):
    """One writer: says after each batch how many of its events are acknowledged."""
    from hare_agents.prompts.telemetry import Telemetry

    telemetry = Telemetry(url)
    telemetry.register(LOADED)
    print("ready", flush=True)
    events, acknowledged = written(seed, count, telemetry.config, LOADED), 0
    while part := list(itertools.islice(events, batch)):
        acknowledged += telemetry.record_many(part)
        print(acknowledged, flush=True)


def writer(url, seed, count, batch):
    """A process that runs `write`."""
    told = ["--url", url, "--seed", str(seed), "--events", str(count), "--batch", str(batch)]
    return subprocess.Popen([sys.executable, __file__, "write", *told], stdout=subprocess.PIPE, text=True)


def load(url, writers, count, batch):
    """Writers at once in processes of their own; what is wrong afterwards, by name, and the seconds it took."""
    from hare_agents.prompts.telemetry import Telemetry, upkeep

    telemetry = Telemetry(url)
    start = time.perf_counter()
    processes = [writer(url, seed, count, batch) for seed in range(writers)]
    said = [process.communicate()[0].split() for process in processes]
    seconds = time.perf_counter() - start
    ids = [event.id for seed in range(writers) for event in written(seed, count, telemetry.config, LOADED)]
    found = upkeep.overview(telemetry.database)
    wrong = {
        "writers that failed": sum(process.returncode != 0 for process in processes),
        "events not acknowledged": writers * count - sum(int(lines[-1]) for lines in said),
        "events lost": len(ids) - len(telemetry.recorded(ids)),
        "events too many": found["events"] - len(ids),
        "aggregates unlike the log": upkeep.differences(telemetry.database),
    }
    telemetry.close()
    return wrong, seconds


def batches(url, sizes=(1, 10, 100, 1_000)):
    """Events a second of one writer, by how many go into a transaction."""
    from hare_agents.prompts.telemetry import Telemetry

    telemetry = Telemetry(url)
    telemetry.register(LOADED)
    events = written(0, 10_000_000, telemetry.config, LOADED)
    for size in sizes:
        parts = [list(itertools.islice(events, size)) for _ in range(max(5, 500 // size))]
        start = time.perf_counter()
        count = sum(telemetry.record_many(part) for part in parts)
        print(f"{size:,} events in a transaction: {count / (time.perf_counter() - start):,.0f} events/s")
    telemetry.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("recommend", "load", "batches", "write"))
    parser.add_argument("--url", help="a database without events; by default a new SQLite file")
    parser.add_argument("--postgres", action="store_true", help="start a PostgreSQL server for this")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--events", type=int, default=50_000, help="of each writer")
    parser.add_argument("--batch", type=int, default=200, help="events in one transaction")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "recommend":
        recommend()
    elif given.what == "write":
        write(given.url, given.seed, given.events, given.batch)
    else:
        with contextlib.ExitStack() as stack:
            if given.postgres:
                sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
                from _postgres import postgres

                given.url = stack.enter_context(postgres())
            elif given.url is None:
                given.url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/prompts.db"
            if given.what == "batches":
                return batches(given.url)
            wrong, seconds = load(given.url, given.writers, given.events, given.batch)
        total = given.writers * given.events
        print(
            f"{given.writers} writers x {given.events:,} events, {given.batch} a transaction: {seconds:.0f} s,",
            end=" ",
        )
        print(f"{total / seconds:,.0f} events/s; " + ", ".join(f"{name}: {count}" for name, count in wrong.items()))
    return None


if __name__ == "__main__":
    main()
