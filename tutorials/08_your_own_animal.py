"""
8. Your own animal
==================

A session in an NWB file, its place cells, and those of a network in the same table.

Sorted units and a tracked position are a Recording, too. What was said of a network's units in the
other tutorials can be said of an animal's, by the same functions and with the same criteria.
"""

# %%
# A session
# ---------
# So that you need not download one, we simulate an animal: ten minutes in a box of one by one
# metre, eight place cells and four cells that fire anywhere. The file is written by `pynwb
# <https://pynwb.readthedocs.io>`_ (``pip install 'placeformer[nwb]'``); with a file of your own,
# start at "Read it".

from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pynwb
from pynwb.behavior import Position, SpatialSeries
from scipy.ndimage import gaussian_filter1d

import placeformer as pf

RATE = 20  # samples of the position a second
rng = np.random.default_rng(0)
way = gaussian_filter1d(rng.normal(0, 0.2, (600 * RATE, 2)), 10, axis=0).cumsum(axis=0)
place = abs((way + 1.5) % 2 - 1)  # folded back at the walls

centres = rng.uniform(0.1, 0.9, (8, 2))
squares = ((place[:, None] - centres) ** 2).sum(axis=2)
firing = 0.2 + 15 * np.exp(-squares / (2 * 0.12**2))  # Hz
firing = np.hstack([firing, np.full((len(place), 4), 3.0)])
spikes = rng.poisson(firing / RATE)

# %%

file = pynwb.NWBFile("ten minutes in a box", "simulated", datetime(2026, 1, 1, tzinfo=UTC))
for counts in spikes.T:
    times = np.repeat(np.arange(len(place)), counts) + rng.uniform(-0.5, 0.5, counts.sum())
    file.add_unit(spike_times=np.sort(times.clip(0) / RATE))
tracker = SpatialSeries(
    name="tracker", data=place, unit="m", rate=float(RATE), reference_frame="a corner of the box"
)
behavior = file.create_processing_module("behavior", "where the animal was")
behavior.add(Position(spatial_series=tracker))

session = Path(mkdtemp()) / "session.nwb"
with pynwb.NWBHDF5IO(session, "w") as io:
    io.write(file)

# %%
# Read it
# -------
# :func:`placeformer.from_nwb` finds the units and the position. Every spike counts at the nearest
# sample of the position, and counts times the sample rate are rates in Hz.

animal = pf.from_nwb(session, layer="CA1")
animal

# %%
# Data that you have in `pynapple <https://pynapple.org>`_ already come the same way, here from the
# same file. The two agree to the last spike.

import pynapple as nap

data = nap.load_file(str(session))
same = pf.from_pynapple(data["units"], data["tracker"], position_units="m", layer="CA1")
print("spikes of from_nwb:     ", (animal["activation"].sum("time")[0] / RATE).values.astype(int))
print("spikes of from_pynapple:", (same["activation"].sum("time")[0] / RATE).values.astype(int))

# %%
# Place cells of both in one table
# --------------------------------
# A metre has no whole numbers, so the animal's maps need ``bins``: as many a side as the network's
# world has places.

network = pf.record(pf.load("nmda-a10"), layers="ffn.1", n_walks=32, n_steps=768, progress=False)
bins = int(network.attrs["side"])


def table(recording, source, **options):
    """A row a unit."""
    cells = pf.place_cells(recording, n_shuffles=200, progress=False, **options)
    return cells.to_dataframe().assign(source=source)


both = pd.concat([table(animal, "animal", bins=bins), table(network, "nmda-a10")])
columns = ["source", "layer", "eta2", "spatial_information", "stability", "is_place_cell", "reason"]
both[columns].groupby("source").head(12).round(2)

# %%

both.groupby("source")["is_place_cell"].agg(["sum", "size", "mean"]).round(3)

# %%
# The eight place cells are found, the four cells that fire anywhere are not taken for any. What may
# be compared in such a table, and what not:
#
# - η² depends on noise: on single spikes in bins of 50 ms here, on all else that a unit does in a
#   network. Its test against shuffles (``q_circular``) is fair to both.
# - Spatial information in bits per spike does not change with the scale of the rates. It does with
#   the number of bins, and with what is done with negative activations.
# - An animal has no letters: the criteria that ask for more than a tuning to letters, which most of
#   the network's units fail, are left out for it.
#
# Look at both. The best of each by its map, fields outlined:

fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for row, source in zip(axes, ("animal", "nmda-a10"), strict=True):
    recording, options = (animal, {"bins": bins}) if source == "animal" else (network, {})
    maps = pf.rate_maps(recording, **options)
    fields = pf.place_fields(maps)
    cells = both[both["source"] == source]
    best = np.argsort(-(cells["stability"] * cells["is_place_cell"]).values)[:3]
    for ax, unit in zip(row, best, strict=True):
        pf.plot.place_fields(maps, fields, unit=int(unit), ax=ax)
        ax.set_title(f"{source}\n{ax.get_title()}", fontsize="medium")
plt.show()

# %%
# With several sessions or networks, each is a Recording of its own, and the table grows by rows.
# More on time bases, trials and gaps: :doc:`/data`.
