"""
6. Lesion place cells
=====================

Take units out, in the order of their place-cell score, and compare with units that are alike in
everything else.

That place cells and memory come together does not say that memory needs place cells. A lesion does,
if there is a control: other units, as active and as strongly connected as the ones taken out.
"""

# %%
# One lesion
# ----------
# :func:`placeformer.ablate` replaces units by their mean, for as long as a block lasts.

import matplotlib.pyplot as plt
import numpy as np

import placeformer as pf

model = pf.load("nmda-a10")
recording = pf.record(model, layers="ffn.1", n_walks=32, n_steps=512, progress=False)
score = pf.place_cell_score(pf.rate_maps(recording), negatives="rectify").fillna(0)
best = np.argsort(-score.values)[:100]

before = pf.memory_errors(model, n_walks=32, n_steps=512, progress=False)["error"]
with pf.ablate(model, {"ffn.1": best}):
    after = pf.memory_errors(model, n_walks=32, n_steps=512, progress=False)["error"]
for memory in before["memory"].values:
    intact, lesioned = (float(error.sel(memory=memory)) for error in (before, after))
    print(f"{memory:<10} {intact:.3f} → {lesioned:.3f}")

# %%
# A curve with its controls
# -------------------------
# :func:`placeformer.ablation_curve` lesions growing shares of a layer: ordered by place-cell score,
# drawn at random, and *matched* to the ordered ones in mean activity and in the norm of the weights
# that read them. All are scored on the same walks, so that differences are paired.

curve = pf.ablation_curve(
    model,
    "place_cell_score",
    layers="ffn.1",
    fractions=[0, 0.1, 0.2, 0.3, 0.5],
    repeats=10,
    n_walks=32,
    n_steps=512,
    progress=False,
)
ax = pf.plot.ablation(curve)
plt.show()

# %%
# ``difference`` is the error of the ordered lesion less that of the control, with its bootstrap
# interval over walks; ``p_sets`` asks whether these units are special among such units.

print(curve["difference"].sel(maps="trained", memory="reference").to_pandas().round(3))
print(curve["p_sets"].sel(maps="trained", memory="reference").to_pandas().round(3))

# %%
# In units of Mg²⁺
# ----------------
# :func:`placeformer.equivalent_alpha` finds the test-time α that costs as much reference memory as
# the lesion, or says that there is none.

same = pf.equivalent_alpha(model, {"ffn.1": best}, n_walks=32, n_steps=512, progress=False)
print("equivalent α:", float(same["alpha"]), same["interval"].values, str(same["reason"].item()))

# %%
# One network is one animal. A claim about place cells and memory needs several, with their seeds,
# and a criterion fixed before looking.
#
# Next: :doc:`07_your_own_network`.
