"""Tables of benchmark results for the documentation, always measured and never typed by hand."""

from __future__ import annotations

import argparse
import csv
import os
import platform
from collections.abc import Iterable, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("numpy", "scipy", "scikit-learn", "xarray", "dask", "zarr")
PEERS = ("pynapple", "opexebo", "neurospatial", "spatial-maps")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that saves the table."""
    parser.add_argument("--save", action="store_true", help=f"write the table to {FOLDER.name}/")


def save(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], about: str) -> None:
    """Write a table as CSV, and a text file with a description, the date, machine and versions."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    (FOLDER / f"{name}.txt").write_text(f"{about} {circumstances()}\n", encoding="utf-8")


def circumstances() -> str:
    """Describe the date, machine and versions in a sentence."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {found}" for name, found in _versions())
    return (
        f"Measured {date.today()} on {cores} processor cores ({platform.machine()}, "
        f"{platform.system()}) that other programs also used; Python {platform.python_version()}, "
        f"{versions}."
    )


def _versions() -> Iterable[tuple[str, str]]:
    for name in (*PACKAGES, *PEERS):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
