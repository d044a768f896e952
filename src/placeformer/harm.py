"""What lesions and Mg²⁺ at test time do to the memory of one map: the causal part of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.comparison import memory_comparison
from placeformer.equivalents import equivalent_curve
from placeformer.lesioncurve import ablation_curve, reference_of
from placeformer.lesionplan import CONTROLS, TooFewAlike
from placeformer.mg import dose_response
from placeformer.model import NavigationTransformer
from placeformer.relatives import relatives
from placeformer.settings import Settings

MAPS = (0,)
FRACTIONS = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
WASHOUT = (0, 0.01, 0.03, 0.1, 0.3, 1)
"""Test-time α over that of training."""

BLOCK = (0, 0.1, 0.3, 1, 3, 10)
"""Test-time α of a network trained at 0, which cannot be washed out."""


@dataclass(frozen=True)
class Harm:
    """What was measured in one network.

    Attributes
    ----------
    lesions
        Ablation curve of the last feed-forward layer, place cells first. Its attribute
        `n_place_cells` says how many there are.
    washout
        Dose response to α at test time; None without NMDA_α.
    equivalents
        Equivalent α of every lesion; None without NMDA_α.
    comparison
        All of this beside the networks of the zoo that were trained alike, see
        :func:`memory_comparison`; None without NMDA_α, and for a network that is not in the zoo.
    """

    lesions: xr.Dataset
    washout: xr.Dataset | None = None
    equivalents: xr.Dataset | None = None
    comparison: xr.Dataset | None = None

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The Datasets that there are, by name."""
        every = {
            "lesions": self.lesions, "washout": self.washout, "equivalents": self.equivalents,
            "comparison": self.comparison,
        }  # fmt: skip
        return {name: data for name, data in every.items() if data is not None}


def make_harm(
    model: NavigationTransformer,
    units: xr.Dataset,
    settings: Settings,
    *,
    progress: bool = False,
) -> Harm:
    """Lesion units of the last feed-forward layer by what they do on a map, and change α.

    Both are scored on the same walks on the first map, at the ends of chunks, so that every lesion
    has an equivalent α. Lesions of the last layer are cheap: what comes before is run once for all.

    Parameters
    ----------
    model
        A network with its world.
    units
        Of the first trained map: `is_place_cell` and `score` (unit).
    settings
        How much is scored. The walks are others than those on which `units` were measured.
    progress
        Show progress bars.
    """
    walks: dict[str, Any] = {
        "n_walks": settings.lesion_walks, "n_steps": settings.lesion_steps, "maps": MAPS,
        "seed": settings.seed + 1, "progress": progress,
    }  # fmt: skip
    lesions = curve_of(model, units, settings.lesion_repeats, walks)
    if model.config.alpha is None:
        return Harm(lesions)
    washout = dose_response(model, alphas=test_alphas(model.config.alpha), **walks)
    equivalents = equivalent_curve(washout, lesions, seed=settings.seed)
    family = relatives(str(model.info.get("sha256")))
    if family is None:
        return Harm(lesions, washout, equivalents)
    together = memory_comparison(family, washout, lesions, seed=settings.seed)
    return Harm(lesions, washout, equivalents, together)


def test_alphas(trained: float) -> NDArray[np.float64]:
    """Test-time α, that of training among them."""
    return np.array(WASHOUT) * trained if trained else np.array(BLOCK, float)


def curve_of(
    model: NavigationTransformer, units: xr.Dataset, repeats: int, walks: dict[str, Any]
) -> xr.Dataset:
    """Ablation curve of the last layer; random controls alone where no units are alike."""
    last = f"ffn.{model.config.n_layers - 1}"
    order = place_cells_first(units.isel(unit=np.flatnonzero(units["layer"].values == last)))
    options = {"layers": last, "repeats": repeats, **walks}
    options["fractions"] = np.union1d(FRACTIONS, (order > 1).mean())
    options["reference"] = reference_of(model, [last], MAPS, walks["seed"] + 1)
    try:
        found = ablation_curve(model, order, controls=CONTROLS, **options)
    except TooFewAlike:
        found = ablation_curve(model, order, controls=CONTROLS[:1], **options)
    return found.assign_attrs(n_place_cells=int((order > 1).sum()))


def place_cells_first(units: xr.Dataset) -> xr.DataArray:
    """An order of the units: place cells have a score above 1, others their own."""
    score = units["score"].fillna(0) + 2 * units["is_place_cell"]
    return score.rename("place cells, then score")
