"""
5. Mg²⁺ dose–response
=====================

Change the Mg²⁺ of a trained network, and measure what its memory loses.

α of NMDA_α plays [Mg²⁺] / K_Mg. An experimenter can change Mg²⁺ while a network learns (train one
for every α) or after it has learnt (wash Mg²⁺ out of a trained one). The two are different
experiments.
"""

# %%
# Washout
# -------
# :func:`placeformer.magnesium` changes α of a trained network for as long as a block lasts. Nothing
# is trained anew, and afterwards the network is as it was.

import matplotlib.pyplot as plt

import placeformer as pf

model = pf.load("nmda-a10")
with pf.magnesium(model, alpha=5):
    print(pf.memory_errors(model, n_walks=32, n_steps=512, progress=False)["error"].to_series())

# %%
# A dose–response
# ---------------
# :func:`placeformer.dose_response` does this for many doses, on the same walks.

response = pf.dose_response(
    model, alphas=[0, 1, 2, 5, 7, 10, 14, 20, 50], n_walks=64, n_steps=512, progress=False
)
ax = pf.plot.dose_response(response, memory="reference")
ax.set_title("nmda-a10: Mg²⁺ changed at test time")
plt.show()

# %%
# The α of training is marked. Is it memory that suffers away from it, or does the network simply
# break? Working memory on the same walks:

ax = pf.plot.dose_response(response, memory="working")
ax.set_title("The same doses: working memory")
plt.show()

# %%
# A network changed after training is not one trained at that α. The family ``nmda`` has twelve
# networks that learnt at four values of α, three seeds each: every point is one of them.

names = [name for name in pf.list_models("nmda-*") if not name.endswith("paper")]
trained = pf.dose_response(names, n_walks=32, n_steps=512, progress=False)
ax = pf.plot.dose_response(trained, memory="reference")
ax.set_title("Mg²⁺ changed before training")
plt.show()

# %%
# How much is a dose worth?
# -------------------------
# :func:`placeformer.fit_hill` fits a saturating curve and says whether the data can tell one. Here
# it is asked for the washout alone, from 0 to the α of training.

washout = response.isel(model=(response["alpha"] <= 10).values)
fit = pf.fit_hill(washout["error"].sel(maps="trained", memory="reference"))
print("identifiable:", bool(fit["identifiable"]), "", str(fit["reason"].item()))
print(fit["value"].to_series().round(3))

# %%
# Next: :doc:`06_lesion_place_cells` takes units away instead of Mg²⁺.
