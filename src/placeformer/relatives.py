"""What was measured of the networks of the zoo that were trained alike."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from placeformer.zoo import zoo_folder

INSTALLED = "zoo_results"


def results_folder() -> Path:
    """Folder of what was measured: in the installed package, or ``zoo/results`` of a checkout."""
    folder = zoo_folder()
    return folder.with_name("results" if folder.name == "models" else INSTALLED)


def relatives(sha256: str) -> xr.Dataset | None:
    """Measurements, as :func:`profile_networks` gives them, of the networks trained like one.

    Parameters
    ----------
    sha256
        Of the weights of the one.

    Returns
    -------
    xarray.Dataset or None
        Of all networks that differ in activation, α and seed alone, the one among them; None if
        it was not measured.
    """
    for file in sorted(results_folder().glob("*.nc")):
        with xr.open_dataset(file) as data:
            if "sha256" in data.coords and sha256 in data["sha256"].values:
                return data.load()
    return None
