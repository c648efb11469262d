"""The paper as one HTML page that needs nothing else: figures and their data are inside it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from hare_evaluation.paper.document import Cell, Paper, Picture
from hare_evaluation.report import template

_POINT = 4 / 3  # CSS pixels
_NUMBER = re.compile(r"^[−<>≥≤\d]")
_WIDE = 28


@dataclass(frozen=True)
class Image:
    """A figure's drawing and its data as data URIs, and its size in CSS pixels."""

    data: str
    csv: str
    width: int
    height: int


def html(paper: Paper, out: Path) -> str:
    """The page; the files of `hare_evaluation.paper.document.write_files` must lie in ``out``."""
    images = {picture.id: image(picture, out) for section in paper.sections for picture in section.pictures}
    found: str = template("paper.html").render(
        paper=paper,
        hypotheses=[section for section in paper.sections if section.verdict],
        images=images,
        badge=badge,
        shown=shown,
        linked=linked,
    )
    return found


def image(picture: Picture, out: Path) -> Image:
    """A picture's files as the page holds them."""
    svg = (out / "figures" / f"{picture.id}.svg").read_bytes()
    head = svg[:4000].decode("utf-8", "replace")
    width, height = (re.search(rf'<svg[^>]*?\b{name}="([\d.]+)pt"', head, re.DOTALL) for name in ("width", "height"))
    sizes = [round(_POINT * float(found[1])) if found else 0 for found in (width, height)]
    csv = (out / "data" / f"{picture.id}.csv").read_bytes()
    return Image(_uri("image/svg+xml", svg), _uri("text/csv", csv), *sizes)


def badge(verdict: str) -> Markup:
    """A verdict in its colour; the word is always there."""
    kind = verdict.replace(" ", "-")
    return Markup('<span class="badge {}">{}</span>').format(kind, verdict)


def shown(cell: Cell) -> Markup:
    """A table's cell: numbers are kept on one line and lead to their source, long text gets room."""
    verdicts = ("supported", "not supported", "undecided", "not run")
    text: Any = badge(cell.text) if cell.text in verdicts else escape(cell.text)
    kind = (
        "figures" if _NUMBER.match(cell.text) and len(cell.text) < _WIDE else "wide" if len(cell.text) > _WIDE else ""
    )
    inner = Markup('<a href="#{}">{}</a>').format(cell.source, text) if cell.source else text
    return Markup('<td class="{}">{}</td>').format(kind, inner) if kind else Markup("<td>{}</td>").format(inner)


def linked(note: str) -> Markup:
    """A note in which ``[id]`` is a link to a figure."""
    parts = re.split(r"\[([\w-]+)\]", note)
    made = [Markup('<a href="#{0}">{0}</a>').format(part) if i % 2 else escape(part) for i, part in enumerate(parts)]
    return Markup("").join(made)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
