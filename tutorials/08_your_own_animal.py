"""
8. Your own animal
==================

A session in an NWB file, its place cells, and those of a network in the same table.

Sorted units and a tracked position make a Recording, too. The analyses that the other tutorials
apply to the units of a network also apply to those of an animal, with the same functions and the
same criteria.
"""

# %%
# A session
# ---------
# So that you need not download a session, we simulate an animal: ten minutes in a box of one by
# one metre, with eight place cells and four cells that fire anywhere. `pynwb
# <https://pynwb.readthedocs.io>`_ (``pip install 'placeformer[nwb]'``) writes the file; if you
# have your own file, start at "Read it".

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

RATE = 20  # position samples per second
rng = np.random.default_rng(0)
way = gaussian_filter1d(rng.normal(0, 0.2, (600 * RATE, 2)), 10, axis=0).cumsum(axis=0)
place = abs((way + 1.5) % 2 - 1)  # reflected by the walls

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
# :func:`placeformer.from_nwb` finds the units and the position. Every spike is assigned to the
# nearest position sample, and the counts are divided by ``dwell``, the duration in seconds that
# each sample represents, to give rates in Hz.

animal = pf.from_nwb(session, layer="CA1")
animal

# %%
# Data that you already have in `pynapple <https://pynapple.org>`_ are converted in the same way,
# here from the same file. The two recordings have exactly the same spikes.

import pynapple as nap

data = nap.load_file(str(session))
same = pf.from_pynapple(data["units"], data["tracker"], position_units="m", layer="CA1")
for name, recording in (("from_nwb", animal), ("from_pynapple", same)):
    spikes = (recording["activation"] * recording["dwell"]).sum(("walk", "time"))
    print(f"spikes of {name}:", spikes.values.round().astype(int))

# %%
# Animal and network in one table
# -------------------------------
# Positions in metres are not integers, so the animal's maps need ``bins``: as many per side as the
# network's world has places.

network = pf.record(pf.load("nmda-a10"), layers="ffn.1", n_walks=32, n_steps=768, progress=False)
bins = int(network.attrs["side"])


def table(recording, source, **options):
    """One row per unit."""
    cells = pf.place_cells(recording, n_shuffles=200, progress=False, **options)
    return cells.to_dataframe().assign(source=source)


both = pd.concat([table(animal, "animal", bins=bins), table(network, "nmda-a10")])
columns = ["source", "layer", "eta2", "spatial_information", "stability", "is_place_cell", "reason"]
both[columns].groupby("source").head(12).round(2)

# %%

both.groupby("source")["is_place_cell"].agg(["sum", "size", "mean"]).round(3)

# %%
# All eight place cells are found, and none of the four cells that fire anywhere is accepted. Some
# columns of such a table can be compared between the animal and the network, and others cannot:
#
# - η² depends on noise: in the animal on single spikes in bins of 50 ms, in the network on
#   everything else that drives a unit. Its test against shuffles (``q_place``) is valid for both.
# - Spatial information in bits per spike does not depend on the scale of the rates, but it does
#   depend on the number of bins and on the treatment of negative activations.
# - An animal has no letters, so its criteria for tuning beyond the letter, which most units of the
#   network fail, are left out.
#
# These are the maps of the best units of both, with fields outlined:

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
# A public recording
# ------------------
# The next recording is of a rat. Grosmark and Buzsáki (2016,
# https://doi.org/10.1126/science.aad1935) recorded CA1 while a rat ran back and forth on a track
# of 1.6 m. The data are public (https://doi.org/10.48324/dandi.000044/0.210812.1516; their
# licence is stated there), and the authors of pynapple keep session ``Achilles_10252013``, with
# the position along the track, as a smaller NWB file on OSF. `pooch
# <https://www.fatiando.org/pooch>`_ (``pip install pooch``) downloads it once and compares it
# with the checksum that the documentation of `NeMoS <https://nemos.readthedocs.io>`_ uses.
# Without a connection, this section shows nothing.

import pooch

pooch.get_logger().setLevel("WARNING")  # which leaves out where the file is
try:
    achilles = pooch.retrieve(
        "https://osf.io/download/hu5ma/",
        known_hash="sha256:42857015aad4c2f7f6f3d4022611a69bc86d714cf465183ce30955731e614990",
        fname="Achilles_10252013.nwb",
        path=pooch.os_cache("placeformer"),
    )
except OSError:
    achilles = None
    print("The recording could not be downloaded; this section is skipped.")

# %%
# Every trial is one run along the track. We join them, take the pyramidal cells, and ask for at
# least 30 spikes while the rat runs, because tuning cannot be judged from fewer. A track has one
# axis, ``by="x"``.

if achilles:
    rat = pf.from_nwb(
        achilles,
        position="position",
        epochs="trials",
        join=True,
        where="cell_type == 'pE'",
        layer="CA1",
    )
    counts = (rat["activation"] * rat["dwell"]).where(rat["x"].notnull()).sum(("walk", "time"))
    rat = rat.isel(unit=counts.values >= 30)
    track = {"by": "x", "bins": 40, "smooth": 1.2}
    three = pd.concat([both, table(rat, "rat", **track)])
    print(three.groupby("source")["is_place_cell"].agg(["sum", "size", "mean"]).round(3))

# %%
# The maps of the rat's place cells, sorted by the place of the highest rate:

if achilles:
    found = three.loc[three["source"] == "rat", "is_place_cell"].to_numpy(bool)
    pf.plot.population(pf.rate_maps(rat, **track).isel(unit=found))
    plt.show()

# %%
# A second animal, with stored results
# ------------------------------------
# Since the section above depends on a download, the results of the same comparison with another
# recording are stored: CA1 on a linear track, published in the repository ``nelpy/example-data``
# (folder ``linear-track``, commit ``099548c``, MIT licence). ``benchmarks/real_animal.py`` names
# the required arrays, reads them and writes this table; if the arrays are available, a test
# repeats the analysis and compares it with the table.
#
# .. csv-table:: Place cells of an animal and of a network; medians are over the place cells
#    :file: ../../benchmarks/results/real_animal.csv
#    :header-rows: 1
#
# .. include:: ../../benchmarks/results/real_animal.txt
#
# Nearly all units of both are tuned to place. In the network this is mostly tuning to letters,
# which the animal does not have, so the fractions of place cells cannot be compared. Information
# and reliability of the place cells are similar; η² is not, because single spikes are far noisier
# than activations.
#
# With several sessions or networks, each is a separate Recording, and the table gets more rows.
# :doc:`/data` explains time bases, trials and gaps.
