"""
13. Mg²⁺ at the wrong time
==========================

α represents Mg²⁺ at the NMDA receptor. The effect of a wrong α depends on *when* it occurs: while
memories are acquired, while they are consolidated, or when they are retrieved. A recipe may
change α during training, and a trained network can be tested at another α at any step.
"""

from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

import placeformer as pf
from placeformer.training.recipe import Recipe

# %%
# In the smallest world, 4 × 4 places and two maps, a network learns both memories in 600 steps,
# which take a quarter of a minute. The recipe is that of ``zoo/families/windows.toml``; ``alpha``
# is a schedule.
network = {
    "n_letters": 8, "d_model": 32, "n_layers": 2, "n_heads": 2, "d_head": 16, "d_inner": 64,
    "d_rnn": 16, "chunk": 16, "memory": 16, "dropout": 0.0, "activation": "nmda",
}  # fmt: skip
training = {
    "steps": 600, "walks": 32, "chunks_per_walk": [[0, 4], [150, 16]], "learning_rate": 4e-3,
    "warmup": 50, "final_rate": 0.05, "restarts": [], "betas": [0.9, 0.98], "weight_decay": 0.01,
    "clip": 1.0, "maps": [[0, 2]], "fresh_maps": [[0, 0.0], [200, 0.25]], "precision": "float32",
    "compile": False, "evaluate_every": 50, "checkpoint_every": 600, "optimizer": "muon",
}  # fmt: skip
schedules = {
    "never": 10.0,
    "steps 200 to 400": [[0, 10.0], [200, 0.1], [400, 10.0]],
}
histories = {}
for name, alpha in schedules.items():
    recipe = Recipe.from_dict(
        {
            "name": "small", "seed": 0, "network": network | {"alpha": alpha},
            "world": {"side": 4, "n_letters": 8, "n_maps": 2, "seed": 0}, "training": training,
        }
    )  # fmt: skip
    with TemporaryDirectory() as run:
        histories[name] = pf.train(recipe, run, progress=False).history

# %%
# The figure shows errors on the trained maps during both training runs. The same seed sets the
# weights, the walks and the maps, so the networks are identical until step 200.
fig, ax = plt.subplots(layout="constrained")
for (name, history), line in zip(histories.items(), ("-", "--"), strict=True):
    for color, memory in (("C0", "working"), ("C1", "reference")):
        steps = [row["step"] for row in history]
        errors = [row[f"{memory}_error_trained"] for row in history]
        ax.plot(steps, errors, line, color=color, label=f"{memory}, α = 0.1: {name}")
ax.axvspan(200, 400, color="0.9", zorder=0)
ax.set(xlabel="optimiser steps", ylabel="share of wrong letters", ylim=(0, 1))
ax.legend()

# %%
# One seed is not evidence. For every window, five seeds were trained and compared with the
# control of the same seed; the verdict is "costs" if the whole interval over seeds is above 0.
import xarray as xr

from placeformer.evaluation.consolidation_rules import amnesia_answers, window_answers
from placeformer.zoo.registry import results_folder

window_answers(xr.load_dataset(results_folder() / "windows.nc")).round(3)

# %%
# **At retrieval.** Changing Mg²⁺ at test time only (:func:`placeformer.magnesium`) changes what
# the network can recall, not what it has stored. The cost depends on how far the training has
# progressed.
for step in (600, 1300, 3000):
    model = pf.load("consolidation-nmda-a10", step=step)
    response = pf.dose_response(
        model, alphas=[0.1, 1, 10], n_walks=16, n_steps=512, maps=[0, 1], progress=False
    )
    errors = response.error.sel(maps="trained", memory="reference")
    print(
        step,
        dict(zip(response.alpha.values.tolist(), errors.values.round(3).tolist(), strict=True)),
    )

# %%
# **Amnesia.** Networks that have learnt eight maps learn four more. At several steps of this
# further training, the old and the new maps are tested with the intact network (are the old ones
# forgotten?), at α = 2, and with place cells of an old or of a new map lesioned (which memories
# suffer more?). :func:`placeformer.amnesia_curve` makes such curves from the folder of a training
# with snapshots; these were measured beforehand, with and without rehearsal of the old maps.
curves = xr.load_dataset(results_folder() / "amnesia.nc")
fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for ax, i in zip(axes, (0, 3), strict=True):  # one seed, with rehearsal and without
    pf.plot.amnesia_curve(curves.isel(model=i).sel(maps=["old", "new"]), ax=ax)
    ax.set_title(f"rehearsal: {curves.rehearsal.values[i]}")
axes[0].get_legend().remove()

# %%
# The table gives the answers over seeds, at the last step. A gradient is judged only if both the
# old and the new maps are remembered well enough to lose something.
amnesia_answers(curves).round(3)
