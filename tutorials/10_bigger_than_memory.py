"""
10. Bigger than memory
======================

Record to disk, resume after an interruption, and analyse data that do not fit into memory.

Some units show their tuning only in hours of recording. Here each of 64 units has a place field,
hidden in noise eight times as large, and a short recording shows nothing. The long recording is
written to a Zarr store block by block, and analysed block by block.
"""

# %%
# A network and long walks
# ------------------------
# Any ``torch.nn.Module`` will do. This one consists of place fields and noise, so that we know the
# correct result.

import tempfile
import tracemalloc
from pathlib import Path

import dask
import matplotlib.pyplot as plt
import numpy as np
import torch

import placeformer as pf


class Noisy(torch.nn.Module):
    """Units that have one place field each, with added noise."""

    def __init__(self, n_units, noise):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("centres", torch.rand(n_units, 2, generator=generator))
        self.noise = noise

    def forward(self, place):
        """Activations (walk, time, unit) at places (walk, time, axis)."""
        square = (place[..., None, :] - self.centres).square().sum(-1)
        field = torch.exp(-square / (2 * 0.1**2))
        return field + self.noise * torch.randn_like(field)


rng = np.random.default_rng(0)
steps = rng.normal(0, 0.03, (2, 8, 120_000)).cumsum(axis=2)
x, y = np.abs((steps + rng.random((2, 8, 1))) % 2 - 1).astype("float32")  # the walls reflect
network = Noisy(64, noise=8.0)
print(f"{x.size:,} samples of 64 units: {x.size * 64 * 4 / 1e6:.0f} MB of activations")

# %%
# Record to disk
# --------------
# ``store`` is the path of a Zarr store. ``forward`` runs the network for ``chunk`` steps at a
# time, so memory never holds more than these steps and one block of the store.
#
# Long recordings are sometimes interrupted, here by an error after 50,000 steps.

folder = tempfile.TemporaryDirectory()
store = Path(folder.name) / "recording.zarr"
failures = iter([RuntimeError("the power fails")])


def forward(module, batch, state):
    """Run one part of the walks; fail once, after 50,000 steps."""
    if batch["time"][0] >= 50_000:
        for failure in failures:  # the next call succeeds
            raise failure
    module(torch.from_numpy(np.stack([batch["x"], batch["y"]], axis=-1)))


settings = {"layers": "Noisy", "forward": forward, "chunk": 1_000, "store": store}
try:
    pf.record(network, {"x": x, "y": y}, **settings, progress=False)
except RuntimeError as error:
    print(f"interrupted: {error}")
stored = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
print(f"{stored / 1e6:.0f} MB stored")

# %%
# The same call resumes after the last block that was stored, and no sample is lost or duplicated.
# (If the network or the settings had changed, it would raise an error that names the difference.)

recording = pf.record(network, {"x": x, "y": y}, **settings, progress=False)
recording["activation"]

# %%
# The activations are a dask array: nothing has been read yet. Later, or elsewhere,
# ``xarray.open_zarr(store)`` opens the same recording.
#
# Analyse block by block
# ----------------------
# Every analysis accepts such a recording. It reads a chunk, adds its sums to those of the other
# chunks, and releases it. We take parts of increasing length, and measure how well the maps of
# two halves agree and how much memory this takes, with one chunk at a time (by default, dask
# reads as many chunks at once as the machine has processors):

dask.config.set(scheduler="synchronous")
lengths = [120_000 // 64, 120_000 // 16, 120_000 // 4, 120_000]
agreement, megabytes = [], []
for length in lengths:
    part = recording.isel(time=slice(length))
    tracemalloc.start()
    agreement.append(pf.stability(part, bins=15).values)
    megabytes.append(tracemalloc.get_traced_memory()[1] / 1e6)
    tracemalloc.stop()
    print(
        f"{8 * length:>8,} samples, {8 * length * 64 * 4 / 1e6:>5.1f} MB: "
        f"stability {np.median(agreement[-1]):.2f}, at most {megabytes[-1]:.0f} MB at once"
    )

# %%
# The benefit of a longer recording
# ---------------------------------
# The figure shows the unit nearest to the middle after a 64th, a 16th and all of the recording, and
# below it the agreement of the two halves and the memory.

unit = int(np.square(network.centres.numpy() - 0.5).sum(axis=1).argmin())
fig = plt.figure(figsize=(10, 6.5), layout="constrained")
top, bottom = fig.subfigures(2, 1)
for ax, length in zip(top.subplots(1, 3), (lengths[0], lengths[1], lengths[-1]), strict=True):
    maps = pf.rate_maps(recording.isel(time=slice(length)), bins=15)
    pf.plot.rate_maps(maps, unit, ax=ax, limits=(-0.5, 1.0))
    ax.set(title=f"{8 * length:,} samples", xlabel="x (m)", ylabel="y (m)")

left, right = bottom.subplots(1, 2)
samples = 8 * np.array(lengths)
left.plot(samples, np.array(agreement), color="0.8", lw=0.7)
left.plot(samples, np.median(agreement, axis=1), "o-", label="median of 64 units")
left.set(xscale="log", xlabel="samples", ylabel="stability (r of two halves)")
left.legend()
right.plot(samples, samples * 64 * 4 / 1e6, "s--", color="0.5", label="the activations")
right.plot(samples, megabytes, "o-", label="analysing them, at most")
right.set(xscale="log", xlabel="samples", ylabel="MB", ylim=(0, None))
right.legend()
plt.show()

# %%
# The field was there from the beginning. The activations grow with the recording, but the memory
# needed to analyse them levels off at a few chunks.
#
# On a cluster
# ------------
# Analyses run on whichever scheduler dask uses. With ``dask.distributed``, on this machine or on
# many machines that have access to the store::
#
#     from distributed import Client
#
#     with Client("tcp://10.0.0.1:8786"):  # or Client() for the processors of this machine
#         cells = pf.place_cells(recording, bins=15)
#
# The numbers are the same; :doc:`/speed` reports the time and memory that each analysis takes.

folder.cleanup()
