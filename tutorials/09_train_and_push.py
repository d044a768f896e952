"""
9. Train a network and push it to a hub
=======================================

From a recipe to a network that others can load by name, at the commit that you specify.

A network small enough to be trained while you read learns one map of 16 letters. We push two
commits of it to a hub; the difference between them is consolidation.
"""

# %%
# A recipe
# --------
# One TOML file defines a trained network: its seed, its world, its sizes, its activation with α
# (which has no default), and the training. Three in ten walks are on maps that never occur again,
# so the network has to look letters up as well as learn them.

# sphinx_gallery_thumbnail_number = -1
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import placeformer as pf

RECIPE = """
name = "tiny"
seed = 0

[world]
side = 4
n_letters = 10
n_maps = 1
seed = 0

[network]
n_letters = 10
d_model = 32
n_layers = 1
n_heads = 2
d_head = 16
d_inner = 128
d_rnn = 32
chunk = 16
memory = 16
dropout = 0.0
activation = "nmda"
alpha = 10.0

[training]
steps = 800
walks = 64
chunks_per_walk = [[0, 4], [200, 8]]
learning_rate = 4e-3
warmup = 50
final_rate = 0.05
restarts = []
betas = [0.9, 0.98]
weight_decay = 0.01
clip = 1.0
maps = [[0, 1]]
fresh_maps = [[0, 0.0], [100, 0.3]]
precision = "float32"
compile = false
evaluate_every = 50
checkpoint_every = 200
"""
temporary = tempfile.TemporaryDirectory()  # holds everything this page writes
folder = Path(temporary.name)
recipe = folder / "tiny.toml"
print(f"{recipe.name}: {recipe.write_text(RECIPE)} characters")

# %%
# Train
# -----
# :func:`placeformer.train` keeps a checkpoint in its folder. Here it stops at step 200; if called
# again, it resumes from there, and the result is bit-identical to that of an uninterrupted run.

early = pf.train(recipe, folder / "training", stop_at=200, progress=False)
print(f"step {early.step}, {early.seconds:.0f} s")

# %%
# A hub
# -----
# This page is built offline and cannot push to huggingface.co. Instead, it uses a hub on
# 127.0.0.1, the same that the tests of this library use (``tests/helpers/local_hub.py``, so run
# this page in a clone of the repository). The real client talks to it over HTTP. ``with
# as_alice():`` redirects the client to it, with Alice's token and a cache in the temporary
# folder; your own token and cache are not used. **Without that line, the same code pushes to your
# account at huggingface.co**: log in once with ``hf auth login`` and replace Alice's name with
# yours.

sys.path.append(str(Path(pf.__file__).parents[2] / "tests"))
from helpers.local_hub import LocalHub

hub = LocalHub({"hf_alice": "alice"})


def as_alice():
    """Talk to the hub on 127.0.0.1 as Alice."""
    return hub.visited("hf_alice", cache=folder / "cache")


# %%
# :func:`placeformer.push` creates the repository if it does not exist and pushes one commit. The
# last part of the URL is the commit.

with as_alice():
    url = pf.push(early.model, "alice/tiny", commit_message="After 200 steps")
commit = url.rpartition("/")[2]
print(url)

# %%
# The whole training
# ------------------

trainer = pf.train(recipe, folder / "training", progress=False)
print(f"step {trainer.step} of {trainer.config.steps}, {trainer.seconds:.0f} s in all")

history = trainer.history
steps = [row["step"] for row in history]
fig, ax = plt.subplots()
for memory, color in (("working", "C0"), ("reference", "C1")):
    for maps, line in (("trained", "-"), ("novel", ":")):
        error = [row[f"{memory}_error_{maps}"] for row in history]
        ax.plot(steps, error, line, color=color, label=f"{memory} memory, {maps} maps")
ax.axvline(200, color="0.6", linewidth=1, label="first push")
ax.axhline(0.9, color="0.3", linestyle="--", linewidth=1, label="chance")
ax.set(ylim=(0, 1), xlabel="optimiser step", ylabel="error", title="The course of the training")
ax.legend(loc="upper right", bbox_to_anchor=(1, 0.88), fontsize="small")
plt.show()

# %%
# Working memory develops first, also on novel maps, where it improves slowly in the few seconds
# of this training. Reference memory follows, but only for the map that occurs repeatedly. On
# novel maps it stays at chance, because their letters are not in the weights.
#
# Publish
# -------
# ``pf.publish`` stores the network, measures it *as stored* (float16), and writes its card;
# ``placeformer train tiny.toml`` calls it at the end. The folder has the format of a zoo entry and
# of a hub repository.

model = pf.publish(
    trainer, folder / "tiny", recipe=recipe, n_walks=64, n_steps=1024, progress=False
)
for file in sorted((folder / "tiny").iterdir()):
    print(f"{file.name:<18}{file.stat().st_size:>8,} bytes")

# %%

for name, value in model.info["results"].items():
    print(f"{name:<24}{value:.3f}")

# %%
# Push and load
# -------------
# The commit contains the card, the recipe and the history along with the weights. A network
# without measured results, such as the first one, gets a card that says so.

with as_alice():
    print(pf.push(model, "alice/tiny", commit_message="After 800 steps"))

# %%
# Anybody can load the network by name. A name alone refers to the newest commit, which may change
# after a paper is published; a commit always refers to the same weights. Both are checked by size
# and sha256, and nothing is unpickled.

with as_alice():
    loaded = {
        "after 200 steps": pf.load(f"alice/tiny@{commit}"),
        "after 800 steps": pf.load("alice/tiny"),
    }
for name, network in loaded.items():
    print(f"{name}: {network.info['source']}, sha256 {network.info['sha256'][:12]}…")

# %%
# What each commit remembers
# --------------------------

errors = {
    f"{name}, {maps} map{'s' * (maps == 'novel')}": pf.memory_errors(
        network, n_walks=64, n_steps=1024, familiar=maps == "trained", progress=False
    )
    for name, network in loaded.items()
    for maps in ("trained", "novel")
}
fig, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
pf.plot.memory(errors, ax=ax)
ax.set_title("alice/tiny: two commits of one network")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %%
# Between the two commits, the letters of one map were stored in the weights: the reference error
# falls on the trained map and cannot fall on novel maps. This is one network with one seed, and any
# statement about it has to name the commit.

temporary.cleanup()

# %%
# The steps for larger networks are the same: ``placeformer train RECIPE.toml``, ``placeformer push
# FOLDER ORG/NAME`` and, for all activations and seeds of a family, ``placeformer sweep``
# (:doc:`/hub`, :doc:`/zoo`).
