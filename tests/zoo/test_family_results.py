"""Networks that were trained alike are found by the weights of one of them."""

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.zoo import registry as zoo


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("nmda-a10-s1", 27),
        ("mini-gelu-s2", 45),
        ("consolidation-relu-s1", 15),
        ("nmda-a0.1-paper", 2),
    ],
)
def test_a_network_of_the_zoo_is_in_the_results_of_its_family(name, n):
    found = zoo.family_results(pf.load(name).info["sha256"])
    assert name in found["name"].values and found.sizes["model"] == n
    sizes = {pf.load(other).config.d_model for other in found["name"].values}
    assert sizes == {pf.load(name).config.d_model}


def test_every_network_of_the_zoo_has_results_of_its_own_weights():
    table = zoo.zoo_table()
    measured = [xr.load_dataset(f) for f in zoo.results_folder().glob("*.nc")]
    known = [d["sha256"].values for d in measured if "sha256" in d.coords]
    assert sorted(np.concatenate(known)) == sorted(table["sha256"])
    over_training = xr.load_dataset(zoo.results_folder() / "consolidation.nc")
    assert set(over_training["weights_sha256"].values) < set(table["sha256"])


def test_other_networks_have_no_results():
    assert zoo.family_results("0" * 64) is None


def test_the_results_are_next_to_the_zoo_in_the_installed_package(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo, "zoo_folder", lambda: tmp_path / "zoo_data")
    assert zoo.results_folder() == tmp_path / "zoo_results"
