"""A real animal and a network in one table: CA1 on a linear track, and ``nmda-a10``.

Run with ``python benchmarks/real_animal.py RECORDING.npz``. The file holds the arrays t (seconds),
x, y (pixels of the video), spikes (seconds) and unit (the number of the unit of every spike) of the
recording linear-track/ in the repository nelpy/example-data on GitHub, commit
099548c0608ffaa92933c66346c0d96f05a18622, which has the MIT licence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import _results
import numpy as np
import pandas as pd
import pynapple as nap
import xarray as xr

import placeformer as pf

MIN_SPEED = 8.0
"""Minimum running speed, in percent of the track per second, as chosen by the authors."""

MIN_SPIKES = 30
"""Minimum number of spikes during running; units with fewer are left out."""

BINS = 40
COLUMNS = {
    "eta2": "η²",
    "spatial_information": "information (bits per spike, rectified)",
    "reliability": "reliability",
    "n_fields": "fields",
}


def animal(file: Path) -> xr.Dataset:
    """The recording of the animal while it runs; positions in percent of the track."""
    with np.load(file) as data:
        once = np.append(True, np.diff(data["t"]) > 0)  # one frame occurs twice
        place = np.stack([data["x"], data["y"]], axis=1)[once].astype(float)
        times, spikes, units = data["t"][once], data["spikes"], data["unit"]
    place -= place.mean(axis=0)
    track = place @ np.linalg.svd(place, full_matrices=False)[2][0]
    track = 100 * (track - track.min()) / np.ptp(track)
    tracked = nap.IntervalSet(times[0], times[-1])
    trains = {
        k: nap.Ts(np.sort(spikes[units == k]), time_support=tracked) for k in np.unique(units)
    }
    recording = pf.from_pynapple(
        nap.TsGroup(trains, time_support=tracked),
        nap.Tsd(t=times, d=track),
        position_units="%",
        layer="CA1",
        min_speed=MIN_SPEED,
        session="linear-track",
    )
    counts = (recording["activation"] * recording["dwell"]).where(recording["x"].notnull())
    return recording.isel(unit=counts.sum(("walk", "time")).values >= MIN_SPIKES)


def row(recording: xr.Dataset, source: str, **options: object) -> list[str]:
    """One row of the table: the number of place cells, and the medians over them."""
    cells = pf.place_cells(recording, seed=0, progress=False, **options).to_dataframe()
    found: pd.DataFrame = cells[cells["is_place_cell"]]
    tuned = int((cells["q_place"] <= 0.05).sum())
    medians = [f"{found[name].median():.2f}" for name in COLUMNS]
    return [source, str(len(cells)), str(tuned), str(len(found)), *medians]


def main() -> None:
    """Measure both, and print or save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the recording")
    _results.add_option(parser)
    arguments = parser.parse_args()
    network = pf.record(pf.load("nmda-a10"), layers="ffn.1", progress=False)
    rows = [
        row(animal(arguments.file), "CA1, linear track", by="x", bins=BINS, smooth=0.03 * BINS),
        row(network, "nmda-a10, ffn.1, trained map"),
    ]
    columns = ["source", "units", "tuned to place", "place cells", *COLUMNS.values()]
    print(pd.DataFrame(rows, columns=columns).to_string(index=False))
    if arguments.save:
        about = (
            f"Running faster than {MIN_SPEED:g} % of the track per second, units of at least "
            f"{MIN_SPIKES} spikes; medians are over the place cells."
        )
        _results.save("real_animal", columns, rows, about)


if __name__ == "__main__":
    main()
