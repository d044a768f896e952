"""Pieces of the page's HTML: lists, tables, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from placeformer.figures import Picture


def bullets(sentences: Sequence[str]) -> str:
    """List sentences."""
    items = "\n".join(f"<li>{sentence}</li>" for sentence in sentences)
    return f'<ul class="findings">\n{items}\n</ul>' if sentences else ""


def figure(picture: Picture, caption: str) -> str:
    """Show a picture with its caption."""
    return (
        f'<figure><img src="{picture.uri}" alt="{escape(picture.alt)}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def grid(caption: str, head: Sequence[str], body: str) -> str:
    """Write a table that scrolls where it is too wide."""
    columns = "".join(f'<th scope="col">{label}</th>' for label in head)
    above = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll"><table class="wide">{above}<thead><tr>{columns}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def row(label: str, cells: Sequence[str]) -> str:
    """Write one row of a table."""
    return f'<tr><th scope="row">{label}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
