"""What the paper says, apart from how it looks: sections of paragraphs, tables and figures, each number with its
sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hare_evaluation import pages
from hare_evaluation.judging import View
from hare_evaluation.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KINDS = ("svg", "pdf")


@dataclass(frozen=True)
class Cell:
    """A table's cell; ``source`` is the id of what a number was computed from."""

    text: str
    source: str = ""


@dataclass(frozen=True)
class Table:
    """A table; its files are named by ``id``."""

    id: str
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""

    def cells(self) -> list[list[Cell]]:
        """The rows, every cell a `Cell`."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]

    def frame(self) -> pd.DataFrame:
        """As text, for files."""
        import pandas as pd

        return pd.DataFrame([[cell.text for cell in row] for row in self.cells()], columns=[*self.heads])

    def latex(self) -> str:
        """The table in LaTeX (booktabs), marks that it does not have in mathematics."""
        frame = self.frame().rename(columns=_escaped)
        style = frame.style.format(_escaped).hide(axis="index")
        text = style.to_latex(hrules=True, column_format="l" * len(self.heads))
        return "".join(_LATEX.get(letter, letter) for letter in text)


def _escaped(text: object) -> str:
    """Text with LaTeX's own marks escaped."""
    return "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in str(text))


_LATEX = {
    "−": "$-$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "÷": r"$\div$",
    "×": r"$\times$",
    "α": r"$\alpha$",
    "Σ": r"$\Sigma$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "²": "$^2$",
    "“": "``",
    "”": "''",
}


@dataclass(frozen=True)
class Picture:
    """A figure: its data, how to draw it, and what it was computed from; ``files`` by kind where it is drawn
    already.
    """

    id: str
    title: str
    caption: str
    frame: pd.DataFrame
    draw: Callable[[], Figure] | None = None
    source: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """A section; ``verdict`` is that of a hypothesis."""

    id: str
    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    verdict: str = ""
    texts: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Source:
    """What a number rests on: records by key with their files, or a file of an experiment."""

    id: str
    title: str
    records: Sequence[tuple[str, str, str, str]] = ()
    files: Sequence[str] = ()


@dataclass
class Sources:
    """Every source that is cited, once each.

    Attributes:
        out: The report's folder: paths are relative to it.
        store: Where the records lie.
        views: The studies by suite.
    """

    out: Path
    store: Store
    views: dict[str, View]
    found: dict[str, Source] = field(default_factory=dict)

    def records(self, suite: str, pairs: Iterable[tuple[str, str]]) -> str:
        """The id of the finished runs of (environment, agent) pairs of a suite."""
        pairs = list(dict.fromkeys(pairs))
        title = f"{suite}: " + "; ".join(
            f"{environment}: {', '.join(a for e, a in pairs if e == environment)}"
            for environment in dict.fromkeys(e for e, _ in pairs)
        )
        rows = [
            (f"{agent} on {environment}", f"{seed[0]} {seed[1]}", str(record["key"]), self._path(str(record["key"])))
            for environment, agent in pairs
            for seed, record in self.views[suite].results.finished(environment, agent).items()
        ]
        return self._add(title, rows, ())

    def file(self, title: str, path: Path) -> str:
        """The id of an experiment's own file."""
        return self._add(title, (), (os.path.relpath(path, self.out),))

    def _add(self, title: str, rows: Sequence[tuple[str, str, str, str]], files: Sequence[str]) -> str:
        known = next((source.id for source in self.found.values() if source.title == title), "")
        if known:
            return known
        id = f"source-{len(self.found) + 1}"
        self.found[id] = Source(id, title, rows, files)
        return id

    def _path(self, key: str) -> str:
        return os.path.relpath(self.store.path(key), self.out)


@dataclass(frozen=True)
class Paper:
    """The whole document.

    Attributes:
        title: Its headline.
        lead: Sentences under it.
        sections: In order.
        sources: Everything that is cited.
        facts: What it was made with and on, name and value.
    """

    title: str
    lead: Sequence[str]
    sections: Sequence[Section]
    sources: Sequence[Source]
    facts: Sequence[tuple[str, str]]


def write_files(paper: Paper, out: Path) -> None:
    """Writes tables as CSV and LaTeX, figures as SVG and PDF, each figure's data as CSV, and ``report.md``."""
    from hare_evaluation import figures

    for folder in ("tables", "figures", "data"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for section in paper.sections:
        for table in section.tables:
            table.frame().to_csv(out / "tables" / f"{table.id}.csv", index=False)
            (out / "tables" / f"{table.id}.tex").write_text(table.latex(), encoding="utf-8")
        for picture in section.pictures:
            picture.frame.to_csv(out / "data" / f"{picture.id}.csv", index=False)
            for kind, content in picture.files.items():
                (out / "figures" / f"{picture.id}.{kind}").write_bytes(content)
            if picture.draw is not None:
                figures.save(picture.draw(), out / "figures" / picture.id, KINDS)
    (out / "report.md").write_text(markdown(paper), encoding="utf-8")


def markdown(paper: Paper) -> str:
    """The paper as one Markdown page; numbers name their source in brackets."""
    lines = [f"# {paper.title}", "", *_spaced(paper.lead)]
    for section in paper.sections:
        lines += [f"## {section.title}", ""]
        if section.verdict:
            lines += [f"**{section.verdict.capitalize()}.**", ""]
        lines += _spaced(section.paragraphs)
        for table in section.tables:
            lines += [markdown_table(table), "", *([table.note, ""] if table.note else [])]
        for picture in section.pictures:
            lines += [
                f"![{picture.title}](figures/{picture.id}.svg)",
                "",
                f"{picture.title}. {picture.caption} Data: [CSV](data/{picture.id}.csv).",
                "",
            ]
        for head, text in section.texts:
            fence = "````" if "```" in text else "```"
            lines += [f"### {head}", "", f"{fence}text", text.rstrip("\n"), fence, ""]
        lines += _spaced(section.notes)
    lines += ["## Sources", ""]
    for source in paper.sources:
        lines += [f"### {source.id}", "", source.title, ""]
        lines += [f"- {who}, seed {seed}: [`{key}`]({path})" for who, seed, key, path in source.records]
        lines += [f"- [{path}]({path})" for path in source.files]
        lines.append("")
    lines += ["## Made with", "", *(f"- {name}: {value}" for name, value in paper.facts), ""]
    return "\n".join(lines)


def markdown_table(table: Table, linked: bool = True) -> str:
    """A table as Markdown under a bold title."""

    def shown(cell: Cell) -> str:
        return f"[{cell.text}](#{cell.source})" if linked and cell.source and cell.text else cell.text

    rows = [[shown(cell) for cell in row] for row in table.cells()]
    return pages.Table(table.title, table.heads, rows).markdown()


def _spaced(paragraphs: Sequence[str]) -> list[str]:
    return [line for paragraph in paragraphs for line in (paragraph, "")]
