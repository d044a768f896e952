"""Measurements of the report, and their settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema
from placeformer.evaluation.comparison import memory_comparison
from placeformer.interventions.ablation_curve import ablation_curve, reference_of
from placeformer.interventions.equivalent_alpha import equivalent_curve
from placeformer.interventions.magnesium import dose_response
from placeformer.models.memory import KINDS, memory_errors, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record
from placeformer.spatial.binning import BinnedRecording
from placeformer.spatial.measures import coherence, spatial_information
from placeformer.spatial.negatives import Negatives
from placeformer.spatial.place_cell_score import place_cell_score
from placeformer.spatial.place_cells import memory_columns, place_cells
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import per_unit, rate_maps
from placeformer.zoo.registry import family_results


@dataclass(frozen=True)
class Settings:
    """Amount of data and number of lesions of the report.

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
    family = family_results(str(model.info.get("sha256")))
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


POLICIES: tuple[Negatives, ...] = ("rectify", "shift")
"""Policies for negative rates of measures that need rates of at least 0."""

NULLS = {
    "eta2": "null_place",
    "eta2_beyond": "null_beyond",
    "coherence": "null_within_observation",
}
"""Measures that are tested against chance, and the names of their values in shuffles."""


@dataclass(frozen=True)
class NetworkReport:
    """All measurements of one network.

    Attributes
    ----------
    name
        Name of the network.
    model
        The network itself, for its facts.
    memory
        Memory errors on the trained and on the novel maps, over ``maps``.
    rate_maps
        RateMaps of the first trained and the first novel map, over ``map``, with the numbers of
        the place fields (``field_label``) and the letters of the places (``letter``).
    units
        One value per unit and map of every measure, the tests with their shuffles, and which
        units are place cells according to :func:`placeformer.place_cells`.
    walk
        The beginning of a recorded walk on the trained map, without activations.
    interventions
        Effects of lesions and of Mg²⁺ at test time.
    """

    name: str
    model: NavigationTransformer
    memory: xr.Dataset
    rate_maps: xr.Dataset
    units: xr.Dataset
    walk: xr.Dataset
    interventions: InterventionResults

    @property
    def datasets(self) -> dict[str, xr.Dataset]:
        """The Datasets by kind."""
        kinds = ("memory", "rate_maps", "units", "walk")
        return {kind: getattr(self, kind) for kind in kinds} | self.interventions.datasets

    @property
    def caveats(self) -> list[str]:
        """Warnings of the tests of the units."""
        return [line for line in str(self.units.attrs["caveats"]).split("\n") if line]

    def file(self, kind: str) -> str:
        """Name of the netCDF file of a Dataset."""
        return f"{self.name}.{kind}.nc"

    @property
    def layers(self) -> list[str]:
        """Names of the recorded layers, first to last."""
        return list(dict.fromkeys(self.units["layer"].values.tolist()))

    def of_layer(self, layer: str) -> xr.Dataset:
        """Measures of the units of one layer."""
        return self.units.isel({schema.UNIT: np.flatnonzero(self.units["layer"].values == layer)})


class Measurement:
    """Measures everything the report shows of a network, stage by stage.

    Parameters
    ----------
    model
        A network with its world.
    settings
        Amount of data and number of lesions.
    progress
        Show progress bars.
    """

    def __init__(
        self, model: NavigationTransformer, settings: Settings, *, progress: bool = False
    ) -> None:
        self.model = model
        self.settings = settings
        self.progress = progress
        self.name = str(model.info.get("name") or "network")
        self._memory: list[xr.Dataset] = []  # each of these four has one Dataset per kind of map
        self._recordings: list[xr.Dataset] = []
        self._rate_maps: list[xr.Dataset] = []
        self._units: list[xr.Dataset] = []

    @property
    def stages(self) -> list[tuple[str, Callable[[], None]]]:
        """Label and function of every stage, in order; the last one makes the :attr:`report`."""
        by_kind: dict[str, Callable[[str], None]] = {
            "memory errors on {} maps": self._errors,
            "recording of all feed-forward units on the first {} map": self._record,
            "measures and shuffles on the first {} map": self._analyse,
        }
        stages = [
            (label.format(kind), partial(stage, kind))
            for label, stage in by_kind.items()
            for kind in KINDS
        ]
        return [*stages, ("lesions and Mg²⁺ at test time", self._intervene)]

    def _errors(self, kind: str) -> None:
        """Measure the memory errors on one kind of map."""
        errors = memory_errors(
            self.model,
            n_walks=self.settings.memory_walks,
            n_steps=self.settings.memory_steps,
            seed=self.settings.seed,
            familiar=kind == "trained",
            progress=self.progress,
        )
        del errors.attrs["familiar"]  # it becomes the dimension ``maps``
        self._memory.append(errors)

    def _record(self, kind: str) -> None:
        """Record all feed-forward units on the first map of a kind."""
        recording = record(
            self.model,
            n_walks=self.settings.walks,
            n_steps=self.settings.steps,
            seed=self.settings.seed,
            familiar=kind == "trained",
            maps=(0,),
            progress=self.progress,
        )
        self._recordings.append(recording)

    def _analyse(self, kind: str) -> None:
        """Measure and test every unit on the first map of a kind."""
        recording = self._recordings[KINDS.index(kind)]
        maps = _maps(recording, world_of(self.model).letters(kind == "trained")[0])
        self._rate_maps.append(maps)
        self._units.append(_units(recording, maps, self.settings, self.progress))

    def _intervene(self) -> None:
        """Lesion the network, change its α, and put all results together."""
        kinds = xr.Variable("maps", list(KINDS), {"long_name": "kind of maps"})
        memory = _concat(self._memory, kinds)
        rate_maps, units = _of_kinds(self._rate_maps), _of_kinds(self._units)
        units = units.assign(_memory_of(self._units, self._recordings))
        walk = _beginning(self._recordings[0], self._rate_maps[0], self.settings.shown_steps)
        sha256 = self.model.info.get("sha256", "")
        about = {"settings": asdict(self.settings), "file_sha256": sha256}
        for dataset in (memory, rate_maps, units):
            dataset.attrs[schema.PROVENANCE] = schema.provenance(
                self._recordings[0], "report", **about
            )
        self._recordings.clear()  # gigabytes, which the lesions and the next network may need
        interventions = measure_interventions(
            self.model, units.isel({schema.MAP: 0}), self.settings, progress=self.progress
        )
        self.report = NetworkReport(
            self.name, self.model, memory, rate_maps, units, walk, interventions
        )


def best_units(network: NetworkReport, layer: str, n: int) -> list[int]:
    """Positions along ``unit`` of a layer's units with the greatest place-cell scores.

    Scores are those on the trained map, the lower of both policies for negative rates; ties,
    such as the many scores of 0, are broken by the variance that place explains beyond the letter.
    """
    units = network.units.isel({schema.MAP: 0})
    scores, beyond = (np.nan_to_num(units[k].values) for k in ("score", "eta2_beyond"))
    order = np.lexsort((-beyond, -scores))
    return [int(i) for i in order if units["layer"].values[i] == layer][:n]


def of_maps(maps: xr.Dataset) -> dict[str, xr.DataArray]:
    """Every measure of rate maps that the report shows, under both policies for negative rates.

    ``score`` is the lower of the place-cell scores under the two policies: if a map is negative at
    almost all places, rectification leaves little more than a single field.
    """
    fields = place_fields(maps)
    measures = {f"information_{p}": spatial_information(maps, negatives=p) for p in POLICIES}
    measures |= {f"score_{p}": place_cell_score(maps, negatives=p, fields=fields) for p in POLICIES}
    values = np.minimum(*(measures[f"score_{p}"].values for p in POLICIES))
    about = {"units": "1", "long_name": "place-cell score (lower of both policies)"}
    lesser = per_unit(maps, values, "place_cell_score", **about)
    return measures | {"score": lesser, "coherence": coherence(maps)}


def _maps(recording: xr.Dataset, letters: NDArray[np.integer]) -> xr.Dataset:
    """Rate maps, with labels of the fields and letters of the places."""
    maps = rate_maps(recording)
    about = {"units": "1", "long_name": "index of the letter"}
    letter = xr.Variable(("y", "x"), letters.reshape(maps["occupancy"].shape), about)
    label = place_fields(maps)["label"].astype(np.int16)
    return maps.assign(field_label=label, letter=letter)


def _units(
    recording: xr.Dataset, maps: xr.Dataset, settings: Settings, progress: bool
) -> xr.Dataset:
    """Every measure of every unit on one map, with the tests and the decision.

    Warnings of the tests are stored in ``attrs["caveats"]``, which the page shows.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        table = place_cells(
            recording,
            seed=settings.seed,
            cell_types=False,
            keep_null=True,
            progress=progress,
        )
    caveats = "\n".join(dict.fromkeys(str(warning.message) for warning in caught))
    table = table.drop_vars(["spatial_information", "place_cell_score"])
    return table.assign(of_maps(maps)).assign_attrs(caveats=caveats)


def _memory_of(
    units: Sequence[xr.Dataset], recordings: Sequence[xr.Dataset]
) -> dict[str, xr.DataArray]:
    """Whether the tuning on the trained map depends on memory: ``place_cells`` with a control."""
    table, control_table = units
    trained, novel = (BinnedRecording.of(r, by=("y", "x"), bins=None) for r in recordings)
    columns = memory_columns(table, control_table, trained, novel, table.attrs["max_q"])
    return {name: columns[name] for name in ("p_memory", "q_memory", "depends_on_memory")}


def _beginning(recording: xr.Dataset, maps: xr.Dataset, steps: int) -> xr.Dataset:
    """The beginning of the first walk, without activations."""
    shown = recording.drop_vars(schema.ACTIVATION).drop_dims(schema.UNIT)
    shown = shown.isel({schema.WALK: [0], schema.TIME: slice(steps)})
    return shown.assign(letter=maps["letter"].variable)


def _of_kinds(parts: list[xr.Dataset]) -> xr.Dataset:
    """Join the results of the trained and of the novel map along ``map``."""
    first = xr.Variable(schema.MAP, [f"{kind} 0" for kind in KINDS], {"long_name": "map"})
    familiar = (schema.MAP, [kind == "trained" for kind in KINDS])
    joined = _concat(parts, first).assign_coords(familiar=familiar)
    caveats = [part.attrs.get("caveats", "") for part in parts]
    return joined.assign_attrs(caveats="\n".join(dict.fromkeys(filter(None, caveats))))


def _concat(parts: list[xr.Dataset], along: xr.Variable) -> xr.Dataset:
    """Join Datasets along a new dimension."""
    joined = xr.concat(
        parts, along.dims[0], data_vars="all", coords="minimal", compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    return joined.assign_coords({along.dims[0]: along})
