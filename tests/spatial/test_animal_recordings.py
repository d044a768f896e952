"""Place cells of recordings like those of animals: smoothing, bins, and tracks of one axis."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

import placeformer as pf
from placeformer.spatial.rate_maps import rate_maps
from placeformer.spatial.stability import half_maps

TRACK = Path(__file__).parents[3] / "shared" / "real" / "nelpy_linear_track.npz"
QUIET = {"progress": False}


def correlated_noise(rng, n, units, seconds, hz=10):
    """Noise (time, unit) of variance 1 whose correlation decays within some seconds."""
    kept = np.exp(-1 / (seconds * hz))
    white = rng.standard_normal((n, units))
    return lfilter([np.sqrt(1 - kept**2)], [1, -kept], white, axis=0)


def forager(minutes, n_tuned, n_untuned, seed=0, hz=10):
    """A bounded random walk in a square metre, units with one field, and units of noise."""
    rng = np.random.default_rng(seed)
    n = minutes * 60 * hz
    turn = np.cumsum(rng.normal(0, 0.5, n))
    steps = 0.015 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    folded = np.mod(np.cumsum(steps, axis=0) + 0.5, 2)  # walls reflect
    position = np.minimum(folded, 2 - folded)
    centre = rng.uniform(0.1, 0.9, (n_tuned, 2))
    width = rng.uniform(0.08, 0.15, n_tuned)
    distance = np.square(position[:, None] - centre).sum(axis=2)
    tuned = np.exp(-distance / (2 * width**2))
    noise = np.concatenate(
        [
            correlated_noise(rng, n, n_tuned + n_untuned // 2, 0.45),
            correlated_noise(rng, n, n_untuned - n_untuned // 2, 5),
        ],
        axis=1,
    )
    values = 0.5 * noise + np.pad(tuned, ((0, 0), (0, n_untuned)))
    return pf.from_arrays(
        values[None], {"x": position[None, :, 0], "y": position[None, :, 1]}, sample_rate=hz
    )


def shares(minutes, n_tuned, n_untuned, n_shuffles, **options):
    recording = forager(minutes, n_tuned, n_untuned)
    table = pf.place_cells(recording, bins=20, n_shuffles=n_shuffles, **options, **QUIET)
    found = table.is_place_cell.values
    return found[:n_tuned].mean(), found[n_tuned:].mean()


def test_smoothing_finds_the_cells_of_a_forager():
    found, false = shares(30, 12, 20, 79, smooth=1.5)
    assert found >= 0.9
    assert false == 0


@pytest.mark.slow
def test_the_cells_of_a_forager_are_found_and_untuned_units_are_not():
    found, false = shares(30, 60, 200, 250, smooth=1.5)
    assert found >= 0.9
    assert false <= 0.01


def test_maps_halves_and_nulls_are_smoothed_in_the_same_way():
    recording = forager(5, 3, 1)
    seen = (recording.x.values > 0.5).astype(int)
    options = {"smooth": 1.2, "min_occupancy": 2}
    index = [np.floor(recording[k].values * 10).clip(0, 9).astype(int) for k in ("y", "x")]
    recording = recording.assign(observation=(("walk", "time"), (index[1] // 5 + 0 * seen)))
    bins = {k: np.linspace(0, 1, 11) for k in ("x", "y")}
    maps = rate_maps(recording, bins=bins, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pf.place_cells(recording, bins=bins, n_shuffles=19, **options, **QUIET)
    xr.testing.assert_equal(
        table.spatial_information.drop_attrs(), pf.spatial_information(maps).drop_attrs()
    )
    np.testing.assert_array_equal(table.n_fields, pf.place_fields(maps).n_fields)
    np.testing.assert_allclose(table.stability, pf.stability(recording, bins=bins, **options))
    test = pf.shuffle_test(
        recording, "coherence", null="within_observation", bins=bins, n_shuffles=19, **options,
        **QUIET,
    )  # fmt: skip
    np.testing.assert_allclose(test.observed, pf.coherence(maps))
    np.testing.assert_array_equal(table.p_within_observation, test.p)
    by_function = pf.shuffle_test(
        recording, lambda m: pf.coherence(m), null="within_observation", bins=bins, n_shuffles=19,
        **options, **QUIET,
    )  # fmt: skip
    np.testing.assert_allclose(by_function.null_mean, test.null_mean)
    rough = pf.shuffle_test(
        recording, "coherence", null="within_observation", bins=bins, n_shuffles=19, **QUIET
    )
    assert (rough.null_mean < test.null_mean - 0.2).all()  # the null is smoothed, too
    assert half_maps(recording, bins=bins, **options).rate.sizes["half"] == 2
    with pytest.raises(ValueError, match="smooth and min_occupancy are options of rate maps"):
        pf.shuffle_test(recording, "position_variance_explained", bins=bins, smooth=1)
    with pytest.raises(ValueError, match="min_occupancy must be at least 0 s"):
        pf.shuffle_test(recording, "coherence", bins=bins, min_occupancy=-1)


def test_mean_rate_is_the_mean_over_the_samples_with_a_place():
    recording = forager(2, 2, 1)
    holed = recording.assign_coords(x=recording.x.where(recording.x < 0.7))
    with pytest.warns(UserWarning):
        table = pf.place_cells(holed, bins=8, n_shuffles=9, **QUIET)
    here = np.isfinite(holed.x.values)
    np.testing.assert_allclose(table.mean_rate, holed.activation.values[here].mean(axis=0))
    assert np.isnan(table.grid_score).all()  # bins of unequal width and height
    assert "undefined: maps must have square bins" in table.grid_score.attrs["long_name"]
    assert np.isfinite(table.border_score).any()


def track_maps(rate):
    edges = np.arange(rate.shape[1] + 1.0)
    return xr.Dataset(
        {"rate": (("unit", "x"), rate), "occupancy": ("x", np.full(rate.shape[1], 10))},
        {"x": ("x", edges[:-1] + 0.5), "x_edges": ("x_edges", edges)},
    )


@pytest.mark.parametrize("n", [10, 12, 15, 20, 40])
def test_an_ideal_cell_has_a_field_at_any_number_of_bins(n):
    place = (np.arange(n) + 0.5) / n
    fields = pf.place_fields(track_maps(np.exp(-(((place - 0.43) / 0.06) ** 2) / 2)[None]))
    assert fields.n_fields == 1
    assert fields.attrs["min_bins"] == 2
    noise = np.random.default_rng(n).standard_normal((1000, n))
    assert (pf.place_fields(track_maps(noise)).n_fields > 0).mean() < 0.06


def runner(minutes, n_tuned, n_untuned, seed=1, hz=30):
    """Laps on a track of 1 m, Poisson spikes of cells with one field, and of drifting rates."""
    rng = np.random.default_rng(seed)
    n = minutes * 60 * hz
    laps = np.cumsum(rng.gamma(4, 0.03 / hz, n))  # of the track a sample, about 0.12 a second
    x = 100 * np.abs(laps % 2 - 1)
    centre, width = rng.uniform(5, 95, n_tuned), rng.uniform(4, 10, n_tuned)
    field = np.exp(-0.5 * ((x[:, None] - centre) / width) ** 2)
    tuned = rng.uniform(0.1, 1, n_tuned) + rng.uniform(4, 20, n_tuned) * field
    drift = np.exp(np.cumsum(0.15 * rng.standard_normal((n // 300, n_untuned)), axis=0))
    untuned = rng.uniform(0.3, 8, n_untuned) * np.repeat(drift / drift.mean(axis=0), 300, axis=0)
    counts = rng.poisson(np.concatenate([tuned, untuned], axis=1) / hz)
    return pf.from_arrays(counts * np.float32(hz), {"x": x}, sample_rate=hz, units="Hz")


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 12, 20, 30, 50])
def test_cells_of_a_simulated_track_are_found_at_any_number_of_bins(n):
    table = pf.place_cells(
        runner(30, 40, 80), by="x", bins=n, smooth=0.03 * n, n_shuffles=150, **QUIET
    )
    found = table.is_place_cell.values
    assert found[:40].mean() >= 0.95
    assert found[40:].mean() <= 0.02


def test_least_size_of_a_field_is_a_square_of_as_many_axes():
    one = track_maps(np.random.default_rng(0).random((1, 20)))
    two = xr.concat([one] * 8, "y", data_vars="all").assign_coords(y=np.arange(8))
    two = two.transpose("unit", "y", "x", "x_edges").assign_coords(
        y_edges=("y_edges", np.arange(9) - 0.5)
    )
    least = {m: [pf.place_fields(d, method=m).attrs["min_bins"] for d in (one, two)]
             for m in ("peak", "fraction")}  # fmt: skip
    assert least == {"peak": [2, 4], "fraction": [3, 9]}


def running():
    """Samples of running (> 8 % of the track a second) on the linear track, of units that fire."""
    with np.load(TRACK) as file:
        data = dict(file)
    first = np.r_[True, np.diff(data["t"]) > 0]
    t = data["t"][first]
    xy = np.stack([data["x"], data["y"]], axis=1).astype(float)[first]
    axis = np.linalg.svd(xy - xy.mean(axis=0), full_matrices=False)[2][0]
    place = xy @ axis
    place = 100 * (place - place.min()) / np.ptp(place)
    dt = np.median(np.diff(t))
    kernel = np.exp(-0.5 * (np.arange(-60, 61) / 15) ** 2)
    smooth = np.convolve(np.pad(place, 60, "edge"), kernel / kernel.sum(), "valid")
    runs = np.abs(np.gradient(smooth, t)) > 8
    edges = np.r_[t - dt / 2, t[-1] + dt / 2]
    counts = [np.histogram(data["spikes"][data["unit"] == u], edges)[0] for u in range(31)]
    counts = np.stack(counts, axis=1)[runs]
    counts = counts[:, counts.sum(axis=0) >= 30]
    return pf.from_arrays(counts[None] / dt, {"x": place[None, runs]}, sample_rate=1 / dt)


@pytest.mark.slow
@pytest.mark.skipif(not TRACK.exists(), reason="needs the recording of the linear track")
def test_verdicts_on_the_linear_track_do_not_depend_on_the_number_of_bins():
    recording = running()
    verdicts = np.array(
        [
            pf.place_cells(recording, by="x", bins=n, smooth=0.03 * n, n_shuffles=500, **QUIET)
            .is_place_cell.values
            for n in (10, 12, 20, 30, 50)
        ]
    )  # fmt: skip
    assert (verdicts == verdicts[-1]).all(axis=0).sum() >= verdicts.shape[1] - 1
    assert (verdicts[1:] == verdicts[-1]).all()
    assert verdicts[-1].sum() == 13
