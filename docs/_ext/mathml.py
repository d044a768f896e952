"""Formulas as MathML, which browsers draw without scripts and without a network connection."""

from docutils import nodes
from latex2mathml.converter import convert


def formula(self, node):
    """Write a formula at the current position of the page."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(self, node):
    """Write a formula as a block of its own; a wide one scrolls on a narrow page."""
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Offer the renderer ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (formula, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
