"""Formulas as MathML, which browsers draw themselves: no script and no network are needed."""

from docutils import nodes
from latex2mathml.converter import convert


def formula(self, node):
    """Write a formula where the translator of the page stands."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def displayed(self, node):
    """Write a formula on lines of its own; a wide one scrolls on a narrow page."""
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Offer the renderer ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (formula, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
