"""
3. Is it a place cell?
======================

A structured map is not enough: shuffles, letters, and the novel-map control.

Every place of a map has a fixed letter, so a unit that follows letters also has a structured rate
map. This tutorial asks what remains after accounting for letters, chance and negative activations.
"""

# %%
# Record a trained map, and novel maps as a control
# -------------------------------------------------

# sphinx_gallery_thumbnail_number = -1
import matplotlib.pyplot as plt
import numpy as np

import placeformer as pf

model = pf.load("nmda-a10")
settings = {"layers": "ffn.1", "n_walks": 32, "n_steps": 768, "progress": False}
trained = pf.record(model, **settings)
novel = pf.record(model, familiar=False, **settings)

# %%
# What the usual measures show
# ----------------------------
# The shuffle test exchanges the places of whole walks, so that the activations of one walk are
# paired with the trajectory of another, and counts how often place explains as much of the
# variance by chance: this proportion is p, and q is the false discovery rate over units. The test
# makes as many shuffles as the decisions need.

test = pf.shuffle_test(trained, seed=0, progress=False)
print(
    f"on the trained map {int((test['q'] <= 0.05).sum())} of {test.sizes['unit']} units have "
    f"q <= .05, after at most {int(test['n_shuffles'].max())} shuffles"
)

test_novel = pf.shuffle_test(novel, seed=0, progress=False)
print(f"on a novel map {int((test_novel['q'] <= 0.05).sum())} of {test_novel.sizes['unit']}")

# %%
# Every unit passes, even on a map that the network has never seen. The test is correct, but it
# answers a different question: whether the activity of the unit is related to place *in any way*,
# including through the letter.
#
# Negative activations
# --------------------
# Spatial information depends on the policy for negative values. Two policies may not even rank
# the units in the same order:

maps = pf.rate_maps(trained)
rectified = pf.spatial_information(maps, negatives="rectify")
shifted = pf.spatial_information(maps, negatives="shift")

fig, ax = plt.subplots()
ax.scatter(rectified, shifted, s=5)
ax.set(
    xlabel='information, negatives="rectify" (bits/spike)',
    ylabel='information, negatives="shift" (bits/spike)',
    title="One recording, two policies",
)
plt.show()

# %%
# A decision with its reason
# --------------------------
# :func:`placeformer.place_cells` combines the criteria: variance explained by place compared with
# shuffled places, variance explained by place beyond the letter, coherence compared with
# permutations among places with the same letter, a place field that accounts for most of the
# effect of place, and agreement between two halves. None depends on a policy for negative values.
# Every unit gets a decision and, if it is not a place cell, the first criterion that it failed
# (:doc:`/placecells`).

cells = pf.place_cells(trained, control=novel, progress=False)
print(cells["reason"].to_series().value_counts())

# %%
# ``depends_on_memory`` is stricter: the unit is a place cell on the trained map but not on the
# novel map, and place explains more of its variance on the trained map.

n = cells.sizes["unit"]
for name in ("is_place_cell", "control_is_place_cell", "depends_on_memory"):
    print(f"{name:<24}{int(cells[name].sum()):>5} of {n}")

# %%
# Maps of the place cells
# -----------------------
# Among the place cells, these are the units for which place explains most beyond the letter:

order = np.argsort(-cells["eta2_beyond"].where(cells["is_place_cell"], -1).values)[:3]
fields = pf.place_fields(maps)
maps_novel = pf.rate_maps(novel)
fields_novel = pf.place_fields(maps_novel)

fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for column, unit in enumerate(order):
    pf.plot.place_fields(maps, fields, unit=int(unit), ax=axes[0, column])
    pf.plot.place_fields(maps_novel, fields_novel, unit=int(unit), ax=axes[1, column])
axes[0, 0].set_ylabel("trained map")
axes[1, 0].set_ylabel("novel map")
plt.show()

# %%
# One map of one network is one sample. Whether networks with better memory have more place cells
# is a question for many networks: :doc:`05_mg_dose_response`.
