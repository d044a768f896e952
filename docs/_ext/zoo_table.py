"""``.. zoo-table:: PATTERN ...``: networks of the zoo whose names match, from ``pf.zoo_table``."""

import pandas as pd
from rst import render
from sphinx.util.docutils import SphinxDirective

import placeformer as pf

FIGURES = [
    "working_error_trained",
    "reference_error_trained",
    "working_error_novel",
    "reference_error_novel",
    "place_cell_fraction_trained",
    "place_cell_fraction_novel",
]
HEAD = [
    "Network",
    "Activation",
    "α",
    "Mg²⁺ (mM)",
    "Seed",
    "Maps",
    "Working, trained (%)",
    "Reference, trained (%)",
    "Working, novel (%)",
    "Reference, novel (%)",
    "Place cells, trained (%)",
    "Place cells, novel (%)",
]


def cells(row):
    """Text of one row."""
    name = f"``{row.name}``" + (f" (also ``{row.alias}``)" if row.alias else "")
    alpha, mg = ("" if pd.isna(value) else f"{value:.3g}" for value in (row.alpha, row.mg_mM))
    figures = (getattr(row, figure) for figure in FIGURES)
    shown = ("–" if pd.isna(figure) else f"{100 * figure:.2f}" for figure in figures)
    seeds = ("–" if pd.isna(seed) else str(seed) for seed in (row.seed, row.map_seed))
    return [name, row.activation, alpha, mg, *seeds, *shown]


def grouped(rows):
    """Rows with activation, α and Mg²⁺ only where they change."""
    before = None
    for row in rows:
        yield row if row[1:4] != before else [row[0], "", "", "", *row[4:]]
        before = row[1:4]


def source(table):
    """Write the table in reStructuredText."""
    shared = [
        f"{n:,} {what}"
        for column, what in (("n_maps", "trained maps"), ("parameters", "weights"))
        for n in table[column].unique()
    ]
    rows = list(grouped(map(cells, table.itertuples())))
    return render("zoo_table", shared=shared, header=HEAD, rows=rows)


class ZooTable(SphinxDirective):
    """The table of the networks whose names match shell patterns, in the order of the patterns."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Make the table at every build, since the zoo may have grown."""
        self.env.note_reread()
        tables = [pf.zoo_table(pattern) for pattern in self.arguments[0].split()]
        return self.parse_text_to_nodes(source(pd.concat(tables)))


def setup(app):
    """Add the directive."""
    app.add_directive("zoo-table", ZooTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
