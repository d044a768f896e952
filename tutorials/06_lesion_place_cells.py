"""
6. Lesion place cells
=====================

Lesion the place cells of a map, test the memory of that map, and compare with control units.

That place cells and memory occur together does not show that memory needs place cells. A lesion
can show this, if there is a control: other units that are as active, and that affect the output
as much.
"""

# %%
# One lesion
# ----------
# A place cell is a place cell of one map. We therefore find the place cells of the first trained
# map, lesion them, and test the memory of the same map, on other walks.

import matplotlib.pyplot as plt

import placeformer as pf

model = pf.load("nmda-a10")
recording = pf.record(model, layers="ffn.1", n_walks=32, n_steps=768, progress=False)
cells = pf.place_cells(recording, n_shuffles=500, progress=False)
place_cell = cells["is_place_cell"]
print(f"{int(place_cell.sum())} of the {place_cell.size} units of ffn.1 are place cells of map 0")

# %%
# :func:`placeformer.ablation_curve` replaces exactly these units by their mean, and scores the
# network before and after. It also lesions the same number of control units, of two kinds:
#
# - *random* units of the layer;
# - *stratified* units: the labels of the place cells are exchanged among units that move the
#   logits by a similar amount and are similarly active, so that a control set resembles the place
#   cells in these respects.
#
# All sets are scored on the same walks, so differences are paired.

walks = {"maps": [0], "n_walks": 32, "n_steps": 512, "seed": 1, "progress": False}
curve = pf.ablation_curve(model, cells, layers="ffn.1", repeats=39, **walks)
lesion = curve.sel(maps="trained").isel(fraction=1)
table = lesion["error"].mean("repeat").to_pandas()
table["intact"] = curve["error"].sel(maps="trained", selection="ordered").isel(fraction=0, repeat=0)
table.round(3)

# %%
# The column "ordered" is the lesion of the place cells. Without them the network makes six times
# as many errors of reference memory, and hardly more of working memory. But any lesion of this
# many units costs something: are place cells special?
#
# The test
# --------
# ``p_sets`` is an exact p-value: the rank of the place cells among the control sets. With 39 sets
# of each kind it cannot be below 1/40 = 0.025.

reference = lesion.sel(memory="reference")
for control in reference["control"].values:
    one = reference.sel(control=control)
    low, high = one["difference_interval"].values
    print(
        f"place cells minus {control} units: {float(one['difference']):+.3f} "
        f"({low:+.3f} to {high:+.3f}), p = {float(one['p_sets']):.3f}"
    )

fig, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for row, selection in enumerate(("random", "stratified")):
    errors = reference["error"].sel(selection=selection)
    ax.plot(errors, [row] * errors.size, "o", color="0.5", alpha=0.5)
ax.axvline(float(table.loc["reference", "ordered"]), color="C3", label="place cells")
ax.axvline(float(table.loc["reference", "intact"]), color="0.2", ls=":", label="intact network")
ax.set(
    yticks=[0, 1],
    yticklabels=["random", "stratified"],
    ylim=(-0.6, 1.6),
    xlabel="reference-memory error on map 0 (one point per control set)",
    title="Lesions of the place cells and of as many control units",
)
ax.legend(loc="center")
plt.show()

# %%
# The result: on this map, the lesion of the place cells costs more than that of every control set,
# of random and of stratified units; p = 0.025 is the smallest value that 39 sets allow. The
# interval of the difference applies to these particular units on other walks; only the test over
# sets is about place cells. Does reference memory then depend on place cells *as such*? One map of
# one network cannot tell. :doc:`/claims` repeats the lesion on two other maps of three seeds: on
# one of them, the place cells of this network cost less than stratified units, and over the seeds
# an excess is not shown.
#
# In units of Mg²⁺
# ----------------
# Which change of α at test time costs as much reference memory as the lesion?
# :func:`placeformer.equivalent_curve` interpolates between doses that were measured on the same
# walks of the same map, or states that no dose costs as much.

washout = pf.dose_response(model, alphas=[0, 1, 3, 5, 7, 10], **walks)
same = pf.equivalent_curve(washout, curve).sel(selection="ordered").isel(fraction=1)
print("equivalent α:", float(same["alpha"]), same["interval"].values, str(same["reason"].item()))

# %%
# One network is like one animal. A claim about place cells and memory needs several networks and
# seeds, and a criterion that is fixed beforehand.
#
# :doc:`11_is_it_specific` measures what else a perturbation costs, compared with controls.
#
# Next: :doc:`07_your_own_network`.
