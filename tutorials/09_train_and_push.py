"""
9. Train a network and push it to a hub
=======================================

From a recipe to a network that others load by its name, at the commit you mean.

A network small enough to be trained while you read learns one map of 16 letters. Two commits of it
go to a hub, and what lies between them is consolidation.
"""

# %%
# A recipe
# --------
# Everything that decides a trained network is in one TOML file: its seed, its world, its sizes, its
# activation with α (which has no default), and the training. Three walks in ten are on maps
# that are never met again, so that the network has to look letters up as well as learn them.

# sphinx_gallery_thumbnail_number = -1
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import placeformer as pf
from placeformer.training.model_card import publish

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
temporary = tempfile.TemporaryDirectory()  # everything this page writes is in it
folder = Path(temporary.name)
recipe = folder / "tiny.toml"
print(f"{recipe.name}: {recipe.write_text(RECIPE)} characters")

# %%
# Train
# -----
# :func:`placeformer.train` keeps a checkpoint in the folder it is given. Here it stops at step 200;
# called again, it goes on from there, to the bit as if it had never stopped.

early = pf.train(recipe, folder / "training", stop_at=200, progress=False)
print(f"step {early.step}, {early.seconds:.0f} s")

# %%
# A hub
# -----
# A page that is built without a network cannot push to huggingface.co. In its place stands a hub on
# 127.0.0.1, the one this library is tested with (``tests/local_hub.py`` of the repository, so run
# this page in a clone). The genuine client talks to it over HTTP. ``with as_alice():`` is all that
# points it there, with Alice's token and a cache in the temporary folder; your own token and cache
# are not touched. **Without that line, the same lines push to your account at huggingface.co**: log
# in once with ``hf auth login`` and put your name in the place of Alice's.

sys.path.append(str(Path(pf.__file__).parents[2] / "tests"))
from local_hub import LocalHub

hub = LocalHub({"hf_alice": "alice"})


def as_alice():
    """Talk to the hub on 127.0.0.1 as Alice."""
    return hub.visited("hf_alice", cache=folder / "cache")


# %%
# :func:`placeformer.push` makes the repository if there is none and pushes one commit. Its last
# part names it.

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
# Working memory comes first, on novel maps as well; there it goes on slowly, for this network was
# trained for seconds. Reference memory follows, and only for the map that is met again and again.
# On novel maps it stays at chance, since their letters are not in the weights.
#
# Publish
# -------
# ``publish`` stores the network, measures it *as stored* (float16), and writes its card; it is what
# ``placeformer train tiny.toml`` ends with. The folder is an entry of a zoo, and a repository of a
# hub.

model = publish(trainer, folder / "tiny", recipe=recipe, n_walks=64, n_steps=1024, progress=False)
for file in sorted((folder / "tiny").iterdir()):
    print(f"{file.name:<18}{file.stat().st_size:>8,} bytes")

# %%

for name, value in model.info["results"].items():
    print(f"{name:<24}{value:.3f}")

# %%
# Push and load
# -------------
# The commit takes the card, the recipe and the history with the weights. A network that nobody has
# measured, such as the first one, gets a card that says so.

with as_alice():
    print(pf.push(model, "alice/tiny", commit_message="After 800 steps"))

# %%
# Anybody loads it by its name. A name alone means the newest commit, which may change under a
# paper; a commit means the same weights for ever. Both are checked by size and sha256, and nothing
# is unpickled.

with as_alice():
    loaded = {
        "after 200 steps": pf.load(f"alice/tiny@{commit}"),
        "after 800 steps": pf.load("alice/tiny"),
    }
for name, network in loaded.items():
    print(f"{name}: {network.info['source']}, sha256 {network.info['sha256'][:12]}…")

# %%
# What a commit knows
# -------------------

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
# Between the two commits the letters of one map went into the weights: the reference error of the
# trained map falls, that of novel maps cannot. It is one network of one seed; and whatever is said
# of it has to name the commit.

temporary.cleanup()

# %%
# Larger networks take the same steps: ``placeformer train RECIPE.toml``, ``placeformer push FOLDER
# ORG/NAME`` and, for all activations and seeds of a family, ``placeformer sweep`` (:doc:`/hub`,
# :doc:`/zoo`).
