"""Speed of `HareSkills-v0`: rounds by vector form and one at a time, texts judged, sentences encoded.

    python benchmarks/bench_skills.py

Timed in turn, several times, in one process with one thread; the ratios are taken turn by turn. CPU seconds are
counted, so that other programs on the machine matter less. No two texts in ``write`` are alike: those "of known
lines" are made of the catalogue's, as the composer's are; "of new lines", every sentence has to be encoded.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import tempfile
import time

import gymnasium as gym
import numpy as np

import hare_gym  # noqa: F401
from hare_gym.text.corpus import load_corpus
from hare_gym.text.encoders import load_encoder, minilm_folder
from hare_gym.text.skills import make_skill
from hare_gym.text.units import units_of

REPEATS = 5
NEW = 4
SENTENCES = 128
SHARED, OWN, FEW = "shared users, 256 lanes", "own users, 64 lanes", "shared users, 20 lanes"


def rounds_per_second(step, rounds, count):
    start = time.process_time()
    for t in range(count):
        step(t)
    return rounds * count / (time.process_time() - start)


def vector(size, mode, **knobs):
    env = gym.make_vec(
        "HareSkills-v0", num_envs=size, vectorization_mode="vector_entry_point", action_mode=mode, **knobs
    )
    env.reset(seed=0)
    return env


def composed(count, new=False):
    """Skills with the head of one item and instructions from two; if new, with more words in each line."""
    skills, rng = load_corpus().skills, np.random.default_rng(0)
    texts = []
    for k in range(count):
        a, b = (skills[i] for i in rng.choice(len(skills), 2, replace=False))
        lines = [line for s in (a, b) for line in s.instructions.split("\n") if line.strip()]
        kept = [lines[i] for i in sorted(rng.choice(len(lines), min(9, len(lines)), replace=False))]
        texts.append(
            make_skill(
                f"made-{k}",
                a.description,
                title=a.title,
                triggers=a.triggers,
                instructions="\n".join(f"{line.rstrip('.')} in case {k}." if new else line for line in kept),
                examples=b.examples,
            ).text
        )
    return texts


def main():
    start = time.process_time()
    single = gym.make("HareSkills-v0", disable_env_checker=True).unwrapped
    single.reset(seed=0)
    print(f"make and reset, cold: {time.process_time() - start:.2f} CPU seconds\n")
    shared, few, own = (
        vector(256, "select", shared_world=True),
        vector(20, "select", shared_world=True),
        vector(64, "select"),
    )
    items = {env: np.random.default_rng(0).integers(0, 192, (16, env.num_envs)) for env in (shared, few, own)}
    content = gym.make("HareSkills-v0", disable_env_checker=True, action_mode="synthesize").unwrapped
    contents = vector(256, "synthesize", shared_world=True)
    writing = gym.make("HareSkills-v0", disable_env_checker=True, action_mode="write").unwrapped
    for env in (content, writing):
        env.reset(seed=0)
    texts, fresh = composed(REPEATS * 60 + 2), composed(REPEATS * NEW + 2, new=True)
    for known in (texts, fresh):
        writing.step(known.pop())
        writing.step(known.pop())
    some = content.task.pool[:16].astype(np.float32)
    many = np.random.default_rng(0).permutation(np.repeat(some, 16, axis=0))
    steps = {
        ("select", SHARED): lambda: rounds_per_second(lambda t: shared.step(items[shared][t % 16]), 256, 256),
        ("select", OWN): lambda: rounds_per_second(lambda t: own.step(items[own][t % 16]), 64, 256),
        ("select", FEW): lambda: rounds_per_second(lambda t: few.step(items[few][t % 16]), 20, 512),
        ("select", "single"): lambda: rounds_per_second(lambda t: single.step(t % 192), 1, 900),
        ("synthesize", SHARED): lambda: rounds_per_second(lambda t: contents.step(many), 256, 24),
        ("synthesize", "single"): lambda: rounds_per_second(lambda t: content.step(some[t % 16]), 1, 128),
        ("write", "single"): lambda: rounds_per_second(lambda t: writing.step(texts.pop()), 1, 60),
        ("write", "single, of new lines"): lambda: rounds_per_second(lambda t: writing.step(fresh.pop()), 1, NEW),
    }
    figures = {case: [] for case in steps}
    for _ in range(REPEATS):
        for env in (single, content, writing):
            env.reset()
        for case, timed in steps.items():
            figures[case].append(timed())
    print("| mode | form | rounds/s, median | lowest to highest | times the single form |")
    print("|---|---|---|---|---|")
    for (mode, form), found in figures.items():
        ratio = np.array(found) / np.array(figures[mode, "single"])
        print(
            f"| {mode} | {form} | {np.median(found):,.0f} | {min(found):,.0f} to {max(found):,.0f} |"
            f" {np.median(ratio):.3g} ({ratio.min():.3g} to {ratio.max():.3g}) |"
        )
    encoders()


def encoders():
    """Sentences per second of the package's encoder beside sentence-transformers with the same model."""
    from sentence_transformers import SentenceTransformer

    units = list(dict.fromkeys(unit for skill in load_corpus().skills for unit in units_of(skill).all))
    sentences = [units[i] for i in np.random.default_rng(0).choice(len(units), SENTENCES, replace=False)]
    ours, theirs = load_encoder("minilm", cached=False), SentenceTransformer(str(minilm_folder()), device="cpu")
    ways = {
        "sentence-transformers": lambda: theirs.encode(sentences, normalize_embeddings=True, show_progress_bar=False),
        "load_encoder('minilm'), in batches": lambda: ours.encode(sentences),
        "one at a time, as what is cached is": lambda: [ours.encode([sentence]) for sentence in sentences],
    }
    figures = {name: [] for name in ways}
    for name in list(ways) * REPEATS:
        figures[name].append(rounds_per_second(lambda t, way=ways[name]: way(), SENTENCES, 1))
    print("\n| encoder | sentences/s, median | times sentence-transformers |\n|---|---|---|")
    for name, found in figures.items():
        ratio = np.array(found) / np.array(figures["sentence-transformers"])
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f} to {ratio.max():.2f})"
        print(f"| {name} | {np.median(found):,.0f} | {spread} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HARE_CACHE"] = folder  # a second run has to encode new sentences too
        main()
