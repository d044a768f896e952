"""The report: a self-contained HTML page about networks and recordings, and its netCDF files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import xarray as xr

from placeformer._atomic import replaced_folder
from placeformer.interventions.doses import Score
from placeformer.models.transformer import NavigationTransformer
from placeformer.reporting import facts, page
from placeformer.reporting.measurements import Settings, SubjectReport
from placeformer.reporting.subjects import (
    Measurement,
    ModuleMeasurement,
    NetworkMeasurement,
    RecordingMeasurement,
    controls_of,
    different,
    file_name,
    linear_twin,
    name_of,
    named_subjects,
    opened,
)
from placeformer.spatial.binning import Bins
from placeformer.spatial.rate_maps import Smooth

PAGE = "index.html"
DATASET = re.compile(
    r".+\.(memory|rate_maps|units|walk|decoding|lesions|training|washout|equivalents|comparison)\.nc"
)
"""Names of the files of a report, see :meth:`.SubjectReport.file`."""
MARK = '<meta name="generator" content="placeformer'


def report(
    subject: Any,
    control: xr.Dataset | str | os.PathLike[str] | Sequence[Any] | None = None,
    out: str | os.PathLike[str] = "report",
    *,
    beside: Any = "auto",
    behaviour: Any = None,
    layers: Any = None,
    forward: Any = None,
    inputs: Mapping[str, Any] | None = None,
    dims: Any = None,
    score: Score | None = None,
    by: str | Sequence[str] | None = None,
    bins: Bins = None,
    smooth: Smooth = None,
    min_occupancy: float | None = None,
    n_shuffles: int | Literal["auto"] = "auto",
    cell_types: bool | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    progress: bool = True,
) -> Path:
    """Measure networks and recordings, and write an HTML page with the Datasets behind it.

    The page shows the best rate maps, the findings in words, every unit in a searchable table, the
    controls, and how everything was made. It is a single file that works offline. Parts that do not
    apply to a subject, such as memory errors or lesions, are left out.

    Parameters
    ----------
    subject
        Subject of the page: the name of a network in the zoo, a repository of the hub or a folder;
        a :class:`NavigationTransformer`; a Recording of a network or of an animal, or its file
        (``.nc``, ``.zarr``); any other ``torch.nn.Module``, which needs `behaviour`; a list of
        these, which are shown side by side; or a mapping from names to these.
    control
        Recording of the same units on novel maps or in another environment (or its file), used to
        test which tuning depends on memory, as in :func:`place_cells`. For a list of subjects, a
        list with None for subjects without a control. The control of a navigation Transformer is
        its novel maps.
    out
        Folder for the page and the netCDF files. It must be new, or contain an earlier report,
        whose files are replaced. It is written only after everything has been measured.
    beside
        Subject with which to compare a single network. ``"auto"``: the network of the zoo that
        differs from it only in α = 0, if there is one. None or ``"none"``: no comparison.
        ``"auto"`` never extends a list of subjects.
    behaviour, layers, forward, inputs, dims
        Walks along which other networks are recorded, and recording options, see :func:`record`.
    score
        Function of another network that returns a cost (larger is worse), called in eval mode and
        without gradients. With a score, the place cells of the network and control units are
        lesioned, see :func:`ablation_curve`.
    by, bins
        Axes of place, one or two, and their bins, see :func:`rate_maps`. The default axes are y and
        x, or the only one of the two. The default is one bin per whole number on a grid of at most
        40 per axis, otherwise 20 bins along each axis of an arena and 40 along a track.
    smooth
        Standard deviation in bins of the Gaussian that smooths the maps, see :func:`rate_maps`. By
        default 1.5 for timed recordings, such as those of animals; others are not smoothed. 0 for
        no smoothing.
    min_occupancy
        Minimum occupancy of a place, see :func:`rate_maps`.
    n_shuffles, cell_types
        Options of :func:`place_cells`. Cell types are distinguished in recordings by default, and
        in navigation Transformers if `cell_types` is True. The options from `by` to `min_occupancy`
        raise an error if all subjects are navigation Transformers, because each place of a grid
        world has its own bin.
    seed
        Random seed of walks, shuffles and lesions.
    settings
        Amount of data and number of lesions of networks, a
        ``placeformer.reporting.measurements.Settings``; the options above take precedence.
    progress
        Print the name of every stage, and show progress bars.

    Returns
    -------
    pathlib.Path
        Path of the page, ``index.html`` in `out`. Next to it is one netCDF file for every Dataset:
        ``NAME.units.nc``, ``NAME.rate_maps.nc``, ...

    Raises
    ------
    ValueError
        A network or file is unknown, a network has no world, a recording has no places, a control
        has other units or was recorded on trained maps, two subjects have the same name, or the
        folder cannot be written. All are checked before anything is measured.
    TypeError
        A subject is of a type that has no report.

    See Also
    --------
    place_cells : The table of units alone.
    from_arrays, from_nwb, from_pynapple : Recordings of other data.
    record : Recordings of networks.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> place = rng.random((8, 400, 2))  # eight walks in a box of 1 m
    >>> field = np.exp(-((place - 0.5) ** 2).sum(axis=2) / 0.02)
    >>> noise = rng.normal(size=(8, 400, 3))
    >>> recording = pf.from_arrays(noise + 5 * field[..., None] * [1, 0, 0], place)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = pf.report(recording, out=f"{folder}/report", bins=8, progress=False)
    ...     sorted(file.name for file in page.parent.iterdir())
    ['index.html', 'recording.decoding.nc', 'recording.rate_maps.nc', 'recording.units.nc']
    """
    of_maps = changed(
        {
            "by": by, "bins": bins, "smooth": smooth, "min_occupancy": min_occupancy,
            "n_shuffles": n_shuffles, "cell_types": cell_types, "seed": seed,
        }
    )  # fmt: skip
    recorded = changed({"layers": layers, "forward": forward, "inputs": inputs, "dims": dims})
    others = {"control": control, "beside": beside, "behaviour": behaviour, "score": score}
    asked = changed(others) | recorded | of_maps | changed({"settings": settings})
    settings = replace(settings or Settings(), **of_maps)
    with workspace(Path(out).expanduser()) as folder:
        measurements = subjects(
            subject, control, beside, settings, behaviour=behaviour, score=score,
            recorded=recorded, progress=progress,
        )  # fmt: skip
        reports = measure(measurements, progress=progress)
        for one in reports:
            for kind, dataset in one.datasets.items():
                write_dataset(dataset, folder / one.file(kind))
        call = facts.shown_call("pf.report", [subject], asked)
        (folder / PAGE).write_text(page.render(reports, settings, call), encoding="utf-8")
    return Path(out).expanduser() / PAGE


DEFAULTS = {"beside": "auto", "n_shuffles": "auto", "seed": 0}
"""Defaults of options that are not None."""

OF_PLACES = ("by", "bins", "smooth", "min_occupancy")
"""Options for the binning of places in recordings."""


def changed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that differ from their defaults."""
    return {
        name: value
        for name, value in options.items()
        if value is not None and not (name in DEFAULTS and value == DEFAULTS[name])
    }


def subjects(
    subject: Any,
    control: Any,
    beside: Any,
    settings: Settings,
    *,
    behaviour: Any = None,
    score: Score | None = None,
    recorded: Mapping[str, Any],
    progress: bool = False,
) -> list[Measurement]:
    """Load and check the subjects, and prepare their measurements."""
    pairs = [(name, one, opened(one)) for name, one in named_subjects(subject)]
    controls = list(controls_of(control, len(pairs)))
    if not isinstance(subject, list | tuple | Mapping) or isinstance(subject, xr.Dataset):
        pairs += [
            (None, other, opened(other, "beside")) for other in compared_with(pairs[0][2], beside)
        ]
    elif not isinstance(beside, str) or beside not in ("auto", "none"):
        raise ValueError(
            f"beside must be 'auto' or 'none' for several subjects, got {beside!r:.80}; add it to "
            "the list of subjects"
        )
    controls += [None] * (len(pairs) - len(controls))
    modules = [one for _, _, one in pairs if is_other_network(one)]
    if not modules and (behaviour is not None or score is not None or recorded):
        raise ValueError(
            "behaviour, layers, forward, inputs, dims and score must be None for navigation "
            "Transformers and Recordings; they are options of other networks"
        )
    of_places = [name for name in OF_PLACES if getattr(settings, name) is not None]
    if of_places and all(isinstance(one, NavigationTransformer) for _, _, one in pairs):
        raise ValueError(
            f"{' and '.join(of_places)} must be None for navigation Transformers, because each "
            "place of a grid world has its own bin; for other bins pass a Recording of the network"
        )
    names = [name or name_of(source, one) for name, source, one in pairs]
    check_names(names, [one for _, _, one in pairs])
    found: list[Measurement] = []
    for name, (_, _, one), other in zip(
        different(map(file_name, names)), pairs, controls, strict=True
    ):
        if isinstance(one, NavigationTransformer):
            if other is not None:
                raise ValueError(
                    f"control must be None for {name}, whose control is its novel maps; to use "
                    "another control, pass a Recording of the network"
                )
            found.append(NetworkMeasurement(one, settings, name=name, progress=progress))
        elif isinstance(one, xr.Dataset):
            found.append(
                RecordingMeasurement(name, one, settings, control=other, progress=progress)
            )
        else:
            if behaviour is None:
                raise ValueError(
                    f"behaviour must be the walks along which {name} is recorded (see "
                    "placeformer.record), got None; pass them, or a Recording of the network"
                )
            found.append(
                ModuleMeasurement(
                    name,
                    one,
                    behaviour,
                    settings,
                    score=score,
                    control=other,
                    recorded=recorded,
                    progress=progress,
                )
            )
    return found


def is_other_network(subject: Any) -> bool:
    """Whether it is a network that needs a behaviour to be recorded."""
    return not isinstance(subject, NavigationTransformer | xr.Dataset)


def compared_with(subject: Any, beside: Any) -> list[Any]:
    """The subject with which to compare a single subject, if any."""
    if not isinstance(beside, str) or beside not in ("auto", "none"):
        return [] if beside is None else [beside]
    if beside == "none" or not isinstance(subject, NavigationTransformer):
        return []
    twin = linear_twin(subject)
    return [] if twin is None or twin == subject.info.get("name") else [twin]


def check_names(names: Sequence[str], found: Sequence[Any]) -> None:
    """Raise if two networks have the same name: one might be compared with itself."""
    networks = [n for n, one in zip(names, found, strict=True) if not isinstance(one, xr.Dataset)]
    twice = sorted({name for name in networks if networks.count(name) > 1})
    if twice:
        raise ValueError(
            f"subjects must have different names, got {twice[0]!r} twice; name them with a "
            "mapping, such as {'first': ..., 'second': ...}"
        )


def measure(measurements: Sequence[Measurement], *, progress: bool = True) -> list[SubjectReport]:
    """Measure the subjects one after another, and print the name of every stage."""
    stages = [(run.name, *stage) for run in measurements for stage in run.stages]
    for i, (name, label, run_stage) in enumerate(stages, start=1):
        if progress:
            print(f"[{i}/{len(stages)}] {name}: {label}", file=sys.stderr)
        run_stage()
    return [measurement.report for measurement in measurements]


def write_dataset(dataset: xr.Dataset, file: Path) -> None:
    """Write a Dataset as compressed netCDF.

    The encoding of a file that the data were read from is dropped, because it would truncate longer
    labels that were joined to them.
    """
    small = {
        name: {"zlib": True, "complevel": 4}
        for name, values in dataset.data_vars.items()
        if values.ndim and values.dtype.kind in "fiu"
    }
    dataset.drop_encoding().to_netcdf(file, encoding=small)


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that atomically replaces the report in `out` on success."""
    check_folder(out)
    with ExitStack() as stack:
        try:
            new = stack.enter_context(replaced_folder(out.absolute(), of_report, PAGE))
        except OSError as error:
            raise ValueError(f"out must be where files can be written: {error}") from error
        yield new


def check_folder(out: Path) -> None:
    """Raise for a file, a folder without write permission, and files that are not of a report."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got the file {out}")
    if out.is_dir() and not os.access(out, os.W_OK | os.X_OK):
        raise ValueError(
            f"out must be where files can be written, got {out} without write permission"
        )
    page_there = out / PAGE
    if page_there.exists() and MARK not in page_there.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            f"out must not contain another page, got {page_there}; choose another folder"
        )
    others = sorted(file.name for file in out.glob("*") if of_report(file.name))
    if others and not page_there.exists():
        raise ValueError(
            f"out must be new or contain an earlier report, whose files are replaced, got {out}, "
            f"which has {others[0]} but no {PAGE}; choose another folder, or move these files"
        )


def of_report(name: str) -> bool:
    """Whether a file of this name is one that a report writes."""
    return name == PAGE or DATASET.fullmatch(name) is not None
