"""
3. Is it a place cell?
======================

A map with structure is not enough: shuffles, letters, and the novel-map control.

Every place of a map has a fixed letter, so a unit that follows letters has a structured rate map
too. This tutorial asks what is left when letters, chance and negative activations are accounted
for.
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
# What the usual measures say
# ---------------------------
# Shift the places of each walk against its activations, and count how often chance does as well:
# p = (k + 1) / (n + 1), with q the false-discovery rate over units.

test = pf.shuffle_test(
    trained, "position_variance_explained", n_shuffles=200, seed=0, progress=False
)
print(
    f"circular shifts: {int((test['q'] < 0.05).sum())} of {test.sizes['unit']} units have q < .05"
)

test_novel = pf.shuffle_test(
    novel, "position_variance_explained", n_shuffles=200, seed=0, progress=False
)
print(f"on a novel map:  {int((test_novel['q'] < 0.05).sum())} of {test_novel.sizes['unit']}")

# %%
# Nearly every unit passes, and so it does on a map the network has never seen. The test is right,
# but it answers another question: whether the unit has *anything* to do with place, be it by way of
# the letter.
#
# Negative activations
# --------------------
# Spatial information depends on the policy for negatives. Two policies need not even order the
# units alike:

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
# :func:`placeformer.place_cells` puts the criteria together: variance explained by place against
# circular shifts, what place adds beyond the letter, coherence against places of the same letter
# trading their rates, a place field that holds most of the map, and agreement of two halves. None
# of them depends on a policy for negatives. Every unit gets a decision and the first criterion it
# failed (:doc:`/placecells`).

cells = pf.place_cells(trained, control=novel, n_shuffles=200, progress=False)
print(cells["reason"].to_series().value_counts())

# %%
# ``depends_on_memory`` is the stricter question: a place cell on the trained map that is none on
# the novel map, and that place explains better on the trained one.

n = cells.sizes["unit"]
for name in ("is_place_cell", "control_is_place_cell", "depends_on_memory"):
    print(f"{name:<24}{int(cells[name].sum()):>5} of {n}")

# %%
# Look at them
# ------------
# The units that place explains best beyond the letter, among the place cells:

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
