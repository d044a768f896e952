"""Networks side by side: the figures are those of the functions that measure them."""

import numpy as np
import pytest
import xarray as xr
from helpers.networks import small_network as network

import placeformer as pf

SIZE = {
    "n_walks": 4, "n_steps": 64, "recorded_walks": 8, "recorded_steps": 200, "n_shuffles": 500,
    "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def models():
    return [network(activation="nmda", alpha=10.0), network(activation="gelu", alpha=None)]


@pytest.fixture(scope="module")
def found(models):
    return pf.profile_networks(models, **SIZE)


def test_errors_are_those_of_dose_response(models, found):
    errors = pf.dose_response(models, n_walks=4, n_steps=64, progress=False)
    xr.testing.assert_equal(found["error"], errors["error"].assign_coords(sha256=found["sha256"]))
    assert found["activation_name"].values.tolist() == ["nmda", "gelu"]
    washed = pf.dose_response(models[0], alphas=0, n_walks=4, n_steps=64, progress=False)
    assert np.array_equal(found["washout_wrong"].values[0], washed["wrong"].values[0])
    assert np.isnan(found["washout_wrong"].values[1]).all()


def test_units_are_measured_as_by_the_functions_named(models, found):
    walks = {"n_walks": 8, "n_steps": 200, "maps": (0,), "progress": False}
    trained, novel = (pf.record(models[0], **walks, familiar=f) for f in (True, False))
    cells = pf.place_cells(trained, control=novel, per_map=True, n_shuffles=500)
    maps = pf.rate_maps(trained)
    one = found.isel(model=0)
    for layer in ("ffn.0", "ffn.1"):
        here = trained["layer"].values == layer
        at = one.sel(layer=layer)
        share = [cells[name].values[..., here].mean() for name in
                 ("is_place_cell", "control_is_place_cell")]  # fmt: skip
        assert at["place_cell_fraction"].values == pytest.approx(share)
        assert float(at["memory_dependent_fraction"]) == pytest.approx(
            cells["depends_on_memory"].values[..., here].mean()
        )
        for policy in ("rectify", "shift"):
            bits = np.nanmean(pf.spatial_information(maps, negatives=policy).values[here])
            value = at["information"].sel(maps="trained", negatives=policy)
            assert float(value) == pytest.approx(bits)
        chance = pf.shuffle_test(novel, given="observation", n_shuffles=20, progress=False)
        m = chance["null_mean"].values[here]
        beyond = (chance["observed"].values[here] - m) / (1 - m)
        assert float(at["eta2_beyond"].sel(maps="novel")) == pytest.approx(np.nanmean(beyond))


def test_it_goes_into_a_file_and_on_to_the_claims(found, tmp_path):
    found.to_netcdf(tmp_path / "networks.nc")
    with xr.open_dataset(tmp_path / "networks.nc") as read:
        xr.testing.assert_equal(read.load(), found)
    assert len(pf.paper_claims(found, n_resamples=10))
    assert found["information"].attrs["units"] == "bit"
    assert found.attrs["n_shuffles"] == 500


def test_no_networks_are_refused():
    with pytest.raises(ValueError, match="models must name at least one network, got none"):
        pf.profile_networks([])
