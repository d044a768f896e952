"""Networks that were trained alike are found by the weights of one of them."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.zoo import registry as relatives
from placeformer.zoo import registry as zoo


@pytest.mark.parametrize(
    ("name", "n"), [("nmda-a10-s1", 12), ("mini-gelu-s2", 45), ("nmda-a0.1-paper", 2)]
)
def test_a_network_of_the_zoo_is_among_its_relatives(name, n):
    found = relatives.relatives(pf.load(name).info["sha256"])
    assert name in found["name"].values and found.sizes["model"] == n
    sizes = {pf.load(other).config.d_model for other in found["name"].values}
    assert sizes == {pf.load(name).config.d_model}


def test_every_network_of_the_zoo_has_relatives_of_its_own_weights():
    table = zoo.zoo_table()
    measured = [xr.load_dataset(f) for f in relatives.results_folder().glob("*.nc")]
    known = np.concatenate([d["sha256"].values for d in measured if "sha256" in d.coords])
    assert sorted(known) == sorted(table["sha256"])


def test_others_have_none():
    assert relatives.relatives("0" * 64) is None


def test_the_installed_package_has_them_beside_its_zoo(monkeypatch, tmp_path):
    monkeypatch.setattr(relatives, "zoo_folder", lambda: tmp_path / "zoo_data")
    assert relatives.results_folder() == tmp_path / "zoo_results"
