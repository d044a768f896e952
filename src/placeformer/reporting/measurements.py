"""What the report shows of one subject, and its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.evaluation.comparison import memory_comparison
from placeformer.interventions.ablation_curve import ablation_curve, reference_of
from placeformer.interventions.equivalent_alpha import equivalent_curve
from placeformer.interventions.magnesium import dose_response
from placeformer.models.fingerprints import current_info
from placeformer.models.memory import KINDS
from placeformer.models.transformer import NavigationTransformer
from placeformer.spatial.binning import Bins
from placeformer.spatial.place_cells import PLACE_CELL
from placeformer.spatial.rate_maps import Smooth
from placeformer.zoo.registry import family_results


@dataclass(frozen=True)
class Settings:
    """Amount of data, number of lesions and options of the maps of the report.

    Attributes
    ----------
    seed
        Random seed of walks, e₀ and shuffles.
    memory_walks, memory_steps
        Number of walks for the memory errors on each kind of map, and of steps in each.
    walks, steps
        Number of walks recorded on each map, and of recorded steps in each.
    shown_steps
        Number of steps of the walk that is drawn.
    lesion_walks, lesion_steps
        Number of walks under every lesion and test-time α, on each kind of map, and of steps in
        each.
    lesion_repeats
        Number of sets of random and of stratified controls that are lesioned for comparison.
    snapshots
        Number of steps of its training at which a network that has snapshots on this machine is
        measured, the first and the last among them; 0 to leave this out. Each takes about half a
        minute on one processor core for 512 units and the amounts that are the defaults.
    snapshot_walks, snapshot_steps
        Number of walks recorded at each of them on each map, and of recorded steps in each. The
        tests take as many shuffles as their decisions need.
    by, bins, smooth, min_occupancy, n_shuffles, cell_types
        Options of the maps and tests of Recordings, see :func:`placeformer.report`.
    """

    seed: int = 0
    memory_walks: int = 64
    memory_steps: int = 2048
    walks: int = 64
    steps: int = 1536
    shown_steps: int = 96
    lesion_walks: int = 64
    lesion_steps: int = 2048
    lesion_repeats: int = 19
    snapshots: int = 4
    snapshot_walks: int = 16
    snapshot_steps: int = 512
    by: Sequence[str] | None = None
    bins: Bins = None
    smooth: Smooth = None
    min_occupancy: float | None = None
    n_shuffles: int | Literal["auto"] = "auto"
    cell_types: bool | None = None


MAPS = (0,)
FRACTIONS = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
WASHOUT = (0, 0.01, 0.03, 0.1, 0.3, 1)
"""Test-time α as multiples of the α of training."""

BLOCK = (0, 0.1, 0.3, 1, 3, 10)
"""Test-time α of a network trained at 0, which cannot be washed out."""


@dataclass(frozen=True)
class InterventionResults:
    """Results of lesions and of changes of α in one network.

    Attributes
    ----------
    lesions
        Ablation curve of the last feed-forward layer, place cells first. Its attribute
        `n_place_cells` is their number.
    washout
        Dose response to α at test time; None without NMDA_α.
    equivalents
        Equivalent α of every lesion; None without NMDA_α.
    comparison
        These results with those of the networks of the zoo that were trained in the same way, see
        :func:`memory_comparison`; None without NMDA_α, and for a network that is not in the zoo.
    """

    lesions: xr.Dataset
    washout: xr.Dataset | None = None
    equivalents: xr.Dataset | None = None
    comparison: xr.Dataset | None = None

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The existing Datasets, by name."""
        every = {
            "lesions": self.lesions, "washout": self.washout, "equivalents": self.equivalents,
            "comparison": self.comparison,
        }  # fmt: skip
        return {name: data for name, data in every.items() if data is not None}


def measure_interventions(
    model: NavigationTransformer,
    units: xr.Dataset,
    settings: Settings,
    *,
    progress: bool = False,
) -> InterventionResults:
    """Lesion units of the last feed-forward layer in order of their score, and change α.

    Both are scored on the same walks on the first map, at the ends of chunks, so that every lesion
    has an equivalent α. Lesions of the last layer are cheap: the layers before it run only once.

    Parameters
    ----------
    model
        A network with its world.
    units
        `is_place_cell` and `score` (unit) on the first trained map.
    settings
        Amount of data. The walks differ from those on which `units` were measured.
    progress
        Show progress bars.
    """
    walks: dict[str, Any] = {
        "n_walks": settings.lesion_walks, "n_steps": settings.lesion_steps, "maps": MAPS,
        "seed": settings.seed + 1, "progress": progress,
    }  # fmt: skip
    lesions = curve_of(model, units, settings.lesion_repeats, walks)
    if model.config.alpha is None:
        return InterventionResults(lesions)
    washout = dose_response(model, alphas=test_alphas(model.config.alpha), **walks)
    equivalents = equivalent_curve(washout, lesions, seed=settings.seed)
    family = family_results(str(current_info(model).get("sha256")))
    if family is None:
        return InterventionResults(lesions, washout, equivalents)
    together = memory_comparison(family, washout, lesions, seed=settings.seed)
    return InterventionResults(lesions, washout, equivalents, together)


def test_alphas(trained: float) -> NDArray[np.float64]:
    """Test-time α, including the α of training."""
    return np.array(WASHOUT) * trained if trained else np.array(BLOCK, float)


def curve_of(
    model: NavigationTransformer, units: xr.Dataset, repeats: int, walks: dict[str, Any]
) -> xr.Dataset:
    """Ablation curve of the last layer, with its exact controls."""
    last = f"ffn.{model.config.n_layers - 1}"
    order = place_cells_first(units.isel(unit=np.flatnonzero(units["layer"].values == last)))
    options = {"layers": last, "repeats": repeats, **walks}
    options["fractions"] = np.union1d(FRACTIONS, (order > 1).mean())
    options["reference"] = reference_of(model, [last], MAPS, walks["seed"] + 1)
    curve = ablation_curve(model, order, **options)
    return curve.assign_attrs(n_place_cells=int((order > 1).sum()))


def place_cells_first(units: xr.Dataset) -> xr.DataArray:
    """Order of the units: 2 is added to the scores of place cells, so that they come first."""
    score = units["score"].fillna(0) + 2 * units["is_place_cell"]
    return score.rename("place cells, then score")


NULLS = {
    "eta2": "null_place",
    "eta2_beyond": "null_beyond",
    "coherence": "null_within_observation",
}
"""Measures that are tested against chance, and the names of their values in shuffles."""

NETWORK_MAPS = tuple(f"{kind} map" for kind in KINDS)
"""Names of the maps of a navigation Transformer."""

ALL_UNITS = "all units"
"""Name of the only group of units of a recording without layers."""


@dataclass(frozen=True)
class SubjectReport:
    """All measurements of one subject: a network or a recording.

    Attributes
    ----------
    name
        Name of the subject.
    about
        What it is, in a few words.
    maps
        Names of the maps, in the order of ``rate_maps`` and ``units``.
    rate_maps
        RateMaps over ``map``, with the numbers of the place fields (``field_label``).
    units
        One value per unit and map of every measure, the tests with their shuffles, and which
        units are place cells according to :func:`placeformer.place_cells`.
    facts
        What is known of the subject, by label.
    decoding
        Result of :func:`placeformer.decode_position` on the first map; None if it was not decoded.
    lesions
        Ablation curve of the score of another network; None without a score.
    model, memory, walk, interventions, training
        Of a navigation Transformer: the network, its memory errors over ``maps``, the beginning of
        a recorded walk without activations, the effects of lesions and of Mg²⁺ at test time, and
        its :func:`placeformer.consolidation`; None for a network without snapshots.
    """

    name: str
    maps: tuple[str, ...]
    rate_maps: xr.Dataset
    units: xr.Dataset
    about: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    decoding: xr.Dataset | None = None
    lesions: xr.Dataset | None = None
    model: NavigationTransformer | None = None
    memory: xr.Dataset | None = None
    walk: xr.Dataset | None = None
    interventions: InterventionResults | None = None
    training: xr.Dataset | None = None

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The Datasets by kind; what a subject does not have is left out."""
        kinds = ("memory", "rate_maps", "units", "walk", "decoding", "lesions", "training")
        every = {kind: getattr(self, kind) for kind in kinds}
        known = {kind: data for kind, data in every.items() if data is not None}
        return known | (self.interventions.datasets if self.interventions else {})

    @property
    def caveats(self) -> list[str]:
        """Warnings of the tests of the units and of the decoding."""
        datasets = (self.units, self.decoding)
        texts = [str(data.attrs["caveats"]) for data in datasets if data is not None]
        return list(dict.fromkeys(line for text in texts for line in text.split("\n") if line))

    def file(self, kind: str) -> str:
        """Name of the netCDF file of a Dataset."""
        return f"{self.name}.{kind}.nc"

    @property
    def layers(self) -> list[str]:
        """Names of the recorded layers, first to last."""
        if "layer" not in self.units.coords:
            return [ALL_UNITS]
        return list(dict.fromkeys(self.units["layer"].values.tolist()))

    def of_layer(self, layer: str) -> xr.Dataset:
        """Measures of the units of one layer."""
        if layer == ALL_UNITS:
            return self.units
        return self.units.isel({schema.UNIT: np.flatnonzero(self.units["layer"].values == layer)})

    @property
    def is_signed(self) -> bool:
        """Whether a rate is below 0, so that some measures need a policy."""
        return bool((self.rate_maps[schema.RATE] < 0).any())

    @property
    def has_observation(self) -> bool:
        """Whether tuning to place is separated from responses to what is seen there."""
        return self.has("eta2_beyond")

    def has(self, measure: str) -> bool:
        """Whether a measure is defined for any unit."""
        return measure in self.units and bool(self.units[measure].notnull().any())

    def tests(self, measure: str) -> bool:
        """Whether a measure is tested against chance."""
        return measure in NULLS and self.has(NULLS[measure])

    @property
    def unit_names(self) -> list[str]:
        """Names of the units in words, such as "ffn.1 unit 37"."""
        units = self.units
        if {"layer", "index"} <= set(units.coords):
            pairs = zip(units["layer"].values, units["index"].values, strict=True)
            return [f"{layer} unit {index}" for layer, index in pairs]
        return [f"unit {label}" for label in self.unit_links]

    @property
    def unit_links(self) -> list[str]:
        """Names of the units in links, such as "ffn.1-37"."""
        units = self.units
        if {"layer", "index"} <= set(units.coords):
            pairs = zip(units["layer"].values, units["index"].values, strict=True)
            return [f"{layer}-{index}" for layer, index in pairs]
        if schema.UNIT in units.coords:
            return [str(label) for label in units[schema.UNIT].values]
        return [str(number) for number in range(units.sizes[schema.UNIT])]


def best_units(subject: SubjectReport, layer: str | None, n: int) -> list[int]:
    """Positions along ``unit`` of a layer's units with the greatest place-cell scores.

    Scores are those on the first map, the lower of both policies for negative rates; ties,
    such as the many scores of 0, are broken by the variance that place explains beyond the letter,
    or by place alone where there are no letters.

    Parameters
    ----------
    layer
        Name of a layer; None for the units of all layers, place cells first.
    """
    units = subject.units.isel({schema.MAP: 0})
    ties = "eta2_beyond" if subject.has("eta2_beyond") else "eta2"
    scores, explained = (np.nan_to_num(units[k].values) for k in ("score", ties))
    if layer is None:
        scores = scores + 2 * (units["reason"].values == PLACE_CELL)
    order = np.lexsort((-explained, -scores))
    if layer is None or layer == ALL_UNITS:
        return [int(i) for i in order[:n]]
    return [int(i) for i in order if units["layer"].values[i] == layer][:n]
