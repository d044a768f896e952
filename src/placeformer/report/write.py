"""The report: a self-contained HTML page about a network, and its netCDF files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import xarray as xr

from placeformer._atomic import replaced_folder
from placeformer.models.memory import world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.report import page
from placeformer.report.measurements import Measurement, NetworkReport, Settings
from placeformer.zoo import registry as zoo

PAGE = "index.html"
BESIDE = "nmda-a0"
MARK = '<meta name="generator" content="placeformer'


def write_report(
    name: str,
    out: str | os.PathLike[str] = "report",
    *,
    beside: str | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> Path:
    """Record and analyse a network, and write the page and the Datasets behind it.

    Parameters
    ----------
    name
        Name of a network of the zoo, or a folder.
    out
        Folder for the page and the netCDF files. It is new, or contains an earlier report, whose
        files are replaced. It is written only when everything has been measured.
    beside
        Network to compare it with. By default the linear network "nmda-a0", if the zoo has it and
        it is not the network itself; "none" for no comparison.
    settings
        Amount of data and number of lesions, and the random seed.
    progress
        Print the name of every stage, and show progress bars.

    Returns
    -------
    pathlib.Path
        Path of the page.

    Raises
    ------
    ValueError
        Unknown networks, a network without a world, two networks of the same name, or a folder
        that cannot be written. These are checked before anything is measured.
    """
    settings = settings or Settings()
    with workspace(Path(out).expanduser()) as folder:
        networks = measure(load(names(name, beside)), settings, progress=progress)
        for network in networks:
            for kind, dataset in network.datasets.items():
                write_dataset(dataset, folder / network.file(kind))
        (folder / PAGE).write_text(page.render(networks, settings), encoding="utf-8")
    return Path(out).expanduser() / PAGE


def names(name: str, beside: str | None) -> list[str]:
    """Names of the networks of a report."""
    if beside is None:
        other = Path(name).name != BESIDE  # a folder of that name is taken for the same network
        beside = BESIDE if other and BESIDE in zoo.list_models() else "none"
    return [name] if beside == "none" else [name, beside]


def load(sources: Sequence[str]) -> list[NavigationTransformer]:
    """Load the networks; they need worlds and different names."""
    models = [zoo.load(source) for source in sources]
    for model in models:
        world_of(model)
    loaded = [model.info["name"] for model in models]
    if len(set(loaded)) < len(loaded):
        raise ValueError(
            f"beside must be a network of another name, got {sources[1]!r} and {sources[0]!r}, "
            f"both named {loaded[0]!r}; pass beside='none', or rename one folder"
        )
    return models


def measure(
    models: Sequence[NavigationTransformer], settings: Settings, *, progress: bool = True
) -> list[NetworkReport]:
    """Measure the networks in turn, and print the name of every stage."""
    measurements = [Measurement(model, settings, progress=progress) for model in models]
    stages = [(run.name, *stage) for run in measurements for stage in run.stages]
    for i, (name, label, run_stage) in enumerate(stages, start=1):
        if progress:
            print(f"[{i}/{len(stages)}] {name}: {label}", file=sys.stderr)
        run_stage()
    return [measurement.report for measurement in measurements]


def write_dataset(dataset: xr.Dataset, file: Path) -> None:
    """Write compressed netCDF."""
    small = {
        name: {"zlib": True, "complevel": 4}
        for name, values in dataset.data_vars.items()
        if values.ndim and values.dtype.kind in "fiu"
    }
    dataset.to_netcdf(file, encoding=small)


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces the report in `out` on success, in one piece."""
    check_folder(out)
    with ExitStack() as stack:
        try:
            new = stack.enter_context(replaced_folder(out.absolute(), PAGE.__eq__, PAGE))
        except OSError as error:
            raise ValueError(f"out must be where files can be written: {error}") from error
        yield new


def check_folder(out: Path) -> None:
    """Raise for a file, a folder without write permission, and a page that is not a report."""
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
