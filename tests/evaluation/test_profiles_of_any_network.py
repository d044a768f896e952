"""Profiles of other networks and of Recordings: the same measures, and NaN for what is not."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import small_network as network
from torch import nn

import placeformer as pf

SIZE = {
    "n_walks": 4, "n_steps": 64, "recorded_walks": 8, "recorded_steps": 200, "n_shuffles": 500,
    "bins": 4, "progress": False,
}  # fmt: skip
TUNED, DEAF = 3, 5


class PlaceCode(nn.Module):
    """Some units that are tuned to place, and others that are not."""

    def __init__(self):
        super().__init__()
        self.tuned, self.deaf = nn.Linear(2, TUNED), nn.Linear(1, DEAF)

    def forward(self, place, noise):
        return self.tuned(place), self.deaf(noise)


@pytest.fixture(scope="module")
def walks():
    """Random walks between reflecting walls, (axis, walk, time), and noise."""
    rng = np.random.default_rng(0)
    place = rng.normal(0, 0.25, (2, 8, 500)).cumsum(-1)
    return np.abs((place + 1) % 4 - 2) / 2, rng.normal(size=(8, 500, 1))


@pytest.fixture(scope="module")
def run(walks):
    place, noise = walks
    return {
        "behaviour": {"x": place[0], "y": place[1]},
        "inputs": {"place": place.transpose(1, 2, 0), "noise": noise},
        "layers": ["tuned", "deaf"],
    }


@pytest.fixture(scope="module")
def code():
    torch.manual_seed(0)
    return PlaceCode()


@pytest.fixture(scope="module")
def recording(code, run):
    options = {k: v for k, v in run.items() if k != "behaviour"}
    return pf.record(code, run["behaviour"], **options, progress=False)


@pytest.fixture(scope="module")
def found(code, recording, run):
    models = {"code": code, "animal": recording, "paper": network(activation="nmda", alpha=10.0)}
    score = {"weights": lambda m: sum(w.numel() for w in m.parameters())}
    return pf.profile_networks(models, **run, score=score, **SIZE)


def test_a_network_and_its_recording_are_measured_alike(found, recording):
    assert found["name"].values.tolist() == ["code", "animal", "paper"]
    assert found["maps"].values.tolist() == ["recorded", "trained", "novel"]
    code, animal = (found.isel(model=i).sel(maps="recorded") for i in (0, 1))
    for name in ("place_cell_fraction", "information", "eta2"):
        np.testing.assert_array_equal(code[name].values, animal[name].values)
    cells = pf.place_cells(recording, bins=4, n_shuffles=500, cell_types=False, progress=False)
    share = cells["is_place_cell"].values[recording["layer"].values == "tuned"].mean()
    assert float(code["place_cell_fraction"].sel(layer="tuned")) == pytest.approx(share)
    assert float(code["eta2"].sel(layer="tuned")) > 0.6
    assert abs(float(code["eta2"].sel(layer="deaf"))) < 0.05
    assert float(code["place_cell_fraction"].sel(layer="deaf")) == 0


def test_what_is_not_there_is_nan(found):
    others, paper = found.isel(model=[0, 1]), found.isel(model=2)
    for name in ("error", "wrong", "washout_wrong", "memory_dependent_fraction", "eta2_beyond"):
        assert np.isnan(others[name].values).all(), name
    kinds = paper.sel(maps=["trained", "novel"], layer=["ffn.0", "ffn.1"])
    for name in ("error", "place_cell_fraction", "eta2", "eta2_beyond"):
        assert np.isfinite(kinds[name].values).all(), name
    assert found["trained_alpha"].values[2] == 10 and np.isnan(found["alpha"].values[:2]).all()
    assert found["score"].values[:, 0].tolist()[0] == 19 and np.isnan(found["score"].values[1, 0])


def test_navigation_transformers_are_measured_as_without_the_others(found):
    alone = pf.profile_networks(network(activation="nmda", alpha=10.0), **SIZE)
    assert "eta2" not in alone and alone["maps"].values.tolist() == ["trained", "novel"]
    among = found.isel(model=[2]).sel(maps=alone["maps"], layer=alone["layer"])
    for name in alone.data_vars:
        ours, theirs = among[name].transpose(*alone[name].dims), alone[name]
        np.testing.assert_array_equal(ours.values, theirs.values, err_msg=name)


def test_it_goes_into_a_file_and_not_to_the_claims(found, tmp_path):
    found.to_netcdf(tmp_path / "networks.nc")
    with xr.open_dataset(tmp_path / "networks.nc") as read:
        xr.testing.assert_equal(read.load(), found)
    with pytest.raises(ValueError, match="networks must be navigation Transformers, got other"):
        pf.paper_claims(found)
    with pytest.raises(TypeError, match=r"a result of profile_networks, a Dataset, got GRU"):
        pf.paper_claims(nn.GRU(1, 1))


def test_a_recording_without_layers_has_one(walks):
    place, noise = walks
    recording = pf.from_arrays(noise.repeat(2, -1), {"x": place[0], "y": place[1]})
    assert "layer" not in recording.coords
    found = pf.profile_networks(recording, **SIZE)
    assert found["layer"].values.tolist() == ["recorded"] and found["name"].item() == "recorded"
    assert "error" not in found and found["maps"].values.tolist() == ["recorded"]


def test_layers_and_forward_may_be_those_of_each_network(code, run):
    calls = []

    def forward(module, batch):
        calls.append(type(module).__name__)
        place = torch.from_numpy(batch["place"].values).float()
        return module(place) if isinstance(module, nn.Linear) else module.tuned(place)

    found = pf.profile_networks(
        {"a": code, "b": nn.Linear(2, 2)},
        **run | {"layers": {"a": "tuned", "b": "Linear"}, "forward": {"a": forward, "b": forward}},
        **SIZE,
    )
    assert set(calls) == {"PlaceCode", "Linear"}
    assert found["layer"].values.tolist() == ["tuned", "Linear"]
    with pytest.raises(ValueError, match=r"layers must have an entry .* none for 'b' \(entries: "):
        pf.profile_networks({"b": code}, **run | {"layers": {"a": "tuned"}}, **SIZE)


@pytest.mark.parametrize(
    ("models", "error", "part"),
    [
        (None, TypeError, "models must be a network, a source that pf.load accepts, or a Rec"),
        ([None], TypeError, "or a Recording, got NoneType"),
        ({"a": 3}, TypeError, r"models\['a'\] must be a network"),
        ({3: "mini-nmda-a10"}, TypeError, "text as keys, got 3"),
        (nn.GRU(1, 2), TypeError, "behaviour and layers must be given for 'GRU', which is not a"),
        ({"mine": nn.GRU(1, 2)}, TypeError, "for 'mine', .* but a GRU: .* Or pass a Recording"),
        ("no-such-network", ValueError, "source must be a network of the zoo"),
        (xr.Dataset({"a": 1}), ValueError, "breaks the Dataset contract"),
        ({}, ValueError, "models must name at least one network, got none"),
    ],
)  # fmt: skip
def test_what_cannot_be_profiled_is_refused(models, error, part):
    with pytest.raises(error, match=part):
        pf.profile_networks(models)


def test_scores_that_are_none_are_refused(code, run):
    with pytest.raises(TypeError, match=r"score\['score'\] must return a number, got 2; return"):
        pf.profile_networks(code, **run, score=lambda model: (1, 2), **SIZE)
    with pytest.raises(TypeError, match="score must be a function of the network, .* got int"):
        pf.profile_networks(code, **run, score={"x": 1}, **SIZE)
