"""Place cells among simulated units of known kinds: the fraction accepted, and the reasons.

Run with ``python benchmarks/place_cells.py``. Recordings have the default size of
``placeformer.record``: 64 walks of 1,536 steps on one map of 121 places and 10 letters.
"""

from __future__ import annotations

import argparse
import time

import _results
import pandas as pd
import xarray as xr
from scipy import stats

from placeformer.evaluation import simulation
from placeformer.spatial.place_cells import place_cells

FIRST_SEED = 1000
"""First seed of the populations; no threshold was chosen on these."""


def tables(seeds: range, n_each: int, noise: float) -> xr.Dataset:
    """Concatenate the place-cell tables of several populations."""
    found = []
    for seed in seeds:
        pair = [
            simulation.population(simulation.KINDS, n_each, seed=seed, familiar=f, noise=noise)
            for f in (True, False)
        ]
        table = place_cells(pair[0], control=pair[1])
        off_walls = table["is_place_cell"] & (table["cell_type"] != "border cell")
        found.append(table.assign(off_walls=off_walls))
    return xr.concat(found, "unit", combine_attrs="override")


def with_interval(found: pd.Series) -> str:
    """Proportion of true values with its 95 % interval (Wilson)."""
    low, high = stats.binomtest(int(found.sum()), len(found)).proportion_ci(method="wilson")
    return f"{found.mean():.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    """Print the fraction accepted, and the reasons, for every kind of unit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=50, help="of each kind and seed")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--noise", type=float, nargs="+", default=[1.0])
    _results.add_option(parser)
    options = parser.parse_args()
    shown = ["is_place_cell", "off_walls", "control_is_place_cell", "depends_on_memory"]
    for noise in options.noise:
        start = time.process_time()
        seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
        table = tables(seeds, options.units, noise)
        frame = table.to_dataframe()
        n = options.units * options.seeds
        print(
            f"noise of a step {noise:g} (fields are 0.6 to 1 high), {n} units a kind, "
            f"{time.process_time() - start:.0f} CPU s"
        )
        shares = frame.groupby("kind", sort=False)[shown].mean()
        reasons = pd.crosstab(frame["kind"], frame["reason"], normalize="index")
        print(shares.join(reasons.drop(columns="place cell")).round(3).to_string(), "\n")
        if options.save:
            keep(frame.groupby("kind", sort=False)[shown].agg(with_interval), n, noise, options)


def keep(shares: pd.DataFrame, n: int, noise: float, options: argparse.Namespace) -> None:
    """Save the fractions as a table."""
    columns = ["unit", "place cell", "and no border cell", "on the novel map", "depends on memory"]
    rows = ([simulation.KINDS[str(kind)], *row] for kind, row in shares.iterrows())
    about = (
        f"{n} units per kind ({options.units} on each of {options.seeds} maps), noise per step "
        f"{noise:g}, as many shuffles as the decisions needed; 95 % intervals (Wilson) in brackets."
    )
    _results.save("place_cells", columns, rows, about)


if __name__ == "__main__":
    main()
