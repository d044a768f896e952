"""Equivalent Mg²⁺ of every lesion of a curve, from counts on the same walks."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer.equivalence import dose_range, equivalence
from placeformer.pairing import draws, ratio, resampled

WALKS = ("n_walks", "n_steps", "where", "seed", "maps_walked")
"""What both have to be scored with."""

SETS = ("selection", "fraction")
COUNTS = ("wrong", "n")


def equivalent_curve(
    washout: xr.Dataset,
    curve: xr.Dataset,
    *,
    memory: str = "reference",
    n_boot: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Test-time α that costs as much memory as each lesion of a curve, from what was counted.

    Both were scored on the same walks on trained maps, so that nothing has to be run.

    Parameters
    ----------
    washout
        Result of :func:`dose_response` over test-time α of one network, that of training among
        them. The doses below it are used (washout); where there is none, those above it (block).
    curve
        Result of :func:`ablation_curve` of the same network, with the same `n_walks`, `n_steps`,
        `where`, `seed` and `maps`.
    memory
        ``"reference"`` or ``"working"``.
    n_boot, seed
        Bootstrap samples of the walks. The sets of a fraction are not drawn anew.

    Returns
    -------
    xarray.Dataset
        `alpha`, `mg_mM`, `interval`, `found`, `reason` and `lesion_error`, as
        :func:`equivalent_alpha` gives them, over ``selection`` and ``fraction``; an error is the
        mean over the sets of a fraction, and NaN where there is no set.

    Raises
    ------
    ValueError
        Other walks or maps, several networks, or doses without that of training.

    Examples
    --------
    >>> walks = {"n_walks": 64, "n_steps": 1024}  # doctest: +SKIP
    >>> washout = pf.dose_response(model, alphas=[0, 1, 3, 10], **walks)  # doctest: +SKIP
    >>> pf.equivalent_curve(washout, pf.ablation_curve(model, **walks))  # doctest: +SKIP
    """
    trained = check(washout, curve)
    at = {"maps": "trained", "memory": memory}
    doses, by_dose = counts_by_dose(washout.sel(at), trained)
    sets = curve["wrong"].sel(at).mean("repeat", skipna=False).transpose(*SETS, "walk")
    n = curve["n"].sel(at).values
    wrong = np.concatenate([sets.values.reshape(-1, n.size), by_dose])
    error = ratio(wrong, n)
    boot = resampled(wrong, n, draws(n.size, n_boot, np.random.default_rng(seed)))
    last = range(len(wrong) - doses.size, len(wrong))
    found = [
        equivalence(doses, error[[i, *last]], boot[:, [i, *last]]).drop_dims("dose")
        for i in range(last[0])
    ]
    like: dict[str, Any] = {"combine_attrs": "override", "join": "exact"}
    size = sets.sizes["fraction"]
    rows = [
        xr.concat(found[i : i + size], sets["fraction"], **like) for i in range(0, len(found), size)
    ]
    result = xr.concat(rows, sets["selection"], **like)
    settings: dict[str, Any] = {"memory": memory, "n_boot": n_boot, "trained_alpha": trained}
    about = schema.provenance(curve, "equivalent_curve", seed=seed, **settings)
    return result.assign_attrs({**settings, schema.PROVENANCE: about})


def counts_by_dose(
    washout: xr.Dataset, trained: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Doses outwards from that of training, and wrong predictions (dose, walk) at each."""
    each = washout["alpha"].values
    below = each <= trained
    doses = dose_range(each[below] if (each < trained).any() else each, trained)
    which = [int(np.flatnonzero(each == dose)[0]) for dose in doses]
    return doses, washout["wrong"].transpose("model", "walk").values[which]


def check(washout: xr.Dataset, curve: xr.Dataset) -> float:
    """Return the α of training; refuse what cannot be paired."""
    for name, data, function in (
        ("washout", washout, "dose_response"),
        ("curve", curve, "ablation_curve"),
    ):
        if missing := [key for key in COUNTS if key not in data]:
            raise ValueError(
                f"{name} must be a result of {function} with its counts, but "
                f"{', '.join(missing)} is missing"
            )
    for key in WALKS:
        if (a := washout.attrs.get(key)) != (b := curve.attrs.get(key)):
            raise ValueError(
                f"washout and curve must be scored on the same walks, found {key} {a!r} and {b!r}"
            )
    if not (washout["n"] == curve["n"]).all():
        raise ValueError(
            "washout and curve must count the same predictions, found "
            f"{int(washout['n'].isel(model=0).sum())} and {int(curve['n'].sum())}"
        )
    pairs = np.unique([washout["alpha"].values, washout["trained_alpha"].values], axis=1)
    trained = np.unique(pairs[1])
    if trained.size != 1 or trained[0] not in pairs[0]:
        raise ValueError(
            f"washout must be of one network, at its α of training among others, found α "
            f"{pairs[0].tolist()} of networks trained at {trained.tolist()}"
        )
    check_one_network(washout, curve, float(trained[0]))
    return float(trained[0])


def check_one_network(washout: xr.Dataset, curve: xr.Dataset, trained: float) -> None:
    """Refuse a curve that says it is of another network."""
    lesioned = schema.read_provenance(curve)["steps"][-1].get("network", {})
    name = str(washout["name"].values[0])
    other = lesioned.get("name") or name  # a network without a name may be any
    if (other, lesioned.get("alpha", trained)) != (name, trained):
        raise ValueError(
            f"washout and curve must be of one network, found {name!r}, trained at α = "
            f"{trained:g}, and {other!r}, trained at α = {lesioned['alpha']}"
        )
