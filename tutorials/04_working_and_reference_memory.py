"""
4. Working and reference memory
===============================

Where does a correct prediction come from: the last steps, or training?

The network attends to at most 64 earlier steps. A letter seen within them can be looked up; any
other letter has to be known from training. This tutorial separates the two, and shows what
changes with α, that is, with Mg²⁺.
"""

# %%
# Two networks that differ in α
# -----------------------------
# ``nmda-a10`` and ``nmda-a0`` have the same recipe, the same initial weights and the same world.
# With α = 0 (no Mg²⁺) the feed-forward layers are linear.

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import placeformer as pf

networks = {name: pf.load(name) for name in ("nmda-a10", "nmda-a0")}

# %%
# The errors
# ----------
# By default :func:`placeformer.memory_errors` uses the last step of each chunk, where the attended
# window is longest, as the paper does. ``familiar=False`` uses novel maps.

errors = {
    (name, maps): pf.memory_errors(
        model, n_walks=64, n_steps=512, familiar=maps == "trained", progress=False
    )
    for name, model in networks.items()
    for maps in ("trained", "novel")
}
table = xr.Dataset({" / ".join(key): one["error"] for key, one in errors.items()}).to_dataframe()
table.round(3)

# %%
# Working memory hardly differs between the two networks. Reference memory does, but only on trained
# maps; on novel maps it is at chance (0.9) for both, because their letters are not in the weights.

ax = pf.plot.memory({" / ".join(key): one for key, one in errors.items()})
ax.set_title("Memory with and without Mg²⁺")
plt.show()

# %%
# Error against the time since the last visit
# -------------------------------------------
# ``visited`` divides the predictions into two kinds. A recording also shows how many steps ago
# the place was last visited: :func:`placeformer.record` keeps the place, prediction and letter of
# every step.

BINS = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def steps_since_visit(recording):
    """Steps since the place was last visited (walk, time); NaN where it never was."""
    place = (recording["y"] * 100 + recording["x"]).values.astype(int)
    since = np.full(place.shape, np.nan)
    for lag in range(place.shape[1] - 1, 0, -1):
        again = place[:, lag:] == place[:, :-lag]
        since[:, lag:][again] = lag
    return since


centres = [np.sqrt(low * (high - 1)) for low, high in pairwise(BINS)]
fig, ax = plt.subplots()
for name, model in networks.items():
    recording = pf.record(model, layers="position", n_walks=128, n_steps=512, progress=False)
    since, wrong = steps_since_visit(recording), ~recording["correct"].values
    inside = [(since >= low) & (since < high) for low, high in pairwise(BINS)]
    ax.plot(centres, [wrong[chosen].mean() for chosen in inside], "o-", label=name)
ax.axvspan(33, 64, color="0.85", label="end of the attended window")
ax.axhline(0.9, color="0.5", linestyle=":", label="chance")
ax.set(
    xscale="log",
    ylim=(0, 1),
    xlabel="steps since the last visit (middle of bins 1, 2–3, 4–7, …)",
    ylabel="error",
    title="Recall against the time since the last visit, trained map 0",
)
ax.legend()
plt.show()

# %%
# Up to about 32 steps, both networks look the letter up. Between 33 and 64 steps, it depends on
# where the prediction falls in its chunk. Beyond that, only reference memory remains, and the
# network without Mg²⁺ has little of it.
#
# Two networks with one seed are a single pair, not a dose–response curve.
# :doc:`05_mg_dose_response` continues from here.
