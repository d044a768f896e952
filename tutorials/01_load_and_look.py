"""
1. Load a network and look at it
================================

A network from the zoo, one walk, and what the network remembers.

We load a trained network by name, let it walk on a map that it knows, and see which of its
predictions come from working memory and which from reference memory.
"""

# %%
# The zoo
# -------
# Seed 0 of every network of the *zoo* is part of the package and needs no download and no
# account. A network's name states how it differs from the others: ``nmda-a10`` has the NMDA_α
# activation with α = 10, and ``nmda-a10-s1`` is the same with another seed.

import matplotlib.pyplot as plt
import numpy as np

import placeformer as pf

print(len(pf.list_models()), "networks, among them", *pf.list_models("nmda-*"))

# %%

model = pf.load("nmda-a10")
print(model.config)
print(model.world)

# %%
# α represents the Mg²⁺ concentration: α = [Mg²⁺] / K_Mg with K_Mg = 3.57 mM. With α = 0 the
# activation is linear; with large α it is close to zero below ln α and close to the identity above.

print(f"α = {model.config.alpha} stands for {pf.alpha_to_mg(model.config.alpha):.1f} mM Mg²⁺")

# %%
# A walk
# ------
# The network's world is a set of grid maps with a letter at every place. Its inputs are the actions
# (stay, east, south, north, west) and the letters seen so far, and it predicts the letter at the
# place it moves to. It is never told where it is.
#
# :func:`placeformer.record` runs the network along walks and returns an :class:`xarray.Dataset`.

recording = pf.record(model, n_walks=8, n_steps=256, progress=False)
recording

# %%
# For every step, the recording contains the place, the letter there, the prediction, and whether
# the place had been *visited* within the steps that the network can attend to. At a visited place,
# the letter can be retrieved from working memory. At any other place of a trained map, it can only
# come from the weights, that is, from reference memory. The figure marks the two kinds of
# predictions along the walk, over the letters of the map, which are drawn as A to J.

fig, ax = plt.subplots(figsize=(6.5, 6), layout="constrained")
pf.plot.walk(recording.isel(walk=[0], time=slice(0, 100)), ax=ax)
letters = model.world.letters()[int(recording["map"][0])].reshape(model.world.side, -1)
for (y, x), letter in np.ndenumerate(letters):
    ax.text(x - 0.3, y - 0.3, "ABCDEFGHIJ"[letter], ha="center", va="center", color="0.5")
plt.show()

# %%
# There are ten letters for 121 places, so a letter does not reveal where the network is. It has
# to combine the letters that it has seen with its own movements.

# %%
# How good is its memory?
# -----------------------
# The *error* is the fraction of wrong predictions; with ten letters, guessing gives 0.9. The
# weights contain nothing about *novel* maps, on which the network was never trained: reference
# memory has to be at chance there, and working memory should not suffer.

errors = {
    "trained maps": pf.memory_errors(model, n_walks=32, n_steps=512, progress=False),
    "novel maps": pf.memory_errors(model, n_walks=32, n_steps=512, familiar=False, progress=False),
}
ax = pf.plot.memory(errors)
ax.set_title("nmda-a10: error of working and reference memory")
plt.show()

# %%
# The bars around the points are 95 % intervals over walks, and every number is in the Dataset:

errors["trained maps"].to_dataframe()

# %%
# Next: :doc:`02_record_and_map` looks at single units.
