"""
12. When do place cells appear?
===============================

Networks of the family "consolidation" can be loaded at several steps of their training, starting
with the random weights at step 0. We use them to ask whether place cells appear before or after
the network remembers its maps, and whether a unit that is a place cell remains one.
"""

import placeformer as pf

name = "consolidation-nmda-a10"
pf.list_steps(name)

# %%
# A step is loaded like any network. It has the α of its training and the same maps.
early, late = pf.load(name, step=400), pf.load(name, step=3000)
for model in (early, late):
    errors = pf.memory_errors(model, n_walks=32, n_steps=1024, maps=[0, 1], progress=False)
    print(model.info["step"], errors.error.to_series().round(3).to_dict())

# %%
# :func:`placeformer.consolidation` measures every step in the same way: memory, place cells, and
# the similarity to the final network. Three of the twelve steps take half a minute. We test
# memory on the two maps with which training begins; the other maps are added later.
course = pf.consolidation(
    name, steps=[0, 600, 3000], maps=[0, 1], n_walks=32, recorded_map=0, progress=False
)
course.error.sel(memory="reference").to_pandas()

# %%
# Random weights already produce place cells (step 0): units that vary smoothly over places, on
# novel maps as well. Novel maps are therefore the control at every step, and so is step 0 itself.
# The row "depend on memory" is the fraction of units that are place cells of the trained map
# only, and for which place explains more variance there.
shares = course.place_cell_fraction.mean("layer").to_pandas()
shares["depend on memory"] = course.memory_dependent_fraction.mean("layer").to_pandas()
shares.round(3)

# %%
# **Turnover.** How many of the place cells at one step are place cells at the next? If the same
# number of units were drawn at random in every layer, some would be kept by chance. Even an
# unchanged network does not keep all of them in a second recording ("retest"), since each
# decision has an error. The exact p is the probability of keeping at least this many place cells
# by chance.
course[["kept", "kept_chance", "kept_excess", "kept_p"]].sel(
    compared=["previous", "retest"]
).to_dataframe().dropna().round(3)

# %%
# The results for all steps, and for three seeds of each α, are stored. In the figure, dotted
# lines are novel maps.
import xarray as xr

from placeformer.zoo.registry import results_folder

courses = xr.load_dataset(results_folder() / "consolidation.nc")
whole = courses.isel(model=courses.name.values.tolist().index(name))
axes = pf.plot.consolidation(whole)

# %%
# Rules that were fixed beforehand turn such time courses into answers. "when" is log₂ of the
# ratio of two times: that at which place cells have come halfway to their final fraction, and
# that at which reference memory has come halfway. :doc:`/consolidation` explains all rules and
# their limits.
from placeformer.evaluation.consolidation_rules import consolidation_answers

consolidation_answers(courses).round(2)

# %%
# The same function takes your own network, with its weights at every step and its behaviour:
# ``pf.consolidation(network, states={0: ..., 100: ...}, behaviour=walks, layers="encoder")``,
# with ``control=`` for a novel environment and ``score=`` for the performance in its own task.
