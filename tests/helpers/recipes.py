"""Recipes of tiny networks, and comparisons of what they train."""

import torch

from placeformer.training.recipe import Recipe

RECIPE = {
    "name": "tiny",
    "seed": 0,
    "world": {"side": 4, "n_letters": 5, "n_maps": 4, "seed": 0},
    "network": {
        "n_letters": 5,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_head": 8,
        "d_inner": 16,
        "d_rnn": 8,
        "chunk": 8,
        "memory": 8,
        "dropout": 0.1,
        "activation": "nmda",
        "alpha": 10.0,
    },
    "training": {
        "steps": 24,
        "walks": 4,
        "chunks_per_walk": [[0, 3], [3, 5]],
        "learning_rate": 1e-2,
        "warmup": 4,
        "final_rate": 0.1,
        "restarts": [],
        "betas": [0.9, 0.98],
        "weight_decay": 0.01,
        "clip": 1.0,
        "maps": [[0, 2], [7, 4]],
        "fresh_maps": [[0, 0.0], [5, 0.5]],
        "precision": "float32",
        "compile": False,
        "evaluate_every": 6,
        "checkpoint_every": 1,
    },
}


def recipe(**training):
    return Recipe.from_dict(RECIPE | {"training": RECIPE["training"] | training})


def weights(trainer):
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


def assert_bit_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def toml(entries):
    lines = [f'name = "{entries["name"]}"', f"seed = {entries['seed']}"]
    for table in ("world", "network", "training"):
        lines.append(f"[{table}]")
        for key, value in entries[table].items():
            text = str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')
            lines.append(f"{key} = {text}")
    return "\n".join(lines)


FAMILY = {
    "family": {"prefix": "mini-", "alphas": [0, 0.1], "activations": ["gelu"], "seeds": [0, 2]},
    "world": {k: v for k, v in RECIPE["world"].items() if k != "seed"},
    "network": {k: v for k, v in RECIPE["network"].items() if k not in ("activation", "alpha")},
    "training": RECIPE["training"],
}

KINDS = [("nmda", 10.0), ("relu", None), ("nmda", 0.0), ("gelu", None), ("nmda", 0.5)]


def entries(name, seed=0, activation="nmda", alpha=10.0, dropout=0.0, **training):
    """Tables of a recipe; its seed is that of the maps too."""
    network = RECIPE["network"] | {"activation": activation, "dropout": dropout}
    network |= {"alpha": alpha} if alpha is not None else {}
    if alpha is None:
        del network["alpha"]
    return RECIPE | {
        "name": name,
        "seed": seed,
        "world": RECIPE["world"] | {"seed": seed},
        "network": network,
        "training": RECIPE["training"] | training,
    }


def one(name, *args, **options):
    return Recipe.from_dict(entries(name, *args, **options))


def family(size=None, **training):
    return [one(f"m{i}", i, *kind, **training) for i, kind in enumerate(KINDS[:size])]


def run(trainers, steps):
    for _ in range(steps):
        for trainer in trainers:
            trainer.train_step()


def assert_close(member, trainer, atol):
    theirs = trainer.model.state_dict()
    for name, weight in member.model.state_dict().items():
        torch.testing.assert_close(
            weight.cpu(),
            theirs[name],
            rtol=0,
            atol=atol,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def muon(name="tiny", *args, **training):
    """A recipe that trains with Muon."""
    return one(name, *args, **{"optimizer": "muon"} | training)
