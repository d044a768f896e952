"""Templates in reStructuredText for the generated parts of the pages."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def render(template, **values):
    """Fill in a template."""
    return TEMPLATES.get_template(f"{template}.rst.jinja").render(values)
