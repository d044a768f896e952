"""Types that ``place_cells`` gives to the cells of RatInABox: a confusion table.

Run with ``python benchmarks/cell_types.py --save``. It needs ratinabox. An animal forages in a box
of one metre; place, grid, head-direction, boundary and speed cells fire Poisson spikes.
"""

from __future__ import annotations

import argparse
from typing import Any

import _results
import numpy as np
import pandas as pd
import xarray as xr

import placeformer as pf

STEP, SEED, BINS, SMOOTH = 0.05, 0, 20, 1.5
KINDS = {"place": 16, "grid": 16, "head direction": 12, "boundary": 16, "speed": 4}
"""Number of simulated cells of each kind."""

TYPES = ("place cell", "grid cell", "border cell", "head-direction cell", "speed cell", "other")
MOST_RATE = {"place": 20, "grid": 20, "head direction": 20, "boundary": 20, "speed": 40}
"""Maximum rate of the cells of each kind, in Hz; for a speed cell, the rate at maximum speed."""


def simulate(minutes: float) -> xr.Dataset:
    """Recording of the spikes of all cells, with ``kind`` over ``unit``."""
    from ratinabox import Agent, Environment
    from ratinabox.Neurons import (
        BoundaryVectorCells,
        GridCells,
        HeadDirectionCells,
        PlaceCells,
        SpeedCell,
    )  # fmt: skip

    np.random.seed(SEED)  # noqa: NPY002 (RatInABox draws from the global state)
    agent = Agent(Environment(), {"dt": STEP})
    makers: dict[str, Any] = {
        "place": PlaceCells,
        "grid": GridCells,
        "head direction": HeadDirectionCells,
        "boundary": BoundaryVectorCells,
    }
    cells = [
        make(agent, {"n": KINDS[kind], "max_fr": MOST_RATE[kind], "name": kind})
        for kind, make in makers.items()
    ]
    cells += [
        SpeedCell(agent, {"max_fr": MOST_RATE["speed"], "name": f"speed {i}"})
        for i in range(KINDS["speed"])
    ]
    for _ in range(round(60 * minutes / STEP)):
        agent.update()
        for group in cells:
            group.update()
    recording = pf.from_ratinabox(agent, cells, activity="spikes")
    speed = np.linalg.norm(agent.history["vel"], axis=1)[None]
    kind = np.repeat(list(KINDS), list(KINDS.values()))
    return recording.assign_coords(
        speed=(("walk", "time"), speed, {"units": "m/s"}), kind=("unit", kind)
    )


def main() -> None:
    """Print the table of kinds and types, and save it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    _results.add_option(parser)
    options = parser.parse_args()
    recording = simulate(options.minutes)
    cells = pf.place_cells(recording, bins=BINS, smooth=SMOOTH, seed=SEED, progress=False)
    found = pd.crosstab(recording["kind"].values, cells["cell_type"].values)
    found = found.reindex(index=list(KINDS), columns=list(TYPES), fill_value=0)
    print(found.to_string())
    speeds = cells.isel(unit=recording["kind"].values == "speed")
    print(speeds[["speed_score", "q_speed_score", "eta2", "eta2_corrected"]].to_dataframe())
    if options.save:
        rows = [[kind, *map(str, row)] for kind, row in zip(KINDS, found.values, strict=True)]
        about = (
            f"{options.minutes:g} minutes in a box of one metre, steps of {STEP:g} s, seed {SEED}; "
            f"Poisson spikes of at most {max(MOST_RATE.values())} Hz; {BINS} x {BINS} bins, "
            f"smooth={SMOOTH:g}."
        )
        _results.save("cell_types", ["simulated as", *TYPES], rows, about)


if __name__ == "__main__":
    main()
