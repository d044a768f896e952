"""The pages of the API: sections in the sidebar, types of parameters, and pictures of figures."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.autosummary import Autosummary

HEADING = re.compile(r"^-{3,}$")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension, to run before numpydoc and before tables of contents are made."""
    app.setup_extension("sphinx.ext.autosummary")
    app.add_directive("autosummary", Table, override=True)
    app.connect("autodoc-process-docstring", complete, priority=100)
    app.connect("doctree-read", name_sections, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Table(Autosummary):
    """A table of names and summaries, without signatures, which would make it long."""

    def run(self) -> list[nodes.Node]:
        """Build the table."""
        self.options.setdefault("nosignatures", None)
        return super().run()


def name_sections(app: Any, doctree: nodes.document) -> None:
    """Give every table of functions the heading above it, which the sidebar then shows."""
    for toctree in doctree.findall(addnodes.toctree):
        section = toctree.parent
        while section is not None and not isinstance(section, nodes.section):
            section = section.parent
        if app.env.docname == "api" and section is not None:
            toctree["caption"] = toctree["rawcaption"] = section[0].astext()


def complete(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Add types and a picture to a docstring, in place."""
    if callable(obj):
        lines[:] = with_types(lines, annotations(obj))
    if inspect.isfunction(obj) and obj.__module__.startswith("placeformer.plot"):
        lines[1:1] = picture(lines)


def annotations(obj: Any) -> dict[str, str]:
    """The annotations of the parameters of a function or class, as they are written."""
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {
        parameter.name: str(parameter.annotation)
        for parameter in parameters
        if isinstance(parameter.annotation, str)
    }


def with_types(lines: Sequence[str], types: dict[str, str]) -> list[str]:
    """Write the type of each parameter after its name in the section Parameters."""
    found, section = [], ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if HEADING.match(following):
            section = line.strip()
        elif section == "Parameters" and line[:1].strip() and not HEADING.match(line):
            of_names = {types.get(name.strip(" *")) for name in line.split(",")}
            if len(of_names) == 1 and (one := of_names.pop()):
                line = f"{line} : ``{one}``"
        found.append(line)
    return found


def picture(lines: Sequence[str]) -> list[str]:
    """The figure that the example of a docstring draws."""
    examples = doctest.DocTestParser().get_examples("\n".join(lines))
    if not examples:
        return []
    options = [":include-source: False", ":alt: The figure drawn by the example below.", ""]
    code = [line for example in examples for line in example.source.splitlines()]
    return ["", ".. plot::", *(f"   {line}" for line in (*options, *code)), ""]
