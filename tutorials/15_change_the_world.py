"""
15. Change the world by degrees
===============================

Morph one map into another, swap letters, and put up walls: when do the maps of the units change,
and when does memory fail?

In animals, the same cells have different maps in different environments (remapping). Gradual
changes of the environment show whether the maps change gradually or abruptly. A network can be
put into any world, and its memory can be measured there.
"""

# %%
# Morphs
# ------
# ``world.morph(a, b, share)`` gives map A with the letters of map B at a fraction ``share`` of
# the places where the two maps differ. ``world.walk`` takes the letters, and
# :func:`placeformer.memory_errors` and :func:`placeformer.record` take the walks. With the same
# seed all walks follow the same paths, so that only the letters differ.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import placeformer as pf

model = pf.load("mini-nmda-a10")
world, size = model.world, {"n_walks": 24, "n_steps": 384, "seed": 1}


def measured(walks, intact=None):
    """Errors along walks, the correlation of the units' maps with `intact`, and these maps."""
    error = pf.memory_errors(model, walks=walks, where="every_step", progress=False)["error"]
    maps = pf.rate_maps(pf.record(model, walks, progress=False))
    alike = pf.remapping(maps if intact is None else intact, maps, n_shuffles=99)
    row = {name: float(error.sel(memory=name)) for name in ("working", "reference")}
    return row | {"correlation": float(alike["mean"].sel(statistic="correlation"))}, maps


def dose_response(doses, letters):
    """One row per dose, of the letters of a map that is changed by it."""
    rows, intact = [], None
    for one in letters:
        row, maps = measured(world.walk(**size, letters=one[None]), intact)
        intact = maps if intact is None else intact
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(doses, name="share"))


shares = np.linspace(0, 1, 6)
morph = dose_response(shares, world.morph(0, 1, shares))
print(morph.round(3))

# %%
# Both ends are maps that the network has learnt, so reference memory is good at both. In between,
# the letters are a mixture that it has never seen. ``correlation`` is the mean over units of the
# correlation of the rate map with that on map A.
#
# Swaps
# -----
# In a swap, pairs of places exchange their letters. It brings no new letter into the map, and
# nothing that was learnt on another map.

swap = dose_response(shares, world.swap(0, shares))
print(swap.round(3))

# %%
# Which map's letters are predicted
# ---------------------------------
# Halfway, a network may keep predicting one of the two maps, or a mixture. At the places where A
# and B differ, and which were not visited within the attended window, which map's letter is
# predicted?

a, b = world.maps[:2]
rows = []
for letters in world.morph(0, 1, shares):
    recording = pf.record(model, world.walk(**size, letters=letters[None]), progress=False)
    place = recording["y"].values * world.shape[1] + recording["x"].values
    asked = ~recording["visited"].values & (a != b)[place]
    said = recording["prediction"].values[asked]
    rows.append({"A": (said == a[place[asked]]).mean(), "B": (said == b[place[asked]]).mean()})
whose = pd.DataFrame(rows, index=morph.index)
print(whose.round(3))

# %%
# The curves
# ----------

fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, name, table in zip(axes, ("morph of A into B", "swaps in A"), (morph, swap), strict=False):
    ax.plot(table["correlation"], "o-", color="0.5", label="correlation with the maps on A")
    ax.plot(table["reference"], "D-", label="reference-memory error")
    ax.plot(table["working"], "s-", label="working-memory error")
    ax.set(title=name, xlabel="share", ylim=(-0.05, 1.05))
axes[0].legend(fontsize="x-small", loc=(0.22, 0.2))
axes[2].plot(whose, "o-", label=["letter of A", "letter of B"])
axes[2].set(title="predicted at places not visited", xlabel="share of B", ylim=(-0.05, 1.05))
axes[2].legend(fontsize="x-small")

# %%
# The maps of the units change gradually with the letters. Reference memory does not: it fails
# with the first fifth of the letters, whether these come from a map that the network knows or
# from other places of the same map, and halfway the network predicts the letters of A and of B
# about equally rarely. The network can recall a map only if most of the letters that it sees fit
# this map. Working memory hardly suffers.

# %%
# Novel walls
# -----------
# The letters stay the same, and walls block some steps, although the network was trained in an
# open arena. Only the paths differ, and the network has to keep track of its position along them.

rows, columns = world.shape
wall = [(columns * y + 2, columns * y + 3) for y in range(rows) if y != rows // 2]
without, maps = measured(world.walk(**size, maps=[0]))
with_wall, _ = measured(world.walk(**size, maps=[0], walls=wall), maps)
print(pd.DataFrame([without, with_wall], index=["open", "two rooms with a door"]).round(3))

fig, ax = plt.subplots(figsize=(4, 5), layout="constrained")
walk = pf.record(model, world.walk(1, 30, seed=3, maps=[0], walls=wall), burn_in=0, progress=False)
pf.plot.walk(walk, ax=ax)

# %%
# Worlds of other shapes are made in the same way: ``pf.GridWorld(shape=(1, 20))`` is a linear
# track, and ``walls=`` makes a maze. A recipe takes ``shape`` and ``walls`` in its table
# ``[world]`` to train a network there.
