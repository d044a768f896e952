"""
5. Mg²⁺ dose–response
=====================

Change the Mg²⁺ of a trained network, and measure how its memory suffers.

The α of NMDA_α corresponds to [Mg²⁺] / K_Mg. An experimenter can change Mg²⁺ while a network learns
(by training one network for every α) or after it has learnt (by washing Mg²⁺ out of a trained
network). These are different experiments.
"""

# %%
# Washout
# -------
# :func:`placeformer.magnesium` changes α in a trained network for the duration of a ``with`` block.
# Nothing is retrained, and afterwards the network is as it was before.

import matplotlib.pyplot as plt

import placeformer as pf

model = pf.load("nmda-a10")
with pf.magnesium(model, alpha=5):
    print(pf.memory_errors(model, n_walks=32, n_steps=512, progress=False)["error"].to_series())

# %%
# A dose–response
# ---------------
# :func:`placeformer.dose_response` does this for many doses on the same walks.

response = pf.dose_response(
    model, alphas=[0, 1, 2, 5, 7, 10, 14, 20, 50], n_walks=64, n_steps=512, progress=False
)
ax = pf.plot.dose_response(response, memory="reference")
ax.set_title("nmda-a10: Mg²⁺ changed at test time")
plt.show()

# %%
# The α of training is marked. Does reference memory in particular suffer at other values of α, or
# does the whole network break down? Here is working memory on the same walks:

ax = pf.plot.dose_response(response, memory="working")
ax.set_title("The same doses: working memory")
plt.show()

# %%
# A network whose α is changed after training differs from a network trained at that α. The family
# ``nmda`` has networks that were trained at eleven values of α: 0, 0.1, 1 and 10 with three seeds
# each, and the others with one. Every point is one network.

names = [name for name in pf.list_models("nmda-*") if not name.endswith("paper")]
trained = pf.dose_response(names, n_walks=32, n_steps=512, progress=False)
ax = pf.plot.dose_response(trained, memory="reference")
ax.set_title("Mg²⁺ changed before training")
plt.show()

# %%
# Fit a dose–response curve
# -------------------------
# :func:`placeformer.fit_hill` fits a saturating curve and states whether the data identify it. Here
# we fit the washout only, from 0 to the α of training.

washout = response.isel(model=(response["alpha"] <= 10).values)
fit = pf.fit_hill(washout["error"].sel(maps="trained", memory="reference"))
print("identifiable:", bool(fit["identifiable"]), "", str(fit["reason"].item()))
print(fit["value"].to_series().round(3))

# %%
# *Not identifiable* means that the measured doses do not determine the curve: curves with quite
# different values of K, or without any saturation, would fit as well. The printed reason says
# what is missing. Here, the K of the best fit lies below the smallest positive dose, so more than
# half of the fitted response falls between α = 0 and 1, where nothing was measured. The numbers
# above describe the fit and are not a result: report the doses and their errors, not K. To
# identify the curve, measure where the response changes, that is, between α = 0 and 1.
#
# Next: :doc:`06_lesion_place_cells` lesions units instead of changing Mg²⁺.
