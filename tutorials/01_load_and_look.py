"""
1. Load a network and look at it
================================

A network of the zoo, one walk, and what it remembers.

We load a trained network by name, let it walk on a map it knows, and see which of its predictions
come from working memory and which from reference memory.
"""

# %%
# The zoo
# -------
# A *zoo network* comes with the package: no download, no account. The name says what makes it
# different from the others. ``nmda-a10`` has the NMDA_α activation with α = 10.

import matplotlib.pyplot as plt

import placeformer as pf

print(*pf.list_models(), sep="\n")

# %%

model = pf.load("nmda-a10")
print(model.config)
print(model.world)

# %%
# α stands for the Mg²⁺ concentration: α = [Mg²⁺] / K_Mg with K_Mg = 3.57 mM. With α = 0 the
# activation is linear; with large α it is close to zero below ln α and close to the identity above.

print(f"α = {model.config.alpha} stands for {pf.alpha_to_mg(model.config.alpha):.1f} mM Mg²⁺")

# %%
# A walk
# ------
# The network's world is a set of grid maps with a letter at every place. It is told the actions
# (stay, east, south, north, west) and the letters seen so far, and predicts the letter at the place
# it moves to. It is never told where it is.
#
# :func:`placeformer.record` lets it walk and keeps what happened as an :class:`xarray.Dataset`.

recording = pf.record(model, n_walks=8, n_steps=256, progress=False)
recording

# %%
# For every step the recording says where the network was, which letter is there, what it predicted,
# and whether the place had been *visited* within the steps it can attend to. A prediction at a
# visited place can be read off working memory. At any other place of a trained map the letter can
# only come from the weights: reference memory.

pf.plot.walk(recording.isel(walk=[0], time=slice(0, 100)))
plt.show()

# %%
# How good is its memory?
# -----------------------
# The *error* is the fraction of wrong predictions; with ten letters, guessing gives 0.9. On *novel*
# maps, never trained on, nothing can be in the weights: reference memory has to be at chance there,
# and working memory must not suffer.

errors = {
    "trained maps": pf.memory_errors(model, n_walks=32, n_steps=512, progress=False),
    "novel maps": pf.memory_errors(model, n_walks=32, n_steps=512, familiar=False, progress=False),
}
ax = pf.plot.memory(errors)
ax.set_title("nmda-a10: error of working and reference memory")
plt.show()

# %%
# The bars around the points are 95 % Wilson intervals, and every number is in the Dataset:

errors["trained maps"].to_dataframe()

# %%
# Next: :doc:`02_record_and_map` looks at single units.
