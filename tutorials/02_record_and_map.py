"""
2. Record units and map them
============================

From activations to rate maps, spatial information and place fields.

An electrophysiologist records cells while an animal runs and averages their firing at each place.
We do the same with the feed-forward units of a network.
"""

# %%
# Record
# ------
# By default the units of all feed-forward layers are recorded on one trained map, since a rate map
# describes a single environment. ``layers`` selects others by name ("position", "attention.*").

# sphinx_gallery_thumbnail_number = -1
import matplotlib.pyplot as plt
import numpy as np

import placeformer as pf

model = pf.load("nmda-a10")
recording = pf.record(model, n_walks=32, n_steps=768, progress=False)
activation = recording["activation"]
print(f"{activation.sizes['unit']} units, {activation.sizes['walk']} walks of 768 steps")

# %%
# Activations are **signed**. This matters for every measure that is defined for firing rates:

print(f"{100 * float((activation < 0).mean()):.0f} % of the activations are negative")

# %%
# Rate maps
# ---------
# ``rate`` is the mean activation at each place, and ``occupancy`` the number of samples there.
# Places that were never visited have rate NaN and occupancy 0, and are hatched in figures.

maps = pf.rate_maps(recording)
maps

# %%
# Measures
# --------
# Skaggs' spatial information is defined for rates, so it needs a policy for negative values:
# ``"rectify"`` sets them to 0, ``"shift"`` subtracts the lowest value of each map. The attributes
# of the result state the policy. The variance explained by position, η², needs no policy.

information = pf.spatial_information(maps, negatives="shift")
explained = pf.position_variance_explained(recording)
print(information.attrs)

fig, ax = plt.subplots()
for layer in np.unique(maps["layer"]):
    chosen = maps["layer"].values == layer
    ax.scatter(explained[chosen], information[chosen], s=6, label=layer)
ax.set(xlabel="η², variance explained by position", ylabel="information (bits/spike, shifted)")
ax.legend(title="layer")
plt.show()

# %%
# The two measures rank the units differently: information favours maps that are sparse after the
# shift, whereas η² favours reliable ones. Report both, and state the policy.
#
# Place fields
# ------------
# A field is a connected set of places whose rate stands out from the map's baseline. The
# place-cell score compares the rates inside and outside the best field and favours small fields.

fields = pf.place_fields(maps)
score = pf.place_cell_score(maps, negatives="shift")
best = np.argsort(-score.values)[:6]

fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained")
for ax, unit in zip(axes.flat, best, strict=True):
    pf.plot.place_fields(maps, fields, unit=int(unit), ax=ax)
plt.show()

# %%
# These are the six units with the highest scores. Are they place cells? A letter is at fixed places
# of a map, so a unit that follows a letter also has a structured map: :doc:`03_is_it_a_place_cell`.
