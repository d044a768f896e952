"""The page on the command line, generated from the commands themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from rst import render

from placeformer.cli import STATUS, cli


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "generated"))
    return {"parallel_read_safe": True}


def write(target: Path) -> None:
    """Write the part that the page includes."""
    target.mkdir(parents=True, exist_ok=True)
    status = paragraphs(STATUS.removeprefix("Exit status: "))
    text = render("commands", commands=commands(), status=status)
    (target / "commands.txt").write_text(text, encoding="utf-8")


def commands(group: click.Group = cli) -> list[dict[str, Any]]:
    """The description of each command, in the order of definition."""
    top = click.Context(group, info_name="placeformer")
    return [describe(click.Context(command, top, name)) for name, command in group.commands.items()]


def describe(context: click.Context) -> dict[str, Any]:
    """Name, usage, help, example and options of a command."""
    command = context.command
    options = [
        {"names": record[0], "help": paragraphs(record[1])[0]}
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and parameter.name not in ("debug", "help")
        and (record := parameter.get_help_record(context)) is not None
    ]
    return {
        "name": context.info_name,
        "usage": " ".join(command.get_usage(context).removeprefix("Usage: ").split()),
        "help": paragraphs(command.help or ""),
        "example": (command.epilog or "").partition("Example: ")[2].partition("\n")[0],
        "options": options,
    }


def paragraphs(text: str) -> list[str]:
    """The help text of click as paragraphs of reStructuredText."""
    parts = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.replace("\b", ""))]
    return [literal(part) for part in parts if part]


def literal(text: str) -> str:
    """Turn code between single backquotes into literals, and escape all other markup."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"`{piece}`" if piece.startswith("`") else re.sub(r"([*|_\\])", r"\\\1", piece)
        for piece in pieces
    )
