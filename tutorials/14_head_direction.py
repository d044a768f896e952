"""
14. Head direction and grids
============================

Head-direction cells, grid cells of two modules and speed cells of a simulated animal, each with a
test, and one table of cell types.

The same analyses apply to the units of a network: they only need a variable for the heading, such
as the direction of the last move.
"""

# %%
# An animal with known cells
# --------------------------
# So that we know the truth, we simulate twenty minutes in a box of one by one metre: an animal
# that turns smoothly, runs at varying speed and is reflected by the walls. Its cells fire at
# random, with rates that depend on the heading, the place or the speed, or on nothing.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

import placeformer as pf

RATE, SECONDS = 20, 1200
n = RATE * SECONDS
rng = np.random.default_rng(0)

speed = 0.15 * np.exp(gaussian_filter1d(rng.normal(0, 4, n), RATE / 2))  # m/s
turning = gaussian_filter1d(rng.normal(0, 9, n), RATE / 4) / RATE
place, heading = np.empty((n, 2)), np.empty(n)
here, angle = np.array([0.5, 0.5]), 0.0
for t in range(n):
    angle += turning[t]
    step = speed[t] / RATE * np.array([np.cos(angle), np.sin(angle)])
    if not 0 <= here[0] + step[0] <= 1:
        angle = np.pi - angle
    if not 0 <= here[1] + step[1] <= 1:
        angle = -angle
    here = np.clip(here + speed[t] / RATE * np.array([np.cos(angle), np.sin(angle)]), 0, 1)
    place[t], heading[t] = here, angle

# %%
# A grid cell is the sum of three waves at 60 degrees to each other. The cells of a module share
# their spacing and orientation and differ in phase.


def grid_cell(spacing, orientation, phase):
    """Rate of a grid cell, 0 to 1."""
    directions = np.radians(orientation + 90) + np.arange(3) * np.pi / 3
    waves = 4 * np.pi / np.sqrt(3) / spacing * np.stack([np.cos(directions), np.sin(directions)])
    return np.maximum(np.cos((place - phase) @ waves).sum(axis=1), 0) / 3


def phase():
    """A random place."""
    return rng.uniform(0, 1, 2)


distance = np.linalg.norm(place[:, None] - rng.uniform(0.2, 0.8, (4, 2)), axis=2)
rates = {
    "head-direction cell": [np.exp(4 * (np.cos(heading - k * np.pi / 3) - 1)) for k in range(6)],
    "grid cell": [
        grid_cell(spacing, orientation, phase())
        for spacing, orientation in ((0.3, 10), (0.45, 25))
        for _ in range(4)
    ],
    "place cell": list(np.exp(-(distance.T**2) / (2 * 0.1**2))),
    "speed cell": [speed / speed.max()] * 3,
    "other": [np.full(n, 0.2)] * 9,
}
kind = np.repeat(list(rates), [len(cells) for cells in rates.values()])
firing = 0.5 + 15 * np.stack([rate for cells in rates.values() for rate in cells], axis=1)  # Hz
spikes = rng.poisson(firing / RATE)

# %%
# The recording holds the rate of every sample, the place, and, as behaviour, the heading and the
# speed. ``circular`` states that the heading has a period of 2π. The recording keeps this period,
# and every function that bins the heading treats it as circular.

animal = pf.from_arrays(
    spikes * float(RATE),
    {"x": place[:, 0], "y": place[:, 1]},
    sample_rate=RATE,
    behaviour={"head_direction": heading, "speed": speed},
    circular={"head_direction": 2 * np.pi},
    units="Hz",
    position_units="m",
)
animal = animal.assign_coords(kind=("unit", kind))
animal["head_direction"].attrs["units"] = "rad"
animal

# %%
# Head direction
# --------------
# A tuning curve is a rate map over the heading. :func:`placeformer.plot.rate_maps` draws it as a
# polar plot.

curves = pf.rate_maps(animal, by="head_direction", bins=24)
fig, axes = plt.subplots(
    1, 4, figsize=(11, 3.4), layout="constrained", subplot_kw={"projection": "polar"}
)
for ax, unit in zip(axes, (0, 1, 6, 20), strict=True):
    pf.plot.rate_maps(curves, unit, ax=ax)
    ax.set_title(f"unit {unit}: {kind[unit]}", fontsize="medium")
    ax.set_xlabel("")
plt.show()

# %%
# The first cell prefers the direction 0, at which the period begins and ends. It has one field,
# not two:

pf.place_fields(curves).n_fields.values[:6]

# %%
# :func:`placeformer.head_direction` gives the length and the direction of the mean vector and
# tests the tuning against shuffles of the headings.

compass = pf.head_direction(animal, progress=False)
columns = ["mean_vector_length", "preferred_direction", "p", "q", "rayleigh_p"]
table = compass[columns].to_dataframe()[columns].assign(kind=kind).round(3)
table.iloc[[*range(7), 14, 18, 21]]

# %%
# The six head-direction cells have a q of at most .05, and their preferred directions are those
# of the simulation, multiples of π/3 = 1.047. Do not decide by the p of Rayleigh's test, which
# papers often report. The test assumes independent samples, and those of an animal are not
# independent: a place cell is active while the animal crosses its field in one direction.

tuned = compass.q.values <= 0.05
rayleigh = compass.rayleigh_p.values <= 0.05
head = kind == "head-direction cell"
for name, found in (("shuffles (q)", tuned), ("Rayleigh's p", rayleigh)):
    print(f"by {name}: {found[head].sum()} head-direction cells, {found[~head].sum()} others")

# %%
# The heading can be decoded from these cells, here in bins of a quarter of a second. Errors are
# circular distances, at most 180 degrees, and a random guess is off by 90 degrees on average. Ten
# blocks of time replace the walks for cross-validation.

WIDTH = 5  # samples
quarters = pf.from_arrays(
    spikes[:, head].reshape(-1, WIDTH, 6).sum(axis=1) * (RATE / WIDTH),
    {"head_direction": heading[WIDTH // 2 :: WIDTH]},
    sample_rate=RATE / WIDTH,
    circular={"head_direction": 2 * np.pi},
    units="Hz",
)
decoded = pf.decode_position(
    quarters, by="head_direction", bins=24, method="poisson", blocks=10,
    n_shuffles=19, progress=False,
)  # fmt: skip
for name in ("median_error", "chance_error"):
    print(f"{name}: {np.degrees(float(decoded[name])):.0f} degrees")

# %%
# The decoded heading follows the animal across the boundary between 2π and 0:

shown = slice(150, 350)
fig, ax = plt.subplots(figsize=(9, 3), layout="constrained")
seconds = quarters.time.values[shown]
true = np.mod(quarters.head_direction.values[0, shown], 2 * np.pi)
ax.plot(seconds, true, ".", color="0.6", label="heading")
ax.plot(seconds, decoded.decoded.values[0, shown, 0], "_", color="#D55E00", label="decoded")
ax.set(xlabel="time (s)", ylabel="heading (rad)", yticks=[0, np.pi, 2 * np.pi])
ax.set_yticklabels(["0", "π", "2π"])
ax.legend(loc="upper right", framealpha=1)
plt.show()

# %%
# Grids
# -----
# The autocorrelogram of a grid cell's map has six peaks around its centre. Their distance is the
# spacing of the grid, and their direction its orientation.

maps = pf.rate_maps(animal, bins=32, smooth=1.5)
lags = pf.autocorrelogram(maps)
lattice = pf.grid_properties(maps)
grids = np.flatnonzero(kind == "grid cell")
fig, axes = plt.subplots(2, 3, figsize=(9, 5.6), layout="constrained")
for column, unit in zip(axes.T, (grids[0], grids[5], 18), strict=True):
    pf.plot.rate_maps(maps, unit, ax=column[0], colorbar=False)
    column[0].set_title(f"unit {unit}: {kind[unit]}", fontsize="medium")
    pf.plot.autocorrelogram(lags, unit, properties=lattice, ax=column[1], colorbar=False)
    column[1].set_title("")
plt.show()

# %%
# :func:`placeformer.grid_properties` measures both. The two simulated modules have a spacing of
# 0.3 m at 10 degrees and of 0.45 m at 25 degrees; a unit with fewer than four fields has no
# lattice, and ``reason`` says so.

columns = ["grid_score", "spacing", "orientation", "ellipticity", "n_fields", "reason"]
lattice[columns].to_dataframe()[columns].assign(kind=kind).round(2).iloc[[*grids, 18, 19]]

# %%
# A score alone does not make a grid cell, since noise has scores, too. The cell types below are
# based on tests.
#
# Speed
# -----
# :func:`placeformer.speed_score` correlates the activity with the running speed. Single samples
# of spikes are noisy, so they are smoothed over a quarter of a second.

tempo = pf.speed_score(animal, smooth=0.25, progress=False)
table = tempo[["speed_score", "p", "q"]].to_dataframe()[["speed_score", "q"]].assign(kind=kind)
table.groupby("kind").agg(["min", "max"]).round(3)

# %%
# Cell types
# ----------
# :func:`placeformer.place_cells` makes all of these tests and gives every unit one type: the
# first that applies of head-direction cell, grid cell, border cell, place cell, speed cell, and
# other.

import pandas as pd

types = pf.place_cells(animal, bins=20, smooth=1.5, progress=False)
pd.crosstab(pd.Series(kind, name="simulated"), pd.Series(types.cell_type.values, name="found"))

# %%
# Tuning is tested against chance, so a type means the same in an animal and in a network. For
# tracks, where cells fire in one running direction, and for other circular variables, see
# :doc:`/heading`.
