"""What lesions and Mg²⁺ at test time do to one network: the causal part of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.equivalents import equivalent_curve
from placeformer.lesioncurve import ablation_curve, reference_of
from placeformer.lesionplan import CONTROLS, TooFewAlike
from placeformer.mg import dose_response
from placeformer.model import NavigationTransformer
from placeformer.settings import Settings

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
        Ablation curve of the last feed-forward layer.
    washout
        Dose response to α at test time; None without NMDA_α.
    equivalents
        Equivalent α of every lesion; None without NMDA_α.
    """

    lesions: xr.Dataset
    washout: xr.Dataset | None = None
    equivalents: xr.Dataset | None = None

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The Datasets that there are, by name."""
        every = {
            "lesions": self.lesions, "washout": self.washout, "equivalents": self.equivalents
        }  # fmt: skip
        return {name: data for name, data in every.items() if data is not None}


def make_harm(model: NavigationTransformer, settings: Settings, *, progress: bool = False) -> Harm:
    """Lesion the units of the last feed-forward layer, and change α at test time.

    Both are scored at the ends of chunks on the same walks over all maps, so that every lesion
    has an equivalent α. Lesions of the last layer are cheap: what comes before is run once for all.
    """
    walks: dict[str, Any] = {
        "n_walks": settings.lesion_walks, "n_steps": settings.lesion_steps,
        "seed": settings.seed, "progress": progress,
    }  # fmt: skip
    lesions = curve_of(model, settings.lesion_repeats, walks)
    if model.config.alpha is None:
        return Harm(lesions)
    washout = dose_response(model, alphas=test_alphas(model.config.alpha), **walks)
    return Harm(lesions, washout, equivalent_curve(washout, lesions, seed=settings.seed))


def test_alphas(trained: float) -> NDArray[np.float64]:
    """Test-time α, that of training among them."""
    return np.array(WASHOUT) * trained if trained else np.array(BLOCK, float)


def curve_of(model: NavigationTransformer, repeats: int, walks: dict[str, Any]) -> xr.Dataset:
    """Ablation curve of the last layer; random controls alone where no units are alike."""
    last = f"ffn.{model.config.n_layers - 1}"
    options = {"layers": last, "fractions": FRACTIONS, "repeats": repeats, **walks}
    options["reference"] = reference_of(model, [last], None, walks["seed"] + 1)
    try:
        return ablation_curve(model, controls=CONTROLS, **options)
    except TooFewAlike:
        return ablation_curve(model, controls=CONTROLS[:1], **options)
