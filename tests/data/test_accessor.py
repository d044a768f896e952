"""Plain Datasets: the accessor, several networks side by side, and files."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data.accessor import NAMES
from placeformer.data.arrays import from_arrays
from placeformer.evaluation import simulation

RNG = np.random.default_rng(0)
PLACE = {"x": RNG.integers(0, 5, (2, 300)), "y": RNG.integers(0, 5, (2, 300))}


def recording(seed=0):
    values = np.random.default_rng(seed).random((2, 300, 3)).astype(np.float32)
    return from_arrays(
        values, PLACE, layer="ffn.0", sample_rate=10, behaviour={"map": [0, 1], "speed": PLACE["x"]}
    )


def test_methods_are_the_public_functions():
    found = recording()
    maps = pf.rate_maps(found)
    xr.testing.assert_identical(found.pf.rate_maps(), maps)
    xr.testing.assert_identical(found.pf.rate_maps(by="x"), pf.rate_maps(found, by="x"))
    xr.testing.assert_identical(
        maps.pf.spatial_information(negatives="shift"),
        pf.spatial_information(maps, negatives="shift"),
    )
    assert maps.pf.coherence.__doc__ == pf.coherence.__doc__
    assert list(inspect.signature(maps.pf.coherence).parameters) == ["fisher"]


def test_every_analysis_of_a_dataset_is_there():
    functions = {
        n: getattr(pf, n)
        for n in {n: None for n in pf.__all__ if n not in ("plot", "__version__")}
        if inspect.isfunction(getattr(pf, n))
    }
    first = {
        name: next(iter(inspect.signature(function).parameters.values())).annotation
        for name, function in functions.items()
        if inspect.signature(function).parameters
    }
    of_datasets = {name for name, kind in first.items() if kind == "xr.Dataset"}
    assert of_datasets | {"report"} == set(NAMES)  # a report is of a Dataset, among others
    assert dir(recording().pf) == sorted(NAMES)
    with pytest.raises(AttributeError, match="has no 'rate_map'; it has autocorrelogram"):
        _ = recording().pf.rate_map


@pytest.mark.parametrize(
    "use", ["import placeformer as pf; pf.rate_maps", "import placeformer.data.accessor"]
)
def test_any_public_name_or_the_module_brings_the_accessor(use):
    code = f"{use}\nimport sys, xarray\nxarray.Dataset().pf\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["netcdf", "zarr"])
@pytest.mark.parametrize("what", ["recording", "maps"])
def test_files_give_back_what_was_written(tmp_path, kind, what):
    written = recording() if what == "recording" else pf.rate_maps(recording(), per_map=True)
    if kind == "netcdf":
        written.to_netcdf(tmp_path / "data")
    else:
        written.to_zarr(tmp_path / "data", zarr_format=2)  # 3 has no settled type for text yet
    read = xr.open_dataset if kind == "netcdf" else xr.open_zarr
    with read(tmp_path / "data") as found:
        xr.testing.assert_identical(found.load(), written)
        assert dict(found.dtypes) == dict(written.dtypes)


def test_networks_side_by_side(tmp_path):
    both = [recording(seed) for seed in (0, 1)]
    models = xr.Variable("model", ["a", "b"])
    maps = xr.concat([one.pf.rate_maps() for one in both], models)
    assert maps.rate.dims == ("model", "unit", "y", "x")
    assert maps.layer.dims == ("unit",)
    information = maps.pf.spatial_information()
    for row, one in zip(information, both, strict=True):
        np.testing.assert_allclose(row, one.pf.rate_maps().pf.spatial_information())
    together = xr.concat(both, models)
    one = together.sel(model="b", drop=True)
    np.testing.assert_array_equal(one.pf.rate_maps().rate, maps.rate.sel(model="b"))
    maps.to_netcdf(tmp_path / "maps.nc")
    with xr.open_dataset(tmp_path / "maps.nc") as found:
        xr.testing.assert_identical(found.load(), maps)


def test_a_dataset_that_is_none_of_ours_is_refused_by_the_function():
    with pytest.raises(ValueError, match="recording breaks the Dataset contract"):
        simulation.maps(np.ones((1, 3, 3))).pf.rate_maps()
