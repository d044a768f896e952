"""Measured networks with known answers, as profile_networks gives them."""

import numpy as np
import xarray as xr

ALPHAS = (0.0, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
OTHERS = ("relu", "gelu", "leaky_relu", "tanh")
KINDS = [("nmda", alpha) for alpha in ALPHAS] + [(name, np.nan) for name in OTHERS]


def falling(name, alpha):
    """Saturating fall of reference error from 0.8 to 0.2; other activations at 0.5."""
    return 0.5 if np.isnan(alpha) else 0.2 + 0.6 / (1 + alpha / 0.3)


def flat(name, alpha):
    return 0.5


def networks(reference=falling, working=lambda name, alpha: 0.01, *, seeds=3, spread=0.02, seed=0):
    """Errors of 40 walks around those of each kind; more place cells where reference memory is."""
    rng = np.random.default_rng(seed)
    rows = [(name, alpha, s) for s in range(seeds) for name, alpha in KINDS]
    n = np.broadcast_to([[[[300], [100]]] * 2], (len(rows), 2, 2, 40)).reshape(-1, 2, 2, 40)
    true = np.full((len(rows), 2, 2), 0.9)
    for i, (name, alpha, _) in enumerate(rows):
        true[i, 0] = working(name, alpha), reference(name, alpha) + rng.normal(0, spread)
        true[i, 1, 0] = true[i, 0, 0]
    wrong = rng.binomial(n, true.clip(0, 1)[..., None])
    error = wrong.sum(-1) / n.sum(-1)
    washed = rng.binomial(n, np.maximum(true, 0.85)[..., None]).astype(float)
    dosed = np.array([np.isfinite(alpha) for _, alpha, _ in rows])
    washed[~dosed] = np.nan
    share = 0.3 * (1 - error[:, 0, 1]) + rng.normal(0, 0.01, len(rows))
    place = np.stack([share, share / 3], 1)[..., None] * [1.0, 0.5]
    by_policy = np.stack([place, 2 * place], 1)
    alpha = np.array([alpha for _, alpha, _ in rows])
    return xr.Dataset(
        {
            "error": (("model", "maps", "memory"), error),
            "interval": (("model", "maps", "memory", "bound"), error[..., None] + [-0.01, 0.01]),
            "wrong": (("model", "maps", "memory", "walk"), wrong),
            "n": (("model", "maps", "memory", "walk"), n),
            "washout_wrong": (("model", "maps", "memory", "walk"), washed),
            "place_cell_fraction": (("model", "maps", "layer"), place),
            "memory_dependent_fraction": (("model", "layer"), place[:, 0] / 2),
            "information": (("model", "negatives", "maps", "layer"), by_policy),
            "eta2_beyond": (("model", "maps", "layer"), place),
            "history": (
                ("model", "step", "maps", "memory"),
                np.stack([np.full_like(error, 0.9), error], 1),
            ),
        },
        {
            "name": ("model", [f"{name}{a:g}-s{s}" for name, a, s in rows]),
            "activation_name": ("model", [name for name, _, _ in rows]),
            "alpha": ("model", alpha),
            "trained_alpha": ("model", alpha),
            "mg_mM": ("model", 3.57 * alpha),
            "seed": ("model", [s for _, _, s in rows]),
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "layer": ["ffn.0", "ffn.1"],
            "negatives": ["rectify", "shift"],
            "bound": ["lower", "upper"],
            "step": [500, 6000],
        },
        {"chance": 0.9, "washout": 0.0},
    )


def doses():
    """Test-time α of one network, as dose_response gives it."""
    alpha = np.array([10.0, 0, 1])
    error = np.stack([np.full((2, 2), value) for value in (0.1, 0.8, 0.4)])
    return xr.Dataset(
        {
            "error": (("model", "maps", "memory"), error),
            "interval": (("model", "maps", "memory", "bound"), error[..., None] + [-0.1, 0.1]),
        },
        {
            "name": ("model", ["nmda-a10"] * 3),
            "alpha": ("model", alpha),
            "trained_alpha": ("model", [10.0] * 3),
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "bound": ["lower", "upper"],
        },
        {"chance": 0.9, "n_walks": 24, "n_steps": 512, "where": "chunk_end"},
    )


def lesions():
    """Lesions of the same network, as ablation_curve gives them with another ability."""
    error = np.empty((2, 2, 3, 4, 5))
    error[:] = np.array([0.1, 0.3, 0.5, 0.9])[:, None]
    error[:, :, 1:, 1:3] -= 0.1
    two = np.stack([error[0, :1], error[1, :1]], 0)[:, 0]
    ends = ("maps", "memory", "selection", "fraction", "bound")
    gap = np.full((2, 2, 2), 0.1)
    return xr.Dataset(
        {
            "error": (("maps", "memory", "selection", "fraction", "repeat"), error),
            "interval": (ends, error.mean(-1)[..., None] + [-0.1, 0.1]),
            "area": (("maps", "memory", "control"), gap),
            "area_interval": (
                ("maps", "memory", "control", "bound"),
                gap[..., None] + [-0.05, 0.05],
            ),
            "area_p_sets": (("maps", "memory", "control"), gap),
            "score": (("measure", "selection", "fraction", "repeat"), two),
            "score_area": (("measure", "control"), gap[0]),
            "score_area_interval": (
                ("measure", "control", "bound"),
                gap[0, ..., None] + [-0.2, 0.2],
            ),
            "score_area_p_sets": (("measure", "control"), gap[0]),
            "order_score": ("unit", np.arange(10.0)),
        },
        {
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "selection": ["ordered", "random", "stratified"],
            "control": ["random", "stratified"],
            "fraction": [0, 0.1, 0.2, 1],
            "bound": ["lower", "upper"],
            "measure": ["decoding", "working memory, novel maps"],
        },
        {
            "order": "place_cell_score",
            "chance": 0.9,
            "n_walks": 16,
            "n_steps": 384,
            "where": "every_step",
        },
    )


def place_cell_lesions():
    """Lesions of two maps of three seeds at two α, which cost 0.2 more than others or 0.1 less."""
    rng = np.random.default_rng(0)
    cases = [(a, s, m) for a in (1.0, 10.0) for s in range(3) for m in (1, 2)]
    alpha, seed, index = (np.array(values) for values in zip(*cases, strict=True))
    more = np.where(alpha == 10, 0.2, -0.1)
    error = np.full((len(cases), 2, 3, 19), 0.3) + rng.normal(0, 0.001, (len(cases), 2, 3, 19))
    error[:, :, 0] = 0.3 + (more + 0.01 * (seed - 1))[:, None, None]
    change = 1 + (error[:, 1] - error[:, 1].min()) * 10
    difference = error[:, :, :1].mean(-1) - error[:, :, 1:].mean(-1)
    controls = ("lesion", "memory", "control")
    return xr.Dataset(
        {
            "error": (("lesion", "memory", "selection", "repeat"), error),
            "intact": (("lesion", "memory"), np.full((len(cases), 2), 0.05)),
            "n_place_cells": ("lesion", np.full(len(cases), 70)),
            "difference": (controls, difference),
            "difference_interval": ((*controls, "bound"), difference[..., None] + [-0.05, 0.05]),
            "p_sets": (controls, np.where(difference > 0, 0.05, 1.0)),
            "logit_change": (("lesion", "selection", "repeat"), change),
        },
        {
            "name": ("lesion", [f"net-a{a:g}-s{s}" for a, s, _ in cases]),
            "alpha": ("lesion", alpha),
            "seed": ("lesion", seed),
            "map": ("lesion", index),
            "layer": ("lesion", ["ffn.1"] * len(cases)),
            "memory": ["working", "reference"],
            "selection": ["ordered", "random", "stratified"],
            "control": ["random", "stratified"],
            "bound": ["lower", "upper"],
        },
        {"repeats": 19},
    )
