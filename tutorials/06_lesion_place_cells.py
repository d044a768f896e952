"""
6. Lesion place cells
=====================

Lesion units in the order of their place-cell score, and compare them with units that have similar
activity and output weights.

That place cells and memory occur together does not show that memory needs place cells. A lesion can
show this, if there is a control: other units that are as active and as strongly connected.
"""

# %%
# One lesion
# ----------
# :func:`placeformer.ablate` replaces units by their mean for the duration of a ``with`` block.

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
# :func:`placeformer.ablation_curve` lesions increasing fractions of a layer: units in the order of
# their place-cell score, random units, and *stratified* controls: the labels of the ordered units
# are exchanged among units that move the logits alike and are active alike. All are scored on the
# same walks, so differences are paired.

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
# ``difference`` is the error after the ordered lesion minus the error after the control lesion,
# with a bootstrap interval over walks; ``p_sets`` is an exact test over sets of control units.

print(curve["difference"].sel(maps="trained", memory="reference").to_pandas().round(3))
print(curve["p_sets"].sel(maps="trained", memory="reference").to_pandas().round(3))

# %%
# No fraction costs significantly more than stratified units (with ten repeats, ``p_sets`` cannot be
# below 0.09): this curve does not show that memory needs the units with high scores. A score
# averaged over maps blurs what is particular to one map. To lesion exactly the place cells of a map
# and test the memory of that map, use ``order=pf.place_cells(recording)`` and ``maps=[0]``
# (:doc:`/lesions`).
#
# In units of Mg²⁺
# ----------------
# :func:`placeformer.equivalent_alpha` finds the test-time α that costs as much reference memory as
# the lesion, or states that there is none.

same = pf.equivalent_alpha(model, {"ffn.1": best}, n_walks=32, n_steps=512, progress=False)
print("equivalent α:", float(same["alpha"]), same["interval"].values, str(same["reason"].item()))

# %%
# One network is one animal. A claim about place cells and memory needs several networks and seeds,
# and a criterion that is fixed beforehand.
#
# Next: :doc:`07_your_own_network`.
