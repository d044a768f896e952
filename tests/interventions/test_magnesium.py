"""Mg²⁺ at test time: it is the network built with that α, and the network comes back whole."""

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import network
from torch import nn

from placeformer.data.schema import read_provenance
from placeformer.interventions import equivalent_alpha as equivalence
from placeformer.interventions.equivalent_alpha import (
    alpha_at,
    crossing,
    dose_range,
    equivalent_alpha,
)
from placeformer.interventions.lesions import ablate
from placeformer.interventions.magnesium import dose_response, magnesium
from placeformer.models.activation import NMDA, nmda
from placeformer.models.memory import memory_errors, predictions
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.recording.record import record
from placeformer.zoo.folder import save, write_sums
from placeformer.zoo.registry import load

CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 4.0)
SMALL = {"n_walks": 6, "n_steps": 24, "progress": False}


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


@pytest.fixture(scope="module")
def walk(model):
    return model.world.walk(4, 12, seed=1)


def test_it_is_the_network_built_with_that_alpha(model, walk):
    other = NavigationTransformer(
        ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "nmda", 0.5), model.world
    ).eval()
    other.load_state_dict(model.state_dict())
    with magnesium(model, alpha=0.5):
        got = predictions(model, walk, seed=0)
        recording = record(model, walk, burn_in=0, progress=False)
    np.testing.assert_array_equal(got, predictions(other, walk, seed=0))
    assert not np.array_equal(got, predictions(model, walk, seed=0))
    assert read_provenance(recording)["steps"][0]["network"]["alpha"] == 0.5
    with magnesium(model, mg_mM=0.5 * 3.57):
        np.testing.assert_array_equal(predictions(model, walk, seed=0), got)


def test_the_trained_alpha_changes_nothing(model):
    with magnesium(model, alpha=CONFIG.alpha):
        got = memory_errors(model, n_walks=8, n_steps=24)
    xr.testing.assert_identical(got, memory_errors(model, n_walks=8, n_steps=24))


def test_blocks_nest_and_are_undone_by_an_exception_too(model):
    with pytest.raises(KeyboardInterrupt), magnesium(model, alpha=1.0):
        with magnesium(model, alpha=0):
            assert model.config.alpha == model.layers[1].ffn.activation.alpha == 0
        assert model.config.alpha == model.layers[0].ffn.activation.alpha == 1
        raise KeyboardInterrupt
    assert model.config == CONFIG
    assert model.layers[0].ffn.activation.alpha == CONFIG.alpha


def test_any_network_with_nmda_will_do():
    net, x = nn.Sequential(nn.Linear(2, 3), NMDA(1.0)), torch.randn(4, 2)
    with magnesium(net, alpha=7.0):
        assert torch.equal(net(x), nmda(net[0](x), 7.0))
    assert torch.equal(net(x), nmda(net[0](x), 1.0))
    with pytest.raises(ValueError, match="must have NMDA activations .* got none in ReLU"):
        magnesium(nn.ReLU(), alpha=1).__enter__()


@pytest.mark.parametrize("doses", [{}, {"alpha": 1.0, "mg_mM": 1.0}])
def test_exactly_one_dose_is_taken(model, doses):
    with pytest.raises(ValueError, match="exactly one of alpha and mg_mM must be given, got"):
        magnesium(model, **doses).__enter__()
    with pytest.raises(ValueError, match="alpha must be a finite number ≥ 0"):
        magnesium(model, alpha=-1).__enter__()
    with pytest.raises(ValueError, match="mg_mM must be a finite concentration ≥ 0 mM"):
        magnesium(model, mg_mM=float("nan")).__enter__()


def test_dose_response_at_test_time(model, tmp_path):
    got = dose_response(model, alphas=[0, 4], **SMALL)
    assert got.error.dims == ("model", "maps", "memory")
    assert got.alpha.values.tolist() == [0, 4]
    np.testing.assert_allclose(got.mg_mM, [0, 4 * 3.57])
    assert got.trained_alpha.values.tolist() == [4, 4]
    assert got.n_maps.values.tolist() == [3, 3]
    for alpha, row in zip((0, 4), (got.isel(model=0), got.isel(model=1)), strict=True):
        for kind in ("trained", "novel"):
            with magnesium(model, alpha=alpha):
                want = memory_errors(model, n_walks=6, n_steps=24, familiar=kind == "trained")
            np.testing.assert_allclose(row.error.sel(maps=kind), want.error)
            np.testing.assert_array_equal(row.n.sel(maps=kind).sum("walk"), want.n)
            np.testing.assert_allclose(row.interval.sel(maps=kind), want.interval)
    assert ((got.interval[..., 0] <= got.error) & (got.error <= got.interval[..., 1])).all()
    by_mg = dose_response(model, mg_mM=[0, 4 * 3.57], **SMALL)
    xr.testing.assert_allclose(by_mg, got)
    got.to_netcdf(tmp_path / "dose.nc")
    with xr.open_dataset(tmp_path / "dose.nc") as back:
        xr.testing.assert_identical(back.load(), got)


def test_dose_response_on_some_maps_at_every_step(model):
    walks = {"n_walks": 6, "n_steps": 24, "maps": [2], "where": "every_step"}
    got = dose_response(model, **walks, progress=False).isel(model=0)
    want = memory_errors(model, **walks)
    np.testing.assert_allclose(got.error.sel(maps="trained"), want.error)
    assert (got.attrs["maps_walked"], got.attrs["where"]) == ("2", "every_step")
    every = dose_response(model, n_walks=6, n_steps=24, progress=False)
    assert (every.attrs["maps_walked"], every.attrs["where"]) == ("all", "chunk_end")


def test_dose_response_over_networks_and_folders(model, tmp_path):
    relu = network(ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "relu", None), n_maps=2)
    save(model, tmp_path / "nmda-a4")
    (tmp_path / "nmda-a4" / "recipe.toml").write_text("seed = 7\n")
    write_sums(tmp_path / "nmda-a4")
    got = dose_response([tmp_path / "nmda-a4", relu], **SMALL)
    assert got.name.values.tolist() == ["nmda-a4", "network"]
    assert got.activation_name.values.tolist() == ["nmda", "relu"]
    assert got.n_maps.values.tolist() == [3, 2]
    assert got.seed.values.tolist() == [7, -1]
    np.testing.assert_array_equal(got.alpha, [4, np.nan])
    np.testing.assert_array_equal(got.mg_mM, [4 * 3.57, np.nan])
    metrics = {"alpha": lambda net: net.config.alpha, "maps": lambda net: net.world.n_maps}
    values = dose_response(model, alphas=[1, 2], metric=metrics, progress=False)
    np.testing.assert_array_equal(values.value, [[1, 3], [2, 3]])
    one = dose_response(model, metric=metrics["maps"], progress=False)
    assert one.value.sel(metric="metric").item() == 3
    with pytest.raises(ValueError, match="must have NMDA activations"):
        dose_response(relu, alphas=[1], **SMALL)
    with pytest.raises(ValueError, match="models must name at least one network"):
        dose_response([], **SMALL)
    with pytest.raises(ValueError, match="at most one of alphas and mg_mM"):
        dose_response(model, alphas=1, mg_mM=1, **SMALL)


DOSES = np.array([8.0, 4.0, 2.0, 0.0])


def test_crossings_by_hand():
    error = np.array([0.2, 0.3, 0.7, 0.6])
    assert crossing(error, 0.2) == 0
    assert crossing(error, 0.5) == pytest.approx(1.5)
    assert crossing(error, 0.3) == pytest.approx(1)
    assert crossing(error, 0.8) == np.inf
    assert crossing(error, 0.1) == -np.inf
    assert alpha_at(DOSES, 1.5) == pytest.approx(8**0.5)
    assert alpha_at(DOSES, 2.5) == pytest.approx(1)
    assert alpha_at(DOSES, 3) == 0
    assert np.isnan(alpha_at(DOSES, np.inf))


def test_interval_of_known_noise():
    rng = np.random.default_rng(0)
    error = np.array([0.5, 0.2, 0.3, 0.7, 0.6])
    boot = error + np.array([0.04, 0, 0, 0, 0]) * rng.standard_normal((4000, 5))
    got = equivalence.equivalence(DOSES, error, boot)
    steps = 1.5 + np.array([1.96, -1.96]) * 0.04 / 0.4
    want = [alpha_at(DOSES, at) for at in steps]
    np.testing.assert_allclose(got.interval, want, rtol=0.02)
    assert got.alpha == pytest.approx(8**0.5)
    assert got.found == 1
    assert got.reason == ""
    beyond = equivalence.equivalence(
        DOSES, np.array([0.9, *error[1:]]), boot + np.array([0.4, 0, 0, 0, 0])
    )
    assert np.isnan(beyond.alpha)
    assert beyond.interval.isnull().all()
    assert "is above that of every α from 8 to 0 (at most 0.700)" in beyond.reason.item()
    edge = equivalence.equivalence(
        DOSES, np.array([0.68, *error[1:]]), boot + np.array([0.18, 0, 0, 0, 0])
    )
    assert edge.interval.isnull().values.tolist() == [True, False]
    free = equivalence.equivalence(DOSES, np.array([0.1, *error[1:]]), boot - [0.4, 0, 0, 0, 0])
    assert np.isnan(free.alpha)
    assert "the lesion costs nothing" in free.reason.item()
    assert free.interval.values.tolist() == [8, 8]


def test_nothing_is_interpolated_next_to_an_infinite_dose():
    doses, rng = np.array([-np.inf, 0.0, 1.0]), np.random.default_rng(0)
    error = np.array([0.3, 0.1, 0.5, 0.9])  # of the lesion, intact, and at thresholds of 0 and 1
    boot = error + np.array([0.02, 0, 0, 0]) * rng.standard_normal((400, 4))
    got = equivalence.equivalence(doses, error, boot, log=False)
    assert np.isnan(got.alpha)
    assert got.interval.values.tolist() == [-np.inf, 0]
    assert got.found == 0
    assert "lies between that of the intact network and that of the first dose, 0" in str(
        got.reason.values
    )
    beyond = equivalence.equivalence(
        doses, np.array([0.7, *error[1:]]), boot + np.array([0.4, 0, 0, 0]), log=False
    )
    assert beyond.alpha == pytest.approx(0.5)
    assert beyond.reason == ""


def test_the_equivalent_of_nothing_is_the_trained_alpha(model):
    got = equivalent_alpha(model, {"ffn.1": []}, alphas=[2, 1], **SMALL)
    assert got.alpha == CONFIG.alpha
    assert got.mg_mM == pytest.approx(4 * 3.57)
    assert got.interval.values.tolist() == [4, 4]
    assert got.dose.values.tolist() == [4, 2, 1]
    assert got.intact_error == got.lesion_error == got.error[0]


def test_errors_are_those_of_the_lesion_and_of_the_doses(model):
    got = equivalent_alpha(model, {"ffn.1": slice(None)}, how="zero", alphas=[16, 64], **SMALL)
    walks = {"n_walks": 6, "n_steps": 24}
    with ablate(model, {"ffn.1": slice(None)}, "zero"):
        assert got.lesion_error == memory_errors(model, **walks).error.sel(memory="reference")
    for alpha, error in zip((4, 16, 64), got.error.values, strict=True):
        with magnesium(model, alpha=alpha):
            assert error == memory_errors(model, **walks).error.sel(memory="reference")
    again = equivalent_alpha(model, {"ffn.1": slice(None)}, how="zero", alphas=[16, 64], **SMALL)
    xr.testing.assert_identical(got, again)


def test_bad_ranges_are_refused(model):
    assert dose_range(None, 4.0)[[0, 1, -2, -1]].tolist() == [4, 2, 4 / 512, 0]
    for alphas in ([1, 16], [4], [4, 4]):
        with pytest.raises(
            ValueError, match="alphas must lie on one side of the trained α, 4, got"
        ):
            dose_range(alphas, 4.0)
    with pytest.raises(ValueError, match="alphas must be given for a network trained at α = 0"):
        dose_range(None, 0.0)
    with pytest.raises(ValueError, match="memory must be one of working, reference, got 'long'"):
        equivalent_alpha(model, {}, memory="long", **SMALL)
    relu = network(ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.0, "relu", None))
    with pytest.raises(ValueError, match="must have NMDA activations, got 'relu'"):
        equivalent_alpha(relu, {}, **SMALL)
    with pytest.raises(ValueError, match="there is no layer 'ffn.9'"):
        equivalent_alpha(model, {"ffn.9": [0]}, **SMALL)


def test_a_network_is_not_saved_with_an_alpha_of_a_block(tmp_path):
    model = load("mini-nmda-a10")
    refused = pytest.raises(ValueError, match="network.alpha: expected that of the training, got 0")
    with refused, magnesium(model, alpha=0):
        save(model, tmp_path / "washed")
    assert not (tmp_path / "washed").exists()
    save(model, tmp_path / "after")
    assert load(tmp_path / "after").config.alpha == 10


@pytest.mark.parametrize("alpha", [np.ones(1), "1", True])
def test_alpha_is_one_number(alpha):
    refused = pytest.raises(ValueError, match="alpha must be a number, got")
    with refused, magnesium(load("mini-nmda-a10"), alpha=alpha):
        pass
