"""The experiments that need texts, which no record holds: A to D, and the scaling over decoders.

Each gives plain JSON values, a table as a list of rows, and is kept as a file beside the report, named by a hash of
what it depends on: its settings, the keys of the records that it plays again, and the code that measures. A stopped
paper so goes on where it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hare_evaluation.results import Array, Record
from hare_evaluation.statistics import principal_components
from hare_evaluation.store import canonical_json
from hare_gym.errors import ConfigError

Row = dict[str, Any]
Found = dict[str, Any]

QUERY = "I need help writing tests"
TINY_CANDIDATES = 4


@dataclass(frozen=True)
class Kept:
    """An experiment's result and the file that it lies in."""

    found: Found
    path: Path


def kept(folder: Path, name: str, settings: Mapping[str, Any], make: Callable[[], Found]) -> Kept:
    """What ``make`` gives, from the file where it is there already.

    Args:
        folder: Of the files.
        name: The experiment's.
        settings: Everything that the result depends on, but for the code.
        make: Runs the experiment.
    """
    digest = hashlib.sha256(canonical_json([name, dict(settings), _code()]).encode()).hexdigest()
    path = folder / f"{name}-{digest[:16]}.json"
    try:
        return Kept(json.loads(path.read_text(encoding="utf-8")), path)
    except (OSError, ValueError):
        pass
    found = make()
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
    partial.replace(path)
    return Kept(json.loads(path.read_text(encoding="utf-8")), path)


def _code() -> str:
    import hare_evaluation.killer
    import hare_evaluation.metrics.probe

    digest = hashlib.sha256()
    for file in (__file__, hare_evaluation.killer.__file__, hare_evaluation.metrics.probe.__file__):
        digest.update(Path(str(file)).read_bytes())
    return digest.hexdigest()


# -- A: conditioned generation -------------------------------------------------------------------------------------


def conditioned(decoders: Sequence[str]) -> Found:
    """Nats of every short skill with its own content vector, another's, and none, by each language model.

    The skills are those of the built-in corpus, drawn anew, so that no whole text was trained on; ``held-out`` ones
    were never shown to ``tiny`` in any form. Every text keeps some other text's vector in the shuffle.

    Args:
        decoders: Names of trained language models.
    """
    from hare_agents.decoders.tiny import contents, held_out, short_skill
    from hare_agents.decoders.trained import load_decoder
    from hare_evaluation.runner import one_thread
    from hare_gym.text.corpus import load_corpus

    skills, Z = load_corpus().skills, contents()
    unseen = held_out(len(skills))
    rows: list[Row] = []
    for name in decoders:
        decoder = load_decoder(name)
        for group, chosen in (("taught", ~unseen), ("held out", unseen)):
            which = np.flatnonzero(chosen)
            texts = [short_skill(skills[i], np.random.default_rng(1)) for i in which]
            with one_thread():
                right, wrong, none = (
                    decoder.perplexity(texts, z)
                    for z in (Z[which], np.roll(Z[which], len(which) // 2 - 1, axis=0), None)
                )
            rows += [
                {
                    "decoder": name,
                    "group": group,
                    "skill": int(i),
                    "tokens": float(right.tokens[k]),
                    "bytes": float(right.bytes[k]),
                    "right": float(right.nats[k]),
                    "shuffled": float(wrong.nats[k]),
                    "none": float(none.nats[k]),
                }
                for k, i in enumerate(which)
            ]
    return {"rows": rows}


# -- B: divergence between five profiles -----------------------------------------------------------------------------


def profiles(
    records: Mapping[str, Sequence[Record]], wanted: Mapping[str, Mapping[str, float]], mapped: int = 0
) -> Found:
    """How far apart the texts for users of five professions are, and whether they are about those.

    The sessions are played again (`hare_evaluation.metrics.probe`); of each, the users are taken whose mixes of
    domains are most like the profiles, one each.

    Args:
        records: By agent, sessions on the same seeds.
        wanted: By profile, shares of domains.
        mapped: Which of the sessions the map shows.

    Returns:
        ``rows`` one a session and agent (seed, agent, divergence between the users, divergence of one asked again,
        share of texts whose main domain is one of the profile's); ``map`` one a text of the session that is mapped
        (agent, profile, query, x, y), and ``shares`` of the variance that its two axes hold.
    """
    from hare_evaluation.metrics import diversity
    from hare_evaluation.metrics.probe import measurer_of, probe, unit_embeddings
    from hare_gym.text.corpus import DOMAINS
    from hare_gym.text.encoders import load_encoder
    from hare_gym.text.measure import measures

    shares = np.array([[of.get(domain, 0.0) for domain in DOMAINS] for of in wanted.values()])
    unknown = {domain for of in wanted.values() for domain in of} - set(DOMAINS)
    if unknown:
        raise ConfigError(f"Profiles are made of the domains {', '.join(DOMAINS)}, not {', '.join(sorted(unknown))}.")
    encoder = load_encoder("minilm")
    rows: list[Row] = []
    shown: list[tuple[str, str, str, Array]] = []
    for agent, sessions in records.items():
        for place, record in enumerate(sessions):
            probed = probe(record)
            users = _most_like(probed.env.users.domains, shares)
            texts, again = ([[row[u] for u in users] for row in some] for some in (probed.texts, probed.again))
            flat = [text for row in (*texts, *again) for text in row]
            units = unit_embeddings(flat, encoder)
            E, E2 = (np.array([[units[t].mean(axis=0) for t in row] for row in some]) for some in (texts, again))
            measurer = measurer_of(record["spec"])
            domains = np.array([[int(measures(measurer.text(t).phi).domain.argmax()) for t in row] for row in texts])
            fits = shares[np.arange(len(users))[None], domains] > 0
            rows.append(
                {
                    "seed": int(record["spec"]["seed"]),
                    "agent": agent,
                    "divergence": diversity.divergence(E),
                    "again": diversity.resampled_divergence(E, E2),
                    "fits": float(fits.mean()),
                }
            )
            if place == mapped:
                shown += [
                    (agent, profile, probed.queries[q], E[q, k])
                    for q in range(len(texts))
                    for k, profile in enumerate(wanted)
                ]
    V = np.array([vector for *_, vector in shown])
    xy, variance = principal_components(V)
    names = ({"agent": agent, "profile": profile, "query": query} for agent, profile, query, _ in shown)
    points = [row | {"x": float(x), "y": float(y)} for row, (x, y) in zip(names, xy, strict=True)]
    return {"rows": rows, "map": points, "shares": [*variance]}


def _most_like(domains: Array, shares: Array) -> list[int]:
    """For each profile a user of its own, so that the sum of overlaps is largest."""
    from scipy.optimize import linear_sum_assignment

    overlap = np.minimum(domains[None], shares[:, None]).sum(axis=-1)
    _, users = linear_sum_assignment(-overlap)
    return [int(user) for user in users]


# -- C: five users ---------------------------------------------------------------------------------------------------


def five_users(rounds: int) -> Found:
    """`hare demo killer` in its default world; ``files`` are its figure's, in base 64 by kind."""
    from hare_evaluation import figures, killer
    from hare_gym.text.skills import SkillError, parse

    shown = killer.demonstration(QUERY, rounds=rounds)
    made = killer.mapped(shown)
    with TemporaryDirectory() as folder:
        paths = figures.save(killer.drawn(shown, made), Path(folder) / "drawn", ("svg", "pdf"))
        files = {path.suffix[1:]: base64.b64encode(path.read_bytes()).decode() for path in paths}

    def title(text: str) -> str:
        try:
            return parse(text, lenient=True).title
        except SkillError:
            return text[:60]

    rows = [
        {
            "user": k + 1,
            "hidden": "; ".join(killer.about(shown.users, k)),
            "visits": shown.visits[k],
            "title": title(own.text),
            "hare": own.reward,
            "rag": same.reward,
            "text": own.text,
        }
        for k, (own, same) in enumerate(zip(shown.hare, shown.rag, strict=True))
    ]
    return {
        "rows": rows,
        "files": files,
        "query": shown.query,
        "rag_title": title(shown.rag[0].text),
        "rag_text": shown.rag[0].text,
        "between": made.between,
        "again": made.again,
        "rag_between": made.rag_between,
    }


# -- D: ten rounds ---------------------------------------------------------------------------------------------------


def ten_rounds(records: Mapping[str, Sequence[Record]]) -> Found:
    """By agent, seed and visit: how like the best existing item for this user and query the text is, and its reward.

    BERTScore by sentences (F1, see `hare_evaluation.metrics.overlap.sentence_bert_score`), mean over the users who
    came so often. Sessions are played again and must choose the same actions.

    Raises:
        DataError: A session went another way, because the code has changed since.
    """
    from hare_evaluation.metrics.overlap import sentence_bert_score
    from hare_evaluation.metrics.probe import best_items, unit_embeddings
    from hare_gym.text.encoders import load_encoder

    encoder = load_encoder("minilm")
    rows: list[Row] = []
    for agent, sessions in records.items():
        for record in sessions:
            watch = _replayed(record)
            env = watch.unwrapped
            distinct = list(dict.fromkeys(watch.queries))
            best = best_items(env.corpus, "minilm", env.users, distinct, env.task.pool_texts)
            place = {query: q for q, query in enumerate(distinct)}
            wanted = [best[place[query]][user] for query, user in zip(watch.queries, watch.users, strict=True)]
            units = unit_embeddings([*watch.texts, *wanted], encoder)
            scores = [sentence_bert_score(units[t], units[w]).f1 for t, w in zip(watch.texts, wanted, strict=True)]
            visits = _visits(watch.users)
            for visit in range(1, 11):
                at = np.flatnonzero(visits == visit)
                if at.size:
                    rows.append(
                        {
                            "agent": agent,
                            "seed": int(record["spec"]["seed"]),
                            "visit": visit,
                            "score": float(np.mean([scores[i] for i in at])),
                            "reward": float(np.mean([watch.rewards[i] for i in at])),
                            "users": int(at.size),
                        }
                    )
    return {"rows": rows}


def _visits(users: Sequence[int]) -> Array:
    """Which visit of its user each round is, from 1."""
    seen: dict[int, int] = {}
    found = []
    for user in users:
        seen[user] = seen.get(user, 0) + 1
        found.append(seen[user])
    return np.array(found)


def _replayed(record: Record) -> Any:
    """A session played again, with every query and text of it."""
    from hare_evaluation.metrics.probe import Watch
    from hare_evaluation.replaying import replayed

    class Reader(Watch):
        """A `Watch` that keeps queries and texts too."""

        def reset(self, **options: Any) -> Any:
            observation, info = super().reset(**options)
            self.queries: list[str] = []
            self.texts: list[str] = []
            self.asked = str(observation["query_text"])
            return observation, info

        def step(self, action: Any) -> Any:
            self.queries.append(self.asked)
            self.texts.append(str(action))
            found = super().step(action)
            self.asked = str(found[0]["query_text"])
            return found

    return replayed(record, Reader, "Texts can be read", "Run the paper again with it.")


# -- scaling over decoders -------------------------------------------------------------------------------------------


def decoder_names(more: Sequence[str] = ()) -> list[str]:
    """The decoders that are compared: the composer, tiny, SmolLM2 where it has been trained here, and those named."""
    from hare_agents.decoders.models import CONFIG_FILE, decoder_folder

    there = ["smollm2"] if (decoder_folder("smollm2") / CONFIG_FILE).is_file() else []
    return list(dict.fromkeys(["composer", "tiny", *there, *more]))


def decoders(names: Sequence[str], count: int) -> Found:
    """What decoders of different sizes make of the same contents.

    Each is asked for the contents of ``count`` skills of the corpus, spread evenly, with the attention that a
    softmax of cosines gives; ``tiny`` also as the best of `TINY_CANDIDATES` draws.

    Returns:
        ``rows``, one a decoder and content: parameters, whether the measured main domain is the skill's, the cosine
        between what was asked for and what the text measures, validity, the nearest ROUGE-L in the pool, and bytes.
    """
    from hare_agents.decoders import make_decoder
    from hare_agents.decoders.tiny import contents
    from hare_evaluation.environments import make
    from hare_evaluation.metrics.overlap import nearest
    from hare_evaluation.runner import one_thread
    from hare_gym.text.corpus import DOMAINS, load_corpus
    from hare_gym.text.measure import Measurer, measures
    from hare_gym.text.skills import validate

    skills, Z, measurer = load_corpus().skills, contents(), Measurer()
    chosen = np.unique(np.arange(count) * len(skills) // count)
    env = make("HareSkills-v0", {"action_mode": "write"})
    env.reset(seed=0)
    task = env.unwrapped.task
    pool = task.pool / np.maximum(np.linalg.norm(task.pool, axis=1, keepdims=True), 1e-12)
    variants: list[tuple[str, str, dict[str, Any]]] = [(name, name, {}) for name in names]
    if "tiny" in names:
        variants.append((f"tiny, best of {TINY_CANDIDATES}", "tiny", {"candidates": TINY_CANDIDATES}))
    rows: list[Row] = []
    for label, name, knobs in variants:
        decoder: Any = make_decoder(name, **knobs)
        decoder.prepare(task)
        model = getattr(decoder, "model", None)
        size = sum(p.numel() for p in model.parameters()) if model is not None else 0
        rng = np.random.default_rng(0)
        for i in chosen:
            z = Z[i]
            logits = pool @ z / (max(float(np.linalg.norm(z)), 1e-12) * 0.05)
            weights = np.exp(logits - logits.max())
            with one_thread():
                text = decoder.decode(z, np.full_like(z, np.nan), "", task.pool_texts, weights / weights.sum(), rng)
            phi = measurer.text(text).phi
            cosine = float(phi @ z / max(float(np.linalg.norm(phi) * np.linalg.norm(z)), 1e-12))
            rows.append(
                {
                    "decoder": label,
                    "parameters": int(size),
                    "skill": int(i),
                    "domain": float(DOMAINS[int(measures(phi).domain.argmax())] == skills[i].metadata["domain"]),
                    "cosine": cosine,
                    "valid": float(not any(each.severity == "error" for each in validate(text))),
                    "near": float(nearest([text], task.pool_texts)[0]),
                    "bytes": len(text.encode()),
                }
            )
    env.close()
    return {"rows": rows}
