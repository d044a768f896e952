"""
7. Your own network
===================

An LSTM that learns where it is, and what its units look like.

Any ``torch.nn.Module`` can be recorded by the names of its layers. Here a small LSTM performs
path integration: its input is every step of a walk, never a place, and its output is the
position.
"""

# %%
# Walks
# -----
# The walks are smooth, start in the middle of an arena of one by one metre, and are reflected by
# the walls. Places and steps are arrays (walk, time, axis); the first step leads from the middle to
# the first place.

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

import placeformer as pf


def walks(n_walks, seed, n_steps=60):
    """Places and steps (walk, time, axis)."""
    way = np.random.default_rng(seed).normal(0, 0.1, (n_walks, n_steps, 2))
    way = gaussian_filter1d(way, 2, axis=1).cumsum(axis=1)
    place = abs((way + 1.5) % 2 - 1)  # reflected by the walls
    return place.astype("float32"), np.diff(place, axis=1, prepend=0.5).astype("float32")


# %%
# The network
# -----------


class Navigator(torch.nn.Module):
    """An LSTM that predicts places from steps."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 64, batch_first=True)
        self.place = torch.nn.Linear(64, 2)

    def forward(self, step):
        """Predict the place after every step."""
        return self.place(self.lstm(10 * step)[0])


torch.manual_seed(0)
network = Navigator()

# %%
# Record it
# ---------
# :func:`placeformer.record` takes the network, its behaviour, the names of layers (as
# ``network.named_modules()`` lists them) and its inputs. The axes of walk, time and unit are
# inferred from their lengths. ``burn_in`` leaves out the first steps, when all walks are near the
# middle: otherwise every unit would have a "field" there that only reflects the start of the walks.

place, step = walks(300, seed=1)
behaviour = {"x": place[..., 0], "y": place[..., 1]}
settings = {"layers": "lstm", "inputs": {"step": step}, "position_units": "m"}
settings |= {"burn_in": 20, "progress": False}

untrained = pf.record(network, behaviour, **settings)
untrained

# %%
# Train it
# --------
# We train on 400 batches of new walks, which do not include the recorded walks.

optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
for batch in range(400):
    target, moves = (torch.from_numpy(array) for array in walks(64, seed=1000 + batch))
    loss = torch.nn.functional.mse_loss(network(moves), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

trained = pf.record(network, behaviour, **settings)

# %%
# Does the population encode the place?
# -------------------------------------
# A linear decoder predicts the place from the 64 units, cross-validated over walks. ``chance`` is
# the error of always predicting the mean place.

recordings = {"untrained": untrained, "trained": trained}
for name, recording in recordings.items():
    found = pf.decode_position(recording, n_shuffles=99, progress=False)
    error, chance = 100 * float(found["median_error"]), 100 * float(found["chance_error"])
    print(f"{name:<10} median error {error:4.1f} cm, chance {chance:.1f} cm")

# %%
# Are there place cells?
# ----------------------
# Places are not integers here, so maps need ``bins``.

bins = {"bins": 10}
cells = {
    name: pf.place_cells(recording, n_shuffles=200, **bins, progress=False)
    for name, recording in recordings.items()
}
for name, table in cells.items():
    print(f"{name}: median η² {float(table['eta2'].median()):.2f}")
    print(table["reason"].to_series().value_counts().to_string(), "\n")

# %%
# Before training, units carry only a trace of the last steps. Because the walls reflect the
# walks, a step contains a little information about the place. After training, place explains most
# of the variance of nearly every unit. Yet few units are place cells, and the maps show why.

maps = {name: pf.rate_maps(recording, **bins) for name, recording in recordings.items()}
units = np.argsort(-cells["trained"]["eta2"].values)[:48:12]

fig, axes = plt.subplots(2, 4, figsize=(11, 5.2), layout="constrained")
for row, (name, table) in zip(axes, cells.items(), strict=True):
    for ax, unit in zip(row, units, strict=True):
        pf.plot.rate_maps(maps[name], unit=int(unit), ax=ax, colorbar=False)
        eta2, reason = float(table["eta2"][unit]), str(table["reason"].values[unit])
        ax.set_title(f"{name}, unit {unit}\nη² = {eta2:.2f}: {reason}", fontsize="medium")
plt.show()

# %%
# Because the network has to output x and y, its units are ramps across the arena. A linear
# readout adds the ramps to obtain the place, and needs no fields. The units accepted as place
# cells have the steep end of a ramp at a wall. Tuning to place, a decodable place and place cells
# are three different things.
#
# The required output also shapes the units: train the network to output which of 64 places it is
# near, instead of x and y, and look at the maps again.
#
# Next: :doc:`08_your_own_animal`.
