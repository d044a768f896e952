"""Subjects of a report, and the stages in which they are measured."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from placeformer.data import schema
from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.doses import Score, trials
from placeformer.models.fingerprints import current_info
from placeformer.models.memory import KINDS, memory_errors, world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.record import record
from placeformer.reporting.facts import facts_of_module, facts_of_recording, said_of
from placeformer.reporting.measurements import (
    FRACTIONS,
    NETWORK_MAPS,
    Settings,
    SubjectReport,
    measure_interventions,
    place_cells_first,
)
from placeformer.reporting.training_section import measure_training, training_of
from placeformer.reporting.unit_measures import (
    MapOptions,
    Part,
    decode,
    join_parts,
    map_names,
    measure_units,
)
from placeformer.spatial.place_cells import check_control
from placeformer.zoo import registry as zoo
from placeformer.zoo.config import FolderError
from placeformer.zoo.folder import read_description

Stage = tuple[str, Callable[[], None]]

FILES = (".nc", ".zarr")
"""Suffixes of the files and folders of Recordings."""

READERS = {
    ".nwb": "placeformer.from_nwb",
    ".npy": "placeformer.from_arrays",
    ".npz": "placeformer.from_arrays",
}
"""Functions that read other files into Recordings."""

MOST_BYTES = 200
"""Maximum bytes of a name; file names add less than 50, and most file systems allow 255."""


class NetworkMeasurement:
    """Measures everything that the report shows of a navigation Transformer, stage by stage.

    Parameters
    ----------
    model
        A network with its world.
    settings
        Amount of data and number of lesions.
    name
        Name in the report; by default that of the network.
    progress
        Show progress bars.
    """

    def __init__(
        self,
        model: NavigationTransformer,
        settings: Settings,
        *,
        name: str | None = None,
        progress: bool = False,
    ) -> None:
        world_of(model)
        self.model = model
        self.settings = settings
        self.progress = progress
        self.name = name or str(model.info.get("name") or "network")
        self.training = training_of(model) if settings.snapshots else None
        self._memory: list[xr.Dataset] = []  # each of these three has one entry per kind of map
        self._recordings: list[xr.Dataset] = []
        self._parts: list[Part] = []

    @property
    def stages(self) -> list[Stage]:
        """Label and function of every stage, in order; the last ones make the :attr:`report`."""
        by_kind: dict[str, Callable[[str], None]] = {
            "memory errors on {} maps": self._errors,
            "recording of all feed-forward units on the first {} map": self._record,
            "measures and shuffles on the first {} map": self._analyse,
        }
        stages: list[Stage] = [
            (label.format(kind), partial(stage, kind))
            for label, stage in by_kind.items()
            for kind in KINDS
        ]
        stages.append(("lesions and Mg²⁺ at test time", self._intervene))
        return [*stages, ("snapshots of the training", self._train)] if self.training else stages

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
        del errors.attrs["familiar"]  # becomes the dimension ``maps``
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
        self.options = MapOptions.of(recording, Settings())
        part = measure_units(
            recording,
            self.options,
            self.settings,
            cell_types=bool(self.settings.cell_types),
            progress=self.progress,
        )
        letters = world_of(self.model).letters(kind == "trained")[0]
        about = {"units": "1", "long_name": "index of the letter"}
        shape = part.rate_maps[schema.OCCUPANCY].shape
        letter = xr.Variable(("y", "x"), letters.reshape(shape), about)
        self._parts.append(replace(part, rate_maps=part.rate_maps.assign(letter=letter)))

    def _intervene(self) -> None:
        """Lesion the network, change its α, and collect all results."""
        along = xr.Variable("maps", list(KINDS), {"long_name": "kind of maps"})
        memory = xr.concat(self._memory, along, data_vars="all", combine_attrs="override")
        names = [f"{kind} 0" for kind in KINDS]
        joined = join_parts(self._parts, names, self.options)
        familiar = (schema.MAP, [kind == "trained" for kind in KINDS])
        rate_maps, units = (data.assign_coords(familiar=familiar) for data in joined)
        walk = beginning(self._recordings[0], rate_maps, self.settings.shown_steps)
        sha256 = current_info(self.model).get("sha256", "")
        about = {"settings": asdict(self.settings), "file_sha256": sha256}
        for dataset in (memory, rate_maps, units):
            dataset.attrs[schema.PROVENANCE] = schema.provenance(
                self._recordings[0], "report", **about
            )
        self._recordings.clear()  # frees gigabytes for the lesions and the next subject
        self._parts.clear()
        interventions = measure_interventions(
            self.model, units.isel({schema.MAP: 0}), self.settings, progress=self.progress
        )
        alpha = self.model.config.alpha
        self.report = SubjectReport(
            self.name,
            NETWORK_MAPS,
            rate_maps,
            units,
            about=self.model.config.activation if alpha is None else f"α = {alpha:g}",
            model=self.model,
            memory=memory,
            walk=walk,
            interventions=interventions,
        )

    def _train(self) -> None:
        """Measure the network at several training steps."""
        assert self.training is not None
        course = measure_training(self.training, self.settings, progress=self.progress)
        self.report = replace(self.report, training=course)


def beginning(recording: xr.Dataset, maps: xr.Dataset, steps: int) -> xr.Dataset:
    """The beginning of the first walk, without activations, and the letters of the first map."""
    shown = recording.drop_vars(schema.ACTIVATION).drop_dims(schema.UNIT)
    shown = shown.isel({schema.WALK: [0], schema.TIME: slice(steps)})
    return shown.assign(letter=maps["letter"].isel({schema.MAP: 0}).variable)


class RecordingMeasurement:
    """Measures everything that the report shows of a Recording, stage by stage.

    Parameters
    ----------
    name
        Name in the report.
    recording, control
        A Recording, and a Recording of the same units on novel maps or None.
    settings
        Options of the maps and tests.
    progress
        Show progress bars.
    """

    def __init__(
        self,
        name: str,
        recording: xr.Dataset,
        settings: Settings,
        *,
        control: xr.Dataset | None = None,
        progress: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.control = control
        self.progress = progress
        self._parts: list[Part] = []
        self._take(recording)

    def _take(self, recording: xr.Dataset) -> None:
        """Check the Recording before anything is measured."""
        self.recording = recording
        self.options = MapOptions.of(recording, self.settings)
        if self.control is not None:
            schema.check_recording(self.control, need=self.options.by)
            check_control(recording, self.control, self.options.by)

    @property
    def stages(self) -> list[Stage]:
        """Label and function of every stage, in order; the last one makes the :attr:`report`."""
        stages: list[Stage] = [("measures and shuffles of every unit", self._analyse)]
        if self.control is not None:
            stages.append(("measures and shuffles of every unit of the control", self._analyse))
        return [*stages, ("decoding of the position", self._decode)]

    def _analyse(self) -> None:
        """Measure and test every unit of the Recording, then of its control."""
        recording = self.control if self._parts else self.recording
        assert recording is not None
        types = self.settings.cell_types
        part = measure_units(
            recording,
            self.options,
            self.settings,
            cell_types=True if types is None else types,
            progress=self.progress,
        )
        self._parts.append(part)

    def _decode(self) -> None:
        """Decode the position, and collect all results."""
        names = [
            name for i, part in enumerate(self._parts) for name in map_names(part.recording, i > 0)
        ]
        rate_maps, units = join_parts(self._parts, names, self.options)
        for dataset in (rate_maps, units):
            dataset.attrs[schema.PROVENANCE] = schema.provenance(
                self.recording, "report", settings=asdict(self.settings)
            )
        try:
            decoded = decode(self.recording, self.options, self.settings, self.progress)
        except ValueError as error:  # for example too few walks; shown on the page
            decoded = None
            lines = [units.attrs["caveats"], f"the position was not decoded: {error}"]
            units.attrs["caveats"] = "\n".join(filter(None, lines))
        self.report = SubjectReport(
            self.name,
            tuple(names),
            rate_maps,
            units,
            about=f"{self.recording.sizes[schema.UNIT]} units",
            facts=self._facts(),
            decoding=decoded,
        )

    def _facts(self) -> dict[str, str]:
        """Facts about the recording, by label."""
        return facts_of_recording(self.recording, self.options)


class ModuleMeasurement(RecordingMeasurement):
    """Records any other network along its behaviour, measures it and, with a score, lesions it.

    Parameters
    ----------
    name, settings, progress
        As in :class:`RecordingMeasurement`.
    module, behaviour
        The network and the walks along which it runs, see :func:`placeformer.record`.
    score
        Function of the lesioned network that returns a cost, see
        :func:`placeformer.ablation_curve`; None for no lesions.
    recorded
        Further arguments of :func:`placeformer.record`.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        behaviour: Any,
        settings: Settings,
        *,
        score: Score | None = None,
        control: xr.Dataset | None = None,
        recorded: Mapping[str, Any],
        progress: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.control = control
        self.progress = progress
        self._parts = []
        self.module, self.behaviour, self.score = module, behaviour, score
        if score is not None:
            if not callable(score):
                raise TypeError(
                    f"score must be a function of the network, got {type(score).__name__}; for "
                    "several scores, call placeformer.ablation_curve"
                )
            trials("score", score, module, [])  # fail before anything is measured
        self.recorded = dict(recorded)

    @property
    def stages(self) -> list[Stage]:
        """Label and function of every stage, in order; the last one makes the :attr:`report`."""
        stages: list[Stage] = [("recording", self._record), *super().stages]
        return [*stages, ("lesions", self._lesion)] if self.score is not None else stages

    def _record(self) -> None:
        """Record the network."""
        options = {"seed": self.settings.seed, "progress": self.progress}
        self._take(record(self.module, self.behaviour, **options | self.recorded))

    def _lesion(self) -> None:
        """Lesion the place cells of the first map first, then units in order of their score."""
        first = self.report.units.isel({schema.MAP: 0})
        order = place_cells_first(first)
        n = int((order > 1).sum())
        lesions = ablation_curve(
            self.module,
            order,
            fractions=np.union1d(FRACTIONS, n / order.size),
            layers=self.report.layers,
            repeats=self.settings.lesion_repeats,
            reference=self.recording,
            bins=self.options.bins,
            scores=self.score,
            seed=self.settings.seed,
            progress=self.progress,
        )
        self.report = replace(self.report, lesions=lesions.assign_attrs(n_place_cells=n))

    def _facts(self) -> dict[str, str]:
        """Facts about the network and its recording, by label."""
        return facts_of_module(self.module) | super()._facts()


Measurement = NetworkMeasurement | RecordingMeasurement


def named_subjects(subject: Any) -> list[tuple[str | None, Any]]:
    """Subjects with the names given by the caller; None for subjects without a name."""
    if isinstance(subject, Mapping) and not isinstance(subject, xr.Dataset):
        pairs: list[tuple[str | None, Any]] = [(str(name), one) for name, one in subject.items()]
    elif isinstance(subject, list | tuple):
        pairs = [(None, one) for one in subject]
    else:
        pairs = [(None, subject)]
    if not pairs:
        raise ValueError("subject must be at least one network or recording, got none")
    return pairs


def opened(subject: Any, argument: str = "subject") -> Any:
    """Open the network or Recording of a name, a repository, a folder or a file.

    Error messages name the `argument`.

    Raises
    ------
    TypeError
        The subject is of a type that has no report.
    ValueError
        The network or the file does not exist.
    """
    if isinstance(subject, nn.Module | xr.Dataset):
        return subject
    if not isinstance(subject, str | os.PathLike):
        raise TypeError(
            f"{argument} must be the name of a network, a file or folder, a network, or a "
            f"Recording, got {type(subject).__name__}; make a Recording from arrays with "
            "placeformer.from_arrays"
        )
    path = Path(subject).expanduser()
    if path.suffix in READERS:
        raise ValueError(
            f"{argument} must be a Recording, got the file {path.name}; read it with "
            f"{READERS[path.suffix]}, and pass the result"
        )
    if path.suffix not in FILES:
        try:
            return zoo.load(subject)
        except ValueError as error:
            kind = FolderError if isinstance(error, FolderError) else ValueError
            raise kind(f"{argument}: {error}") from error
    if not path.exists():
        raise ValueError(f"{argument} must be an existing file, got {os.fspath(subject)!r}")
    try:
        if path.suffix == ".zarr":
            return xr.open_zarr(path, consolidated=False, decode_timedelta=False)
        return xr.load_dataset(path, decode_timedelta=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{argument} must be a netCDF file or a Zarr store that can be read, got "
            f"{os.fspath(subject)!r}: {error}"
        ) from error


def name_of(source: Any, subject: Any) -> str:
    """Name of a subject in the report: that of the network, file or session, else its type."""
    if isinstance(subject, NavigationTransformer):
        return str(subject.info.get("name") or "network")
    if isinstance(source, str | os.PathLike):
        return Path(source).stem
    if isinstance(subject, nn.Module):
        return type(subject).__name__
    return str(
        said_of(subject, "session") or Path(said_of(subject, "nwb_file") or "recording").stem
    )


def file_name(name: str) -> str:
    """Name without characters that are invalid in file names, and not too long."""
    known = re.sub(r"[^\w .()+=-]", "-", name).encode()[:MOST_BYTES].decode(errors="ignore")
    return known.strip(" .") or "subject"


def different(names: Iterable[str]) -> list[str]:
    """Unique names: ``#2``, ``#3``, ... are appended to repeated names."""
    return [str(name) for name in schema.unit_labels(np.array(list(names), dtype=str)).values]


def linear_twin(model: NavigationTransformer) -> str | None:
    """Name of the network of the package that differs from a network only in α = 0, or None.

    If there are several such networks, one of the same family and with the same seed is preferred.
    """
    config, world = model.config, model.world
    if world is None or config.alpha in (None, 0):
        return None
    family = str(model.info.get("name", "")).partition("nmda-a")[0]
    folder = model.info.get("folder")
    seed = None if folder is None else zoo.seed_of(Path(folder))

    def unlike(name: str) -> tuple[bool, bool, int]:
        other = zoo.seed_of(zoo.zoo_folder() / name)
        return name.partition("nmda-a")[0] != family, other != seed, len(name)

    names = [name for name in zoo.list_models("*nmda-a0*") if zoo.is_installed(name)]
    for name in sorted(names, key=unlike):
        said = read_description(zoo.zoo_folder() / name, pin=zoo.pin_of(name))
        if said.network == replace(config, alpha=0.0) and said.world == world.settings:
            return name
    return None


def controls_of(control: Any, n: int) -> Sequence[xr.Dataset | None]:
    """Controls of all subjects; None for a subject without a control."""
    several = control if isinstance(control, list | tuple) else [control] * n
    if len(several) != n:
        raise ValueError(
            f"control must be one Recording for each of {n} subjects, got {len(several)}"
        )
    found = [None if one is None else opened(one, "control") for one in several]
    for one in found:
        if isinstance(one, nn.Module):
            raise TypeError(
                "control must be a Recording of the same units on novel maps, got a "
                f"{type(one).__name__}; record it, for example with familiar=False"
            )
    return found
