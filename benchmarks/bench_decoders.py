"""Language-model decoders: what they write, how well, how fast, and what rewards teach them.

    python benchmarks/bench_decoders.py speed [--decoder FOLDER]      # tokens/s and seconds a skill at batch 1, 8, 32
    python benchmarks/bench_decoders.py quality [--decoder FOLDER]    # 200 texts for the corpus's contents
    python benchmarks/bench_decoders.py information                   # trains tiny, and one without z beside it
    python benchmarks/bench_decoders.py online [--updates 100]        # rewards of HareSkills-v0 teach the decoder

Texts are judged by `hare_gym.text.measure`; chance is what the best constant guess would reach.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import time
from dataclasses import replace

import gymnasium as gym
import numpy as np
from sklearn.metrics import mutual_info_score

import hare_gym  # noqa: F401
from hare_agents.decoders import tiny
from hare_agents.decoders.language_model import ConditionedDecoder
from hare_agents.decoders.online import OnlineLearner, distinct
from hare_agents.decoders.tiny import contents, held_out, pairs_of, short_skill
from hare_agents.decoders.trained import load_decoder
from hare_evaluation.cli import assignments
from hare_evaluation.metrics.overlap import nearest
from hare_evaluation.runner import seeds
from hare_gym.text.corpus import DOMAINS, TOPICS, load_corpus
from hare_gym.text.measure import Measurer, Measures, content_of, measures, query_topics
from hare_gym.text.skills import validate

BATCH = 16
SHOWN = ("guard", "relevance", "domain", "level", "specificity", "style")


def valid(text: str) -> bool:
    return not any(violation.severity == "error" for violation in validate(text))


def untrained(base: str, content_dim: int) -> ConditionedDecoder:
    """What ``hare models train`` begins with: the speed of a decoder does not depend on what it has learned."""
    return ConditionedDecoder.from_model(base, content_dim, lora_rank=8, skeleton="short")


def speed(source: str, repeats: int) -> None:
    Z = contents()
    decoder = untrained("smollm2", Z.shape[1]) if source == "smollm2" else load_decoder(source)
    for batch in (1, 8, 32):
        rng = np.random.default_rng(0)
        wall, cpu = time.perf_counter(), time.process_time()
        texts = [text for _ in range(repeats) for text in decoder.decode_batch(Z[:batch], None, rng)]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        tokens = sum(len(row) for row in decoder.rows_of(texts))
        print(
            f"batch {batch:>2}: {tokens / wall:6.0f} tokens/s, {wall / len(texts):.3f} s a skill; by CPU time "
            f"{tokens / cpu:6.0f} tokens/s, {cpu / len(texts):.3f} s",
            flush=True,
        )


def information_of(truth: np.ndarray, found: np.ndarray) -> float:
    """Mutual information of labels in nats, less its bias in small samples (Miller, 1955)."""
    cells = [len({*zip(truth.tolist(), found.tolist(), strict=True)}), len({*truth.tolist()}), len({*found.tolist()})]
    return float(mutual_info_score(truth, found)) - (cells[0] - cells[1] - cells[2] + 1) / (2 * len(truth))


def quality(
    source: str, skeletons: list[str], count: int, guidance: float | None, candidates: int, drafts: int, batch: int
) -> None:
    """Of several candidates the one is kept that reads nearest to the z asked for, also where z was not shown.

    Texts without z do not depend on what is asked for, so twice ``count`` of them are drawn, and each content chooses
    among ``candidates`` of these, taken at random. Of openings (``drafts``) each content has its own.
    """
    skills, Z = load_corpus().skills, contents()
    picked = np.random.default_rng(1).permutation(np.arange(count) * len(skills) // count)
    truth = np.array([DOMAINS.index(skills[i].metadata["domain"]) for i in picked])
    taught = ~held_out(len(skills))[picked]
    measurer, pool = Measurer(), [skill.text for skill in skills]
    for skeleton in skeletons:
        knobs = {} if guidance is None else {"guidance": guidance}
        decoder = load_decoder(source, skeleton=skeleton, drafts=drafts, **knobs)
        rng = np.random.default_rng(2)
        each = np.repeat(Z[picked], candidates, axis=0)
        for kind, asked in (("right z", each), ("no z", each if drafts > 1 else None)):
            if kind == "no z":
                decoder.z_mean = np.full_like(decoder.z_mean, np.nan)  # hides z from the model, not from the choice
            size = 2 * count if asked is None and candidates > 1 else count * candidates
            drawn = [
                text
                for at in range(0, size, batch)
                for text in decoder.decode_batch(
                    None if asked is None else asked[at : at + batch], None, rng, min(batch, size - at)
                )
            ]
            rows = np.arange(size).reshape(count, -1)
            if asked is None and candidates > 1:
                rows = np.stack([rng.permutation(size)[:candidates] for _ in range(count)])
            phi = np.stack([measurer.text(text).phi for text in drawn])
            distances = np.linalg.norm(phi[rows] - Z[picked][:, None], axis=-1)
            for n in sorted({1, candidates} | {n for n in (2, 4, 8, 16) if n < candidates}):
                kept = np.take_along_axis(rows, distances[:, :n].argmin(axis=1)[:, None], axis=1)[:, 0]
                found = measures(phi[kept]).domain.argmax(-1)
                report = judged([drawn[i] for i in kept], found, truth, taught, pool)
                print(f"{skeleton}, {kind}, best of {n}: {report}", flush=True)


def judged(texts: list[str], found: np.ndarray, truth: np.ndarray, taught: np.ndarray, pool: list[str]) -> str:
    right, entropy, near = found == truth, float(mutual_info_score(truth, truth)), nearest(texts[:50], pool)
    gain = information_of(truth, found)
    return (
        f"valid {np.mean([valid(text) for text in texts]):.3f}, right domain {right.mean():.3f} (of taught skills "
        f"{right[taught].mean():.3f}, chance {np.bincount(truth).max() / len(truth):.3f}), information on the domain "
        f"{gain:.2f} of {entropy:.2f} nats ({gain / entropy:.2f}), exact copies "
        f"{len({text.strip() for text in texts} & {text.strip() for text in pool})}, distinct texts "
        f"{len(set(texts))}, ROUGE-L to the nearest item (50) mean {near.mean():.2f} max {near.max():.2f}"
    )


def information() -> None:
    skills, Z = load_corpus().skills, contents()
    out = held_out(len(skills))
    taught = [skill for skill, held in zip(skills, out, strict=True) if not held]
    conditioned = tiny.train_tiny()
    blind = tiny.train_tiny(taught, np.zeros_like(Z[~out]))
    for kind, those in (("held-out skills", out), ("taught skills, drawn anew", ~out)):
        texts = [short_skill(s, np.random.default_rng(1)) for s, one in zip(skills, those, strict=True) if one]
        none = blind.perplexity(texts)
        print(f"{kind}, trained without z: perplexity {none.perplexity:.1f}, {none.bits_per_byte:.3f} bits a byte")
        shuffled = np.roll(Z[those], len(texts) // 2 - 1, axis=0)
        for name, z in (("right z", Z[those]), ("shuffled z", shuffled), ("no z", None)):
            found = conditioned.perplexity(texts, z)
            gain = found.bits_gained_over(none)
            spread = (none.nats - found.nats).std() / np.log(2) / np.sqrt(len(texts))
            print(
                f"  {name:10} perplexity {found.perplexity:6.1f}, {found.bits_per_byte:.3f} bits a byte, "
                f"{gain:+.1f} bits a text over it (standard error {spread:.1f})"
            )


def online(source: str, updates: int, seed: int, encoder: str, needs: int, rated: int, knobs: dict) -> None:
    """Here z and u are those of an agent that knows query and user: what is learned is how to put them into words.

    An update is one step on ``rated`` texts for each of ``needs`` needs. An environment rates one text a round, so
    copies of it, in the same state, rate the drafts, each with luck of its own.
    """
    number, rng = seeds("tuning", seed)
    copies = [
        gym.make_vec(
            "HareSkills-v0",
            num_envs=needs,
            vectorization_mode="vector_entry_point",
            action_mode="write",
            shared_world=True,
            horizon=updates + 12,
            encoder=encoder,
        )
        for _ in range(rated)
    ]
    for env in copies:
        observation, _ = env.reset(seed=number)
    unwrapped = copies[0].unwrapped
    users, everything = unwrapped.users_of(0), np.full(len(TOPICS), 1 / len(TOPICS))
    decoder, skills, Z = load_decoder(source), load_corpus().skills, contents()
    out = held_out(len(skills))
    rehearsed = pairs_of([s for s, held in zip(skills, out, strict=True) if not held], Z[~out], 2, rng)
    checked = pairs_of([s for s, held in zip(skills, out, strict=True) if held], Z[out], 1, rng)
    learner = OnlineLearner(decoder, rehearsed, [replace(pair, u=None) for pair in checked], seed=seed, **knobs)

    def content(user: np.ndarray, topics: np.ndarray) -> np.ndarray:
        who = users[user]
        return content_of(Measures(who.domains, topics, who.expertise, who.specificity, who.styles))

    def play(observation: dict) -> tuple:
        z = content(observation["user"], query_topics(observation["query"]))
        u = content(observation["user"], np.tile(everything, (needs, 1)))
        z, u = np.tile(z, (rated, 1)), np.tile(u, (rated, 1))
        texts = decoder.decode_batch(z, u, rng)
        steps = [env.step(tuple(texts[k * needs : (k + 1) * needs])) for k, env in enumerate(copies)]
        infos = {name: np.concatenate([step[4][name] for step in steps]) for name in ("expected_reward", *SHOWN)}
        mu = np.clip(infos["expected_reward"], 1e-3, 1 - 1e-3)
        rewards = rng.beta(unwrapped.config.concentration * mu, unwrapped.config.concentration * (1 - mu))
        return steps[0][0], z, u, texts, rewards, infos

    def show(when: str, texts: list[str], means: list[float], health: object = "") -> None:
        print(
            f"{when}: reward {np.mean(means):.3f}, valid {np.mean([valid(text) for text in texts]):.3f}, distinct "
            f"triples {distinct(texts):.2f}, perplexity {learner.held_out_perplexity():.1f}, rollbacks "
            f"{learner.rollbacks} {health}",
            flush=True,
        )

    texts, means, infos = [], [], []
    for update in range(-6, updates + 6):  # six rounds to look at before, and six after
        observation, z, u, written, rewards, info = play(observation)
        infos.append(info)
        texts += written
        means += info["expected_reward"].tolist()
        health = learner.update(z, u, written, rewards) if 0 <= update < updates else None
        if health or update in (-1, updates + 5):
            show("before" if update < 0 else "after" if update >= updates else f"{update + 1:>4}", texts, means)
            print({name: round(float(np.mean([info[name] for info in infos])), 2) for name in SHOWN}, flush=True)
            texts, means, infos = [], [], []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "quality", "information", "online"))
    parser.add_argument("--decoder", default="tiny")
    parser.add_argument("--repeats", type=int, default=3, help="speed: batches of each size")
    parser.add_argument("--count", type=int, default=200, help="quality: texts")
    parser.add_argument("--skeletons", nargs="+", default=["short", "frontmatter", "none"], help="quality")
    parser.add_argument("--guidance", type=float, help="quality: the decoder's own by default")
    parser.add_argument("--candidates", type=int, default=1, help="quality: texts to choose from; also 1, 2, 4, ...")
    parser.add_argument("--drafts", type=int, default=1, help="quality: openings to choose from")
    parser.add_argument("--knob", action="append", default=[], help="online: of OnlineConfig, such as lr=1e-3")
    parser.add_argument("--updates", type=int, default=100, help="online")
    parser.add_argument("--batch", type=int, default=BATCH, help="quality: texts at a time")
    parser.add_argument("--needs", type=int, default=6, help="online: needs an update")
    parser.add_argument("--rated", type=int, default=8, help="online: rated texts for each need")
    parser.add_argument("--seed", type=int, default=0, help="online: of the set 'tuning'")
    parser.add_argument("--encoder", default="minilm", help="online: of the environment")
    given = parser.parse_args()
    if given.what == "speed":
        speed(given.decoder, given.repeats)
    elif given.what == "quality":
        choice = given.candidates, given.drafts
        quality(given.decoder, given.skeletons, given.count, given.guidance, *choice, given.batch)
    elif given.what == "information":
        information()
    else:
        knobs = assignments("--knob", given.knob)
        online(given.decoder, given.updates, given.seed, given.encoder, given.needs, given.rated, knobs)
