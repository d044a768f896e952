"""
12. When do place cells appear?
===============================

Networks of the family "consolidation" can be loaded at several steps of their training, from the
random weights at step 0 on. With them we ask when place cells come to be, before or after the
network remembers its maps, and whether a unit that is a place cell stays one.
"""

import placeformer as pf

name = "consolidation-nmda-a10"
pf.list_steps(name)

# %%
# A step is loaded like any network. Its α is the one it was trained at, and its maps are the same.
early, late = pf.load(name, step=400), pf.load(name, step=3000)
for model in (early, late):
    errors = pf.memory_errors(model, n_walks=32, n_steps=1024, maps=[0, 1], progress=False)
    print(model.info["step"], errors.error.to_series().round(3).to_dict())

# %%
# :func:`placeformer.consolidation` measures every step in the same way: memory, place cells, and
# the way to the final network. Three of the twelve steps take half a minute. We test memory on the
# two maps that training begins with; the others come in later.
course = pf.consolidation(
    name, steps=[0, 600, 3000], maps=[0, 1], n_walks=32, recorded_map=0, progress=False
)
course.error.sel(memory="reference").to_pandas()

# %%
# Random weights already make place cells (step 0): units that vary smoothly over places, as they
# do on a novel map. Novel maps are therefore the control at every step, and so is step 0 itself.
# What depends on memory is the share of units that are place cells of the trained map only, where
# place explains more.
shares = course.place_cell_fraction.mean("layer").to_pandas()
shares["depend on memory"] = course.memory_dependent_fraction.mean("layer").to_pandas()
shares.round(3)

# %%
# **Turnover.** Of the place cells of one step, how many are place cells at the next? If as many
# units were drawn at random in every layer, some would be kept by chance, and even an unchanged
# network does not keep all of them in a second recording ("retest"), since each decision has an
# error. The exact p is that of sharing so many place cells by chance.
course[["kept", "kept_chance", "kept_excess", "kept_p"]].sel(
    compared=["previous", "retest"]
).to_dataframe().dropna().round(3)

# %%
# More steps have been measured beforehand, for three seeds of each α. The lines of novel maps are
# dotted.
import xarray as xr

from placeformer.zoo.registry import results_folder

courses = xr.load_dataset(results_folder() / "consolidation.nc")
whole = courses.isel(model=courses.name.values.tolist().index(name))
axes = pf.plot.consolidation(whole)

# %%
# The rules that were fixed beforehand turn such courses into answers. "when" is log₂ of the time
# at which place cells are half of what they become, over that of reference memory.
# :doc:`/consolidation` has all of them, and says what they cannot show.
from placeformer.evaluation.consolidation_rules import consolidation_answers

consolidation_answers(courses).round(2)

# %%
# The same function takes a network of your own, with its weights at every step and its behaviour:
# ``pf.consolidation(network, states={0: ..., 100: ...}, behaviour=walks, layers="encoder")``, with
# ``control=`` for a novel environment and ``score=`` for whatever it is trained to do.
