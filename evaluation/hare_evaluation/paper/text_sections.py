"""The sections on experiments A to D, ablations and scaling."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hare_evaluation import statistics
from hare_evaluation.drawings import forest_frame
from hare_evaluation.figure_entries import ForestFigure
from hare_evaluation.judging import NotRunError
from hare_evaluation.paper import drawings as own
from hare_evaluation.paper.document import Cell, Picture, Section, Table
from hare_evaluation.paper.material import Material, interval, not_run, suite_figure, suite_picture
from hare_evaluation.statistics import Interval

if TYPE_CHECKING:
    import pandas as pd


def experiment_sections(material: Material) -> list[Section]:
    """A, B, C, D, ablations, pools, decoders; one that was not made says so."""
    return [
        _conditioned(material),
        _profiles(material),
        _five_users(material),
        _ten_rounds(material),
        _ablations(material),
        _pools(material),
        _decoders(material),
    ]


def _conditioned(material: Material) -> Section:
    title = "Experiment A: is what is written conditioned on the content vector?"
    kept = material.kept.get("conditioned")
    if kept is None:
        return Section("experiment-a", title, [not_run(material, "conditioned")])
    import pandas as pd

    source = material.sources.file("Experiment A: nats of every text", kept.path)
    frame = pd.DataFrame(kept.found["rows"])
    rows: list[list[Cell | str]] = []
    for (decoder, group), part in frame.groupby(["decoder", "group"], sort=False):
        bits = {
            other: statistics.mean_interval([((part[other] - part["right"]) / math.log(2)).to_numpy()])
            for other in ("shuffled", "none")
        }
        cells = [f"{math.exp(part[name].sum() / part['tokens'].sum()):.1f}" for name in ("right", "shuffled", "none")]
        cells += [f"{part['right'].sum() / math.log(2) / part['bytes'].sum():.3f}"]
        cells += [interval(bits["shuffled"]), interval(bits["none"])]
        rows.append([str(decoder), str(group), str(len(part)), *(Cell(cell, source) for cell in cells)])
    heads = [
        "decoder", "skills", "texts", "perplexity, right z", "shuffled z", "no z", "bits a byte, right z",
        "bits a text saved against shuffled z", "against no z",
    ]  # fmt: skip
    text = (
        "Short skills of the built-in corpus, drawn anew, as a language model predicts them when it is told their "
        "own content vector z, that of another text, and none. Perplexity hardly moves on texts from one template "
        "however well z is used, so the bits that z saves stand beside it (mean over texts, 95% intervals). “Held "
        "out” skills were never shown to the model in any form. Perplexities of models with different tokens cannot "
        "be compared."
    )
    long = frame.melt(["decoder", "group", "skill", "tokens"], ["right", "shuffled", "none"], "z", "nats")
    long["nats a token"] = long["nats"] / long["tokens"]
    rows_of: list[dict[str, Any]] = []
    for (decoder, group, z), part in long.groupby(["decoder", "group", "z"], sort=False):
        found = statistics.mean_interval([part["nats a token"].to_numpy()])
        names = {
            "metric": f"{decoder} {group}",
            "name": f"{decoder}, {group}: nats a token",
            "agent": "no z" if z == "none" else f"{z} z",
        }
        rows_of.append(names | {"mean": found.value, "low": found.low, "high": found.high, "seeds": len(part)})
    shown = pd.DataFrame(rows_of)
    picture = _metric_picture(
        "experiment-a",
        "Loss with the right z, a shuffled one, and none",
        "Mean over texts of nats a token, with 95% intervals.",
        shown,
        source,
    )
    return Section(
        "experiment-a", title, [text], [Table("experiment-a", "Conditioned generation", heads, rows)], [picture]
    )


def _profiles(material: Material) -> Section:
    title = "Experiment B: five professions ask the same"
    kept = material.kept.get("profiles")
    if kept is None:
        return Section("experiment-b", title, [not_run(material, "profiles")])
    import pandas as pd

    source = material.sources.file("Experiment B: divergences and the map", kept.path)
    frame, points = pd.DataFrame(kept.found["rows"]), pd.DataFrame(kept.found["map"])
    rows: list[list[Cell | str]] = []
    for agent, part in frame.groupby("agent", sort=False):
        found = _means(part, ("divergence", "again", "fits"))
        rows.append([str(agent), *(Cell(interval(each), source) for each in found), Cell(str(len(part)), source)])
    heads = [
        "agent",
        "divergence between the five",
        "of one who asks again",
        "texts about the profile's domain",
        "sessions",
    ]
    names = "; ".join(
        f"{name}: {', '.join(f'{domain} {share:g}' for domain, share in of.items())}"
        for name, of in material.plan.profiles.items()
    )
    text = (
        "At the end of each session the five users whose hidden mixes of domains are most like five professions "
        f"({names}) ask the same six questions, which would suit any domain. Divergence is the mean cosine distance "
        "between the embeddings of two users' texts for one question; what one user's texts differ by when asked "
        "again is the yardstick. No agent is told a profession. Means over sessions with 95% intervals."
    )
    shares = tuple(kept.found["shares"])
    picture = Picture(
        "experiment-b",
        "A map of what five professions are given",
        "Texts of the first session, one a profession and question, on the first two principal components of their "
        "embeddings; retrieval writes one text a question for everybody, so its marks lie on one another.",
        points,
        lambda: own.profile_map(points, (shares[0], shares[1])),
        source,
    )
    return Section("experiment-b", title, [text], [Table("experiment-b", "Divergence", heads, rows)], [picture])


def _five_users(material: Material) -> Section:
    title = "Experiment C: five users, one question"
    kept = material.kept.get("five-users")
    if kept is None:
        return Section("experiment-c", title, [not_run(material, "five-users")])
    import pandas as pd

    found, source = kept.found, material.sources.file("Experiment C: the demonstration", kept.path)
    rows: list[list[Cell | str]] = [
        [
            str(r["user"]),
            r["hidden"],
            str(r["visits"]),
            r["title"],
            Cell(f"{r['hare']:.2f}", source),
            Cell(f"{r['rag']:.2f}", source),
        ]
        for r in found["rows"]
    ]
    heads = ["user", "hidden from both", "rounds before", "HARE's skill", "HARE's reward", "RAG's reward"]
    text = (
        f"“{found['query']}” Both agents have served the same users; neither was told what stands in the second "
        f"column. RAG's answer to everybody is “{found['rag_title']}”. The mean cosine distance between two users' "
        f"texts is {found['between']:.2f} with HARE and {found['rag_between']:.2f} with RAG; between HARE's two "
        f"texts for one user who asks again it is {found['again']:.2f}. One world of the seed set “demo”: an "
        "illustration, which no verdict rests on."
    )
    frame = pd.DataFrame(found["rows"]).drop(columns=["text"])
    caption = "Left, the texts on two principal components of their embeddings; right, what each text earns."
    files = {kind: base64.b64decode(content) for kind, content in found["files"].items()}
    picture = Picture("experiment-c", "Five users ask for the same", caption, frame, None, source, files)
    texts = [(f"HARE for user {r['user']}: {r['title']}", r["text"]) for r in found["rows"]]
    texts.append((f"RAG for everybody: {found['rag_title']}", found["rag_text"]))
    return Section(
        "experiment-c", title, [text], [Table("experiment-c", "Five users", heads, rows)], [picture], texts=texts
    )


def _ten_rounds(material: Material) -> Section:
    title = "Experiment D: ten rounds of a user"
    kept = material.kept.get("ten-rounds")
    if kept is None:
        return Section("experiment-d", title, [not_run(material, "ten-rounds")])
    import pandas as pd

    from hare_evaluation import figures

    source = material.sources.file("Experiment D: scores by visit", kept.path)
    frame = pd.DataFrame(kept.found["rows"])
    points: list[dict[str, Any]] = []
    rows: list[list[Cell | str]] = []
    for agent, part in frame.groupby("agent", sort=False):
        table = {name: part.pivot(index="seed", columns="visit", values=name) for name in ("score", "reward")}
        scores = _means(table["score"], [*table["score"].columns])
        for visit, found in zip(table["score"].columns, scores, strict=True):
            names = {"agent": agent, "first": visit, "last": visit, "mean": found.value}
            points.append(names | {"low": found.low, "high": found.high, "seeds": len(table["score"])})
        gains = [statistics.mean_interval([_slopes(table[name])]) for name in ("score", "reward")]
        ends = (scores[0], scores[-1])
        rows.append(
            [
                str(agent),
                *(Cell(interval(each), source) for each in (*ends, *gains)),
                Cell(str(len(table["score"])), source),
            ]
        )
    curve = pd.DataFrame(points)
    heads = [
        "agent",
        "BERTScore at the first visit",
        "at the tenth",
        "its slope on ln(visit)",
        "reward's slope on ln(visit)",
        "seeds",
    ]
    text = (
        "BERTScore by sentences (F1) of every text with the existing item that would earn this user most for this "
        "query, by how often the user has come, up to ten times; 95% intervals over seeds. It measures likeness to "
        "one good text and not quality: a text that earns more than every item cannot reach 1. This is not the "
        "published BERTScore, which matches tokens; its rise and its order can be read, its height not."
    )
    picture = Picture(
        "experiment-d", "Likeness to the best item over ten rounds", "Mean over users and seeds with 95% intervals.",
        curve, lambda: figures.learning_curves(curve, "BERTScore by sentences"), source,
    )  # fmt: skip
    return Section(
        "experiment-d", title, [text], [Table("experiment-d", "Learning curve of BERTScore", heads, rows)], [picture]
    )


def _means(frame: pd.DataFrame, columns: Sequence[Any]) -> list[Interval]:
    """The mean of each column with its interval."""
    return [statistics.mean_interval([frame[column].to_numpy()]) for column in columns]


def _slopes(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By seed, the least-squares slope of a row on ln(visit)."""
    x = np.log(np.asarray(table.columns, dtype=np.float64))
    x = x - x.mean()
    return np.asarray(table.to_numpy() @ x / (x @ x))


def _ablations(material: Material) -> Section:
    title = "Ablations: HARE with one thing taken away or changed"
    suite = "paper-ablations"
    entry = suite_figure(material, suite, "ablations")
    if entry is None or not isinstance(entry, ForestFigure):
        return Section("ablations", title, ["Not run."])
    try:
        frame = forest_frame(entry, material.views[suite])
    except NotRunError as error:
        return Section("ablations", title, [f"Not run: {error}."])
    rows: list[list[Cell | str]] = []
    for variant in entry.variants:
        cells: list[Cell | str] = [variant]
        for environment in entry.environments:
            part = frame[(frame["environment"] == environment) & (frame["agent"] == variant)]
            source = material.sources.records(suite, [(environment, entry.agent), (environment, variant)])
            cells += [
                Cell(interval(Interval(r["ratio"], r["ratio_low"], r["ratio_high"])), source)
                for _, r in part.iterrows()
            ] or ["—"]
        rows.append(cells)
    text = (
        "Final regret of each variant over HARE's own on the same seeds: ratio of means with 95% intervals. Above "
        "1, what the variant lacks or changes served. No interval is corrected for there being many, so one that "
        "just excludes 1 is a hint and no finding; the long form stands in docs/ablations.md."
    )
    drawn = suite_picture(material, suite, "ablations")
    pictures = [] if isinstance(drawn, str) else [drawn]
    heads = ["variant", *entry.environments]
    return Section("ablations", title, [text], [Table("ablations", "Regret ÷ HARE's", heads, rows)], pictures)


def _pools(material: Material) -> Section:
    title, suite = "Pools: scaling over their size", "paper-pools"
    drawn = suite_picture(material, suite, "pools")
    if isinstance(drawn, str):
        return Section("pools", title, [f"Not run: {drawn}."])
    rows: list[list[Cell | str]] = []
    for _, r in drawn.frame.sort_values(["knob", "agent"], kind="stable").iterrows():
        source = material.sources.records(suite, [(r["environment"], r["agent"]), (r["environment"], "Random")])
        rows.append(
            [
                r["environment"],
                r["agent"],
                Cell(interval(Interval(r["ratio"], r["ratio_low"], r["ratio_high"])), source),
                Cell(str(r["seeds"]), source),
            ]
        )
    text = "Regret over that of random play on the same seeds, as long with more and more items to choose from."
    heads = ["pool", "agent", "regret ÷ random play's", "seeds"]
    return Section("pools", title, [text], [Table("pools", "Regret as the pool grows", heads, rows)], [drawn])


def _decoders(material: Material) -> Section:
    title = "Decoders: scaling over their size"
    kept = material.kept.get("decoders")
    if kept is None:
        return Section("decoders", title, [not_run(material, "decoders")])
    import pandas as pd

    source = material.sources.file("Scaling over decoders: every text", kept.path)
    frame = pd.DataFrame(kept.found["rows"])
    metrics = {
        "domain": "right main domain",
        "cosine": "cosine to what was asked",
        "valid": "valid",
        "near": "nearest ROUGE-L in the pool",
    }
    rows: list[list[Cell | str]] = []
    points: list[dict[str, Any]] = []
    for decoder, part in frame.groupby("decoder", sort=False):
        found = _means(part, [*metrics])
        size = int(part["parameters"].iloc[0])
        cells = [Cell(interval(each), source) for each in found]
        rows.append([str(decoder), f"{size:,}" if size else "none", *cells, Cell(str(len(part)), source)])
        for (name, label), each in zip(metrics.items(), found, strict=True):
            point = {"metric": name, "name": label, "agent": str(decoder), "mean": each.value}
            points.append(point | {"low": each.low, "high": each.high, "seeds": len(part)})
    text = (
        "Each decoder is asked for the contents of the same skills of the corpus and its texts are measured as the "
        "environment would. The composer puts lines of existing skills together and has no parameters; “tiny” is "
        "the language model in the package; SmolLM2 joins where `hare models train` has made it, and others by "
        "--decoder. Means over contents with 95% intervals. The measure reads words, so a decoder that repeats the "
        "right words scores without making sense."
    )
    shown = pd.DataFrame(points)
    picture = _metric_picture(
        "decoders",
        "What decoders make of the same contents",
        "Means over contents, with 95% intervals.",
        shown,
        source,
    )
    heads = ["decoder", "parameters", *metrics.values(), "texts"]
    return Section("decoders", title, [text], [Table("decoders", "Decoders", heads, rows)], [picture])


def _metric_picture(id: str, title: str, caption: str, frame: pd.DataFrame, source: str) -> Picture:
    from hare_evaluation import figures

    return Picture(id, title, caption, frame, lambda: figures.metric_panels(frame), source)
