"""The script that measures networks over their training, and the page made of what it measured."""

import importlib.util

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from helpers.scripts import ZOO

import placeformer as pf

mpl.use("agg")
DOCS = ZOO.parent / "docs"


def module(file, *folders):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    found = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for folder in folders:
            patch.syspath_prepend(str(folder))
        spec.loader.exec_module(found)
    return found


@pytest.fixture
def script():
    return module(ZOO / "consolidation.py", ZOO)


def test_a_network_is_measured_again_only_if_its_weights_are_others(script, tmp_path, monkeypatch):
    stored = xr.load_dataset(script.RESULTS / "consolidation.nc")
    known, new = stored["name"].values[:2].tolist()
    calls = []

    def measured(name, steps, **settings):
        calls.append((name, steps, settings["maps"]))
        row = stored.isel(model=stored["name"].values.tolist().index(name), drop=True)
        return row.drop_vars(["history", "history_step"])

    monkeypatch.setattr(pf, "consolidation", measured)
    monkeypatch.setattr(script, "read_recipes", lambda _: [known, new])
    stored.isel(model=[0]).to_netcdf(tmp_path / "some.nc")
    found = script.courses(tmp_path / "some.nc")
    assert calls == [(new, script.STEPS, [0, 1])]
    both = stored.isel(model=[0, 1])
    for name in ("error", "is_place_cell", "kept", "history"):
        np.testing.assert_array_equal(found[name].values, both[name].values)
    assert found["weights_sha256"].values.tolist() == both["weights_sha256"].values.tolist()
    script.courses(tmp_path / "some.nc")
    assert len(calls) == 1


def test_stored_results_are_of_the_networks_that_are_there(script):
    courses = xr.load_dataset(script.RESULTS / "consolidation.nc")
    for name, sha256 in zip(courses["name"].values, courses["weights_sha256"].values, strict=True):
        assert pf.load(str(name)).info["sha256"] == sha256
        assert set(courses["step"].values) <= set(pf.list_steps(str(name)))


def test_the_page_has_its_tables_and_figures(tmp_path):
    page = module(DOCS / "_ext" / "consolidation_pages.py", DOCS / "_ext")
    page.write_all(tmp_path)
    text = (DOCS / "consolidation.rst").read_text("utf-8")
    wanted = {line.split("generated/")[1] for line in text.splitlines() if "generated/" in line}
    assert wanted == {file.name for file in tmp_path.iterdir()}
    courses = xr.load_dataset(page.RESULTS / "consolidation.nc")
    times = (tmp_path / "consolidation-times.txt").read_text("utf-8")
    assert times.count("``consolidation-") == courses.sizes["model"]
    words = {"before", "with", "after", "undecided", "not tested"}
    when = (tmp_path / "consolidation-when.txt").read_text("utf-8")
    n_networks = len(np.unique(courses["network"].values))
    assert sum(when.count(f"**{word}**") for word in words) == 4 * n_networks
    assert "seeds" in (tmp_path / "consolidation-networks.txt").read_text("utf-8")
