"""Versions of Python, the system and the packages that placeformer uses, for bug reports."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

PACKAGES = (
    "placeformer", "torch", "numpy", "scipy", "xarray", "pandas", "scikit-learn", "matplotlib",
    "huggingface-hub", "safetensors", "netcdf4", "dask", "distributed", "zarr", "numba",
    "pynapple", "pynwb", "ratinabox",
)  # fmt: skip


def show_versions(file: TextIO | None = None) -> None:
    """Print the versions of Python, the system and the packages placeformer can use.

    Parameters
    ----------
    file
        Where to print; by default standard output.

    See Also
    --------
    zoo_table : Table of the networks that are installed.

    Examples
    --------
    >>> import placeformer as pf
    >>> pf.show_versions()  # doctest: +ELLIPSIS
    Python          3...
    system          ...
    placeformer     ...
    """
    print(f"{'Python':<16}{sys.version.split()[0]}", file=file)
    print(f"{'system':<16}{platform.platform()}", file=file)
    for name in PACKAGES:
        print(f"{name:<16}{installed(name)}", file=file)


def installed(name: str) -> str:
    """Version of a package, or that it is not installed; nothing is imported."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
