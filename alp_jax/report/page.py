"""Renders one self-contained HTML page of text, tables and pictures; no network, no script.

Synopsis:

  html = render_page("Title", [Section("Scores", parts=[Paragraph("..."), Table(heads, rows)])])

All given text is escaped.
"""

import base64
import dataclasses
import html
import importlib.resources
import re
from collections.abc import Sequence
from string import Template

from alp_jax.evaluation.figures import Picture


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Text; `code` keeps its line breaks."""

    text: str
    code: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first column holds names, the others numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with a caption; screen readers read the `description`."""

    picture: Picture
    caption: str
    description: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and its content."""

    heading: str
    parts: Sequence[Paragraph | Table | Figure]


def render_page(title: str, sections: Sequence[Section]) -> str:
    """Renders the page as HTML."""
    anchors = [_anchor(section.heading, index) for index, section in enumerate(sections)]
    contents = "\n".join(
        f'<li><a href="#{anchor}">{html.escape(section.heading)}</a></li>'
        for section, anchor in zip(sections, anchors, strict=True)
    )
    body = "\n".join(
        _render_section(section, anchor) for section, anchor in zip(sections, anchors, strict=True)
    )
    template = (importlib.resources.files("alp_jax.report") / "page.html").read_text("utf-8")
    return Template(template).substitute(title=html.escape(title), contents=contents, body=body)


def _anchor(heading: str, index: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or f"section-{index}"


def _render_section(section: Section, anchor: str) -> str:
    parts = "\n".join(_render_part(part) for part in section.parts)
    return f'<section id="{anchor}">\n<h2>{html.escape(section.heading)}</h2>\n{parts}\n</section>'


def _render_part(part: Paragraph | Table | Figure) -> str:
    match part:
        case Paragraph(text, code=True):
            return f"<pre>{html.escape(text)}</pre>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Table(heads, rows):
            return _render_table(heads, rows)
        case Figure(picture, caption, description):
            return _render_figure(picture, caption, description)


def _render_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in heads)
    lines = []
    for name, *cells in rows:
        line = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{line}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
    )


def _render_figure(picture: Picture, caption: str, description: str) -> str:
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data_uri(picture.dark)}">'
        f'<img src="{_data_uri(picture.light)}" alt="{html.escape(description)}">'
        f"</picture>\n<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
