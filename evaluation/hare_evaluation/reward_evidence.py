"""Evidence that the reward of `HareSkills-v0` measures what it says: ``python -m hare_evaluation.reward_evidence``.

Prints every table of docs/reward_model.md. ``--skills PATH`` adds the ranking of real skills (the JSONL of a
collection), ``--learned RUNS`` the second, learned reward model.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.stats import rankdata

from hare_evaluation.reward_attacks import attack_table
from hare_evaluation.statistics import mean_interval
from hare_gym.errors import DataError
from hare_gym.text.calibrate import embedded_anchors, embedding, queries, semantic_map, surface_map
from hare_gym.text.corpus import DOMAINS, LEVELS, SPECIFICITIES, STYLES, TOPICS, Corpus, load_corpus
from hare_gym.text.encoders import Encoder, load_encoder
from hare_gym.text.measure import Measurer, Measures, measures
from hare_gym.text.reward import RewardModel
from hare_gym.text.skills import make_skill
from hare_gym.text.sources import Item
from hare_gym.text.space import CONTENT_DIM, DOMAIN_PART, RADIUS, standardised
from hare_gym.text.units import units_of
from hare_gym.text.users import Users
from hare_gym.text.writer import Writer

Array = NDArray[np.float64]

_MEASURES = ("domain", "topic", "level", "specificity", "style")


# (a) each measure moves with its attribute and not with the others


def held_out_measures(corpus: Corpus, encoder: Encoder | None = None) -> tuple[Measures, Measures]:
    """The measures of the built-in skills by models that were not fitted to them.

    Domain is predicted with the skill's topic left out of the fit, the others with its domain left out.

    Args:
        corpus: The built-in corpus.
        encoder: Embeds the units; MiniLM by default, from its cache after the first time.

    Returns:
        The predicted measures and the true ones, of 192 skills.
    """
    encoder = encoder or load_encoder("minilm")
    skills = corpus.skills
    units = [units_of(skill) for skill in skills]
    distinct = sorted({unit for u in units for unit in u.all})
    embedded = dict(zip(distinct, np.asarray(encoder.encode(distinct), dtype=np.float64), strict=True))
    anchored = embedded_anchors(encoder)
    label = {kind: np.array([skill.metadata[kind] for skill in skills]) for kind in ("domain", "topic")}
    surface = np.array([u.surface for u in units])
    x = np.zeros((len(skills), CONTENT_DIM))
    for kind, part in (("topic", DOMAIN_PART), ("domain", slice(DOMAIN_PART.stop, CONTENT_DIM))):
        for group in np.unique(label[kind]):
            kept, out = np.flatnonzero(label[kind] != group), np.flatnonzero(label[kind] == group)
            semantic = semantic_map(
                [units[i] for i in kept], {k: v[kept].tolist() for k, v in label.items()}, embedded, anchored
            )
            scale = np.stack([surface[kept].mean(axis=0), surface[kept].std(axis=0)])
            counted = surface_map(surface[kept], scale, [skills[i] for i in kept])
            means = np.array([embedding(units[i], embedded) for i in out])
            z = standardised(surface[out], scale)
            made = np.concatenate([means @ semantic[:-1] + semantic[-1], z @ counted[:-1] + counted[-1]], axis=1)
            x[out, part] = made[:, part]
    return measures(x / RADIUS), truth(corpus)


def truth(corpus: Corpus) -> Measures:
    """What the metadata of the built-in skills says."""

    def index(facet: str, names: Sequence[str]) -> NDArray[np.int64]:
        return np.array([names.index(skill.metadata[facet]) for skill in corpus.skills])

    return Measures(
        np.eye(len(DOMAINS))[index("domain", DOMAINS)],
        np.eye(len(TOPICS))[index("topic", TOPICS)],
        index("level", LEVELS) / (len(LEVELS) - 1.0),
        index("specificity", SPECIFICITIES) / (len(SPECIFICITIES) - 1.0),
        np.eye(len(STYLES))[index("style", STYLES)],
    )


def accuracy_table(found: Measures, true: Measures) -> pd.DataFrame:
    """How well held-out skills are measured: top-1 accuracy of the mixes, correlation and error of the scales."""
    rows: list[dict[str, Any]] = []
    for name in ("domain", "topic", "style"):
        a, b = getattr(found, name), getattr(true, name)
        right = a.argmax(axis=1) == b.argmax(axis=1)
        rows.append({"measure": name, "accuracy": right.mean(), "chance": 1.0 / a.shape[1]})
    for name in ("level", "specificity"):
        a, b = getattr(found, name), getattr(true, name)
        rows.append({"measure": name, "correlation": np.corrcoef(a, b)[0, 1], "mean error": np.abs(a - b).mean()})
    return pd.DataFrame(rows)


def correlation_table(found: Measures, true: Measures) -> pd.DataFrame:
    """Correlation of each measured attribute (rows) with each true one (columns), over held-out skills.

    A mix enters by its shares: on the diagonal the mean correlation of each share with its own class, elsewhere the
    root mean square of all correlations.
    """
    rows = [[_association(getattr(found, a), getattr(true, b), a == b) for b in _MEASURES] for a in _MEASURES]
    return pd.DataFrame(rows, index=list(_MEASURES), columns=list(_MEASURES))


def _association(x: Array, y: Array, own: bool) -> float:
    shares, classes = (np.atleast_2d(v.T) for v in (x, y))
    every = np.asarray(np.corrcoef(np.vstack([shares, classes])))
    between = every[: len(shares), len(shares) :]
    return float(np.mean(np.diag(between)) if own else np.sqrt(np.mean(between**2)))


def counterfactual_table(measurer: Measurer) -> pd.DataFrame:
    """What rewriting one attribute does to every measure.

    Returns:
        A row a rewrite: ``attribute``, ``to``, ``title``, ``moved`` (the own measure towards what was intended),
        and the absolute change of each other measure (for mixes, half the L1 distance).
    """
    loaded = yaml.safe_load((files("hare_evaluation") / "counterfactuals.yaml").read_text(encoding="utf-8"))
    rows = []
    for entry in loaded:
        base = _measured(measurer, entry["base"]["steps"])
        for rewrite in entry["rewrites"]:
            changed = _measured(measurer, rewrite["steps"])
            attribute, to = rewrite["attribute"], rewrite["to"]
            rows.append(
                {
                    "title": entry["base"]["title"],
                    "attribute": attribute,
                    "to": to,
                    "moved": _towards(base, changed, attribute, to),
                    **{name: _distance(getattr(base, name), getattr(changed, name)) for name in _MEASURES},
                }
            )
    return pd.DataFrame(rows)


def _measured(measurer: Measurer, steps: Sequence[str]) -> Measures:
    # of the instructions alone, for these are what was rewritten
    units = units_of(make_skill("a", "b", title="c", instructions="\n".join(steps)))
    return measures(measurer.content(replace(units, head=(), triggers=(), examples=())))


def _towards(base: Measures, changed: Measures, attribute: str, to: str) -> float:
    scale = {"beginner": -1.0, "expert": 1.0, "general": -1.0, "specific": 1.0}
    if to in scale:
        return float(scale[to] * (getattr(changed, attribute) - getattr(base, attribute)))
    k = (DOMAINS if attribute == "domain" else STYLES).index(to)
    return float(getattr(changed, attribute)[k] - getattr(base, attribute)[k])


def _distance(a: Array, b: Array) -> float:
    return float(0.5 * np.abs(a - b).sum() if np.ndim(a) else np.abs(a - b))


# (b) real skills rank as they should

# Repositories and groups of their own whose domain is certain. Left out: groups that mix domains (agents, serving,
# observability, paper writing), and the skills that _GENERAL names.
_CERTAIN: dict[tuple[str, str], str] = {
    ("K-Dense-AI/claude-scientific-skills", ""): "science",
    ("coreyhaines31/marketingskills", ""): "marketing",
    ("alirezarezvani/claude-skills", "marketing-skill"): "marketing",
    ("wshobson/agents", "security-scanning"): "security",
    ("wshobson/agents", "reverse-engineering"): "security",
    ("Jeffallan/claude-skills", "security"): "security",
    ("wshobson/agents", "ui-design"): "design",
    ("wshobson/agents", "accessibility-compliance"): "design",
    **{
        ("alirezarezvani/claude-skills", group): "business"
        for group in ("c-level-advisor", "business-growth", "finance")
    },
    **{("wshobson/agents", group): "business" for group in ("startup-business-analyst", "hr-legal-compliance")},
    **{("wshobson/agents", group): "data" for group in ("data-engineering", "machine-learning-ops")},
    ("Jeffallan/claude-skills", "data-ml"): "data",
    **{
        ("Orchestra-Research/AI-Research-SKILLs", group): "data"
        for group in (
            "01-model-architecture",
            "02-tokenization",
            "03-fine-tuning",
            "04-mechanistic-interpretability",
            "05-data-processing",
            "06-post-training",
            "10-optimization",
            "11-evaluation",
            "19-emerging-techniques",
        )
    },
    **{("Jeffallan/claude-skills", group): "software" for group in ("language", "backend", "api-architecture")},
    **{
        ("wshobson/agents", group): "software"
        for group in (
            "python-development",
            "backend-development",
            "developer-essentials",
            "javascript-typescript",
            "shell-scripting",
            "systems-programming",
            "framework-migration",
        )
    },
}
# General libraries and office tools that stand among the scientific skills.
_TOOLS = (
    "umap-learn pymoo pufferlib timesfm-forecasting simpy transformers modal market-research-reports markitdown "
    "open-notebook networkx zarr-python pptx-posters aeon pytorch-lightning scikit-learn stable-baselines3 "
    "perplexity-search parallel-web statsmodels markdown-mermaid-writing generate-image what-if-oracle "
    "dhdna-profiler polars dask matplotlib seaborn shap"
)
_GENERAL = frozenset(_TOOLS.split())
_TEACHING = frozenset({"teacher", "tutor", "quiz", "study", "flashcard", "course", "lesson"})


def domain_of(item: Item) -> str:
    """The domain of a collected text where it is certain, of prompts teaching by their title; else empty."""
    if item.kind == "prompt":
        title = str(item.facts.get("title", "")).lower().split()
        return "education" if _TEACHING.intersection(title) else ""
    if item.skill.name in _GENERAL:
        return ""
    return _CERTAIN.get((item.source, str(item.facts.get("source_category") or "")), "")


def real_table(path: str, measurer: Measurer) -> pd.DataFrame:
    """AUC with which the domain part of a user of domain D ranks real skills of D above those of other domains.

    The users have 70% D and 30% of another domain, each in turn, whose own skills are then left out.

    Args:
        path: A collection in JSONL, with ``source_repo`` and ``source_category``.
        measurer: Measures the texts; some 50 units each go to the encoder.

    Returns:
        A row a domain: ``domain``, ``skills``, ``auc`` (of the domain part), ``auc_share`` (of the measured share
        of D), ``own`` and ``others`` (mean measured share of D in its skills and in the others').

    Raises:
        DataError: No text of a certain domain is there.
    """
    items = [item for item in load_corpus(path).items if domain_of(item)]
    if not items:
        raise DataError(f"{path}: no text comes from a repository whose domain is certain.")
    label = np.array([DOMAINS.index(domain_of(item)) for item in items])
    found = measures(np.array([measurer.content(units_of(item.skill)) for item in items]))
    model, rows = RewardModel(), []
    for k in np.unique(label):
        parts = []
        for other in np.delete(np.arange(len(DOMAINS)), k):
            w = np.zeros(len(DOMAINS))
            w[k], w[other] = 0.7, 0.3
            user = Users(w, np.array(0.5), np.array(0.5), np.full(len(STYLES), 0.25))
            kept = label != other
            part = model.fit(user, found)["domain"]
            parts.append(auc(part[kept], label[kept] == k))
        own = label == k
        rows.append(
            {
                "domain": DOMAINS[k],
                "skills": int(own.sum()),
                "auc": np.mean(parts),
                "auc_share": auc(found.domain[:, k], own),
                "own": found.domain[own, k].mean(),
                "others": found.domain[~own, k].mean(),
            }
        )
    return pd.DataFrame(rows)


def auc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive outranks a negative, ties counting half."""
    ranks, n = rankdata(score), int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


# calibration, and what blending is worth


def calibration_table(seed: int = 0, num_users: int = 40, num_queries: int = 4) -> pd.DataFrame:
    """Mean rewards of random items, of the best item, of writers and the bound, over users and queries."""
    rng = np.random.default_rng(seed)
    corpus, model = load_corpus(), RewardModel()
    measurer = Measurer(pool=[skill.text for skill in corpus.skills])
    writer, free = Writer(measurer, model, corpus), Writer(measurer, model, corpus, anywhere=True)
    users = Users.draw(rng, num_users)
    texts = [query.text for query in queries()]
    kinds: dict[str, list[float]] = {
        name: [] for name in ("random item", "one item for all", "best item", "writer", "writer, any lines", "bound")
    }
    chosen = rng.integers(0, len(texts), (num_users, num_queries))
    vectors = np.array([measurer.query(text) for text in texts])
    by_user, by_query = model.user_table(users, writer.items), model.query_table(vectors, writer.items)
    common = int(np.argmax(np.exp(by_user).mean(axis=0) * np.exp(by_query).mean(axis=0)))
    for k in range(num_users):
        for q in chosen[k]:
            mu = np.exp(by_user[k] + by_query[q])
            sense = writer.best(users[k], vectors[q], texts[q])[1]
            kinds["random item"].append(float(mu.mean()))
            kinds["one item for all"].append(float(mu[common]))
            kinds["best item"].append(float(mu.max()))
            kinds["writer"].append(sense)
            kinds["writer, any lines"].append(max(sense, free.best(users[k], vectors[q], texts[q])[1]))
            kinds["bound"].append(float(model.optimum(users[k], vectors[q])[0]))
    rows = [
        {"content": name, "mean": np.mean(v), "5%": np.quantile(v, 0.05), "95%": np.quantile(v, 0.95)}
        for name, v in kinds.items()
    ]
    return pd.DataFrame(rows)


def blend_table(corpus: Corpus, measurer: Measurer) -> pd.DataFrame:
    """The domain part of users of two domains, 70 to 30, from the best item on a topic and from the best blend.

    A blend is the content of an item of the first domain with weight 0.7 and one of the second with 0.3, both on the
    topic; the best of the 16 pairs of levels is taken, as the best item is the best of all 32 on the topic. Every
    ordered pair of domains, every topic.
    """
    model = RewardModel()
    phi = np.stack([item.phi for item in measurer.items(corpus)])
    domain = np.array([skill.metadata["domain"] for skill in corpus.skills])
    topics = np.array([skill.metadata["topic"] for skill in corpus.skills])
    rows = []
    for topic in TOPICS:
        for a, b in itertools.permutations(range(len(DOMAINS)), 2):
            w = np.zeros(len(DOMAINS))
            w[a], w[b] = 0.7, 0.3
            user = Users(w, np.array(0.5), np.array(0.5), np.full(len(STYLES), 0.25))
            first, second = (phi[(topics == topic) & (domain == DOMAINS[k])] for k in (a, b))
            blends = 0.7 * first[:, None] + 0.3 * second
            single = model.fit(user, measures(phi[topics == topic]))["domain"].max()
            rows.append({"single": single, "blend": model.fit(user, measures(blends))["domain"].max()})
    table = pd.DataFrame(rows)
    better = (table["blend"] > table["single"]).mean()
    return pd.DataFrame(
        [
            {
                "best item on the topic": table["single"].mean(),
                "best blend": table["blend"].mean(),
                "blend is better": better,
                "cases": len(table),
            }
        ]
    )


def speed_table(corpus: Corpus) -> pd.DataFrame:
    """Milliseconds of processor time of the steps, on one thread."""
    rows = []

    def timed(what: str, since: float, times: int = 1) -> None:
        rows.append({"step": what, "ms": 1e3 * (time.process_time() - since) / times})

    start = time.process_time()
    measurer = Measurer(pool=[skill.text for skill in corpus.skills])
    timed("measurer with the pool", start)
    start = time.process_time()
    items = measurer.items(corpus)
    timed("all items measured", start)
    model, users = RewardModel(), Users.draw(np.random.default_rng(0), 20)
    start = time.process_time()
    vectors = np.array([measurer.query(query.text) for query in queries()])
    model.user_table(users, items)
    model.query_table(vectors, items)
    timed("tables of 20 users and all queries", start)
    writer = Writer(measurer, model, corpus)
    start = time.process_time()
    texts = [writer.write(users[k % 20], vectors[k], "") for k in range(40)]
    timed("writing a text", start, 40)
    start = time.process_time()
    for text in texts:
        measurer.text(text)
    timed("measuring a written text", start, 40)
    return pd.DataFrame(rows)


def learned_table(runs: int) -> pd.DataFrame:
    """How the second, learned reward model agrees with the first, over training runs.

    Args:
        runs: Seeds 0, 1, ... of the set "tuning"; each run takes minutes.

    Returns:
        A row for each value of `hare_evaluation.reward_learned.agreement`: ``value``, ``mean``, and Student's 95%
        interval over runs, ``low`` and ``high``.
    """
    from hare_evaluation.reward_learned import agreement  # brings torch

    found = pd.DataFrame([agreement(seed) for seed in range(runs)])
    intervals = {name: mean_interval([found[name].to_numpy()]) for name in found}
    return pd.DataFrame(
        [{"value": name, "mean": i.value, "low": i.low, "high": i.high} for name, i in intervals.items()]
    )


Tables = Iterator[tuple[str, pd.DataFrame]]


def _held_out(arguments: argparse.Namespace) -> Tables:
    found, true = held_out_measures(load_corpus())
    yield "Held-out accuracy of the measures", accuracy_table(found, true)
    table = correlation_table(found, true)
    yield "Held-out association, measured (rows) with true (columns)", table.reset_index(names="measured")


def _rewrites(arguments: argparse.Namespace) -> Tables:
    table = counterfactual_table(Measurer())
    yield "Rewrites of one attribute", table
    yield "Rewrites, means", table.groupby("attribute", as_index=False).mean(numeric_only=True)


def _real(arguments: argparse.Namespace) -> Tables:
    if arguments.skills:
        yield "Real skills", real_table(arguments.skills, Measurer())


def _attacks(arguments: argparse.Namespace) -> Tables:
    yield "Attacks", attack_table()


def _calibration(arguments: argparse.Namespace) -> Tables:
    yield "Calibration", calibration_table()
    yield "Blending", blend_table(load_corpus(), Measurer())


def _speed(arguments: argparse.Namespace) -> Tables:
    yield "Speed", speed_table(load_corpus())


def _learned(arguments: argparse.Namespace) -> Tables:
    if arguments.learned:
        yield "A second, learned reward model", learned_table(arguments.learned)


PIECES: Mapping[str, Callable[[argparse.Namespace], Tables]] = {
    "measures": _held_out,
    "rewrites": _rewrites,
    "real": _real,
    "attacks": _attacks,
    "calibration": _calibration,
    "speed": _speed,
    "learned": _learned,
}
"""What makes the tables, by the names of ``--only``."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m hare_evaluation.reward_evidence", description=__doc__)
    parser.add_argument("--skills", metavar="PATH", help="a collection of real skills, JSONL")
    parser.add_argument("--learned", type=int, default=0, metavar="RUNS", help="train the second model this often")
    parser.add_argument("--only", choices=PIECES, action="append", help="only this; may be given several times")
    given = parser.parse_args(arguments)
    for name in given.only or PIECES:
        for title, table in PIECES[name](given):
            print(f"### {title}\n\n{markdown(table)}\n", flush=True)


def markdown(table: pd.DataFrame) -> str:
    """A data frame as a Markdown table with three decimals."""

    def shown(value: Any) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.3f}"
        return str(value)

    lines = ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
