"""Mg²⁺ beside lesions: one Dataset of what three functions gave, and its figures."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from helpers import measured
from matplotlib.figure import Figure
from scipy import stats

import placeformer as pf

mpl.use("agg")


@pytest.fixture(scope="module")
def networks():
    return measured.networks()


@pytest.fixture(scope="module")
def together(networks):
    return pf.memory_comparison(networks, measured.doses(), measured.lesions(), n_resamples=200)


def test_everything_is_there_as_it_was_given(networks, together):
    assert together["error"].equals(networks["error"])
    assert together["dose"].values.tolist() == [0, 1, 10]
    washed = together["washout_error"].sel(maps="trained", memory="reference")
    assert washed.values.tolist() == [0.8, 0.4, 0.1]
    ordered = together["lesion_error"].sel(maps="trained", memory="working", selection="ordered")
    assert ordered.values == pytest.approx([0.1, 0.3, 0.5, 0.9])
    assert together.attrs["lesioned"] == "nmda-a10"
    assert together.attrs["trained_alpha"] == 10


def test_lesions_are_means_over_repeats_and_nothing_where_one_is_missing(networks):
    lesions = measured.lesions()
    lesions["error"] = lesions["error"] + [-0.05, 0, 0, 0, 0.03]
    lesions["error"].loc[{"selection": "stratified", "fraction": 0.2, "repeat": 0}] = np.nan
    found = pf.memory_comparison(networks, measured.doses(), lesions, n_resamples=20)[
        "lesion_error"
    ]
    found = found.sel(maps="trained", memory="working")
    ordered = found.sel(selection="ordered").values
    assert ordered == pytest.approx(np.array([0.1, 0.3, 0.5, 0.9]) - 0.004)
    missing = np.isnan(found.sel(selection="stratified").values)
    assert missing.tolist() == [False, False, True, False]


def test_correlations_are_spearmans(networks, together):
    error = networks["error"].sel(maps="trained", memory="reference").values
    share = networks["place_cell_fraction"].sel(maps="trained").mean("layer").values
    found = together.sel(measure="share of place cells", given="nothing")
    assert float(found["correlation"]) == pytest.approx(stats.spearmanr(error, share).statistic)
    low, high = found["correlation_interval"].values
    assert low < float(found["correlation"]) < high


def test_measures_and_correlations_are_those_of_the_claim(networks, together):
    claims = pf.paper_claims(networks, n_resamples=200)
    claims = claims[claims["claim"] == 6].set_index("part")
    for measure in together["measure"].values:
        for given, name in (("nothing", measure), ("alpha", f"{measure}, given α as a rank")):
            found = together.sel(measure=measure, given=given)
            assert float(found["correlation"]) == claims["value"][name]
            assert found["correlation_interval"].values.tolist() == [
                claims["lower"][name], claims["upper"][name],
            ]  # fmt: skip
    assert 3 * together.sizes["measure"] == len(claims)


def test_variables_say_what_they_are_and_which_predictions_count(networks):
    about = {"units": "1", "long_name": "share of wrong predictions"}
    washout, lesions = measured.doses(), measured.lesions().assign_attrs(where="every_step")
    for data in (washout, lesions):
        data["error"].attrs = about
    found = pf.memory_comparison(networks, washout, lesions, n_resamples=10)
    assert found["washout_error"].attrs == found["lesion_error"].attrs == about
    assert {"units", "long_name"} <= set(found["correlation"].attrs)
    assert found.attrs["where_washout"] == "chunk_end"
    assert found.attrs["where_lesions"] == "every_step"
    axes = pf.plot.comparison(found, ax=Figure().subplots(2, 3)).ravel()
    assert axes[1].get_ylabel() == "errors, trained maps, chunk ends"
    assert axes[2].get_ylabel() == "errors, trained maps, every step"


def test_it_goes_into_a_file_and_nothing_given_is_changed(networks, together, tmp_path):
    given = networks, measured.doses(), measured.lesions()
    before = [each.copy(deep=True) for each in given]
    pf.memory_comparison(*given, n_resamples=10)
    assert all(map(xr.Dataset.identical, given, before))
    together.to_netcdf(tmp_path / "together.nc")
    with xr.open_dataset(tmp_path / "together.nc") as found:
        xr.testing.assert_equal(found.load(), together)


@pytest.mark.parametrize(
    ("which", "change", "said"),
    [
        (0, lambda d: d.drop_vars("eta2_beyond"), "networks must be a result of profile_networks"),
        (1, lambda d: d.drop_vars("interval"), "washout must be a result of dose_response"),
        (2, lambda d: d.drop_vars("fraction"), "lesions must be a result of ablation_curve"),
        (
            1,
            lambda d: d.assign_coords(name=("model", ["a", "a", "b"])),
            "washout must be of one network, got a, b",
        ),
    ],
)
def test_other_data_are_refused(networks, which, change, said):
    given = [networks, measured.doses(), measured.lesions()]
    given[which] = change(given[which])
    with pytest.raises(ValueError, match=said):
        pf.memory_comparison(*given)


def test_the_figure_shows_what_was_given(together):
    axes = pf.plot.comparison(together, ax=Figure().subplots(2, 3))
    assert axes.shape == (2, 3)
    a, b, c, d, e, f = axes.ravel()
    points = [line for line in a.lines if line.get_label() == "reference"]
    error = together["error"].sel(maps="trained", memory="reference")
    dosed = np.isfinite(together["trained_alpha"])
    assert sorted(points[0].get_ydata()) == pytest.approx(sorted(error.values[dosed]))
    assert list(b.lines[0].get_ydata()) == [0.8, 0.4, 0.1]
    labels = set(c.get_legend_handles_labels()[1])
    assert {"by place-cell score", "units of the same strata"} <= labels
    assert {line.get_label() for line in d.lines} >= {"trained map", "novel map"}
    assert {line.get_label() for line in e.lines} >= {"negatives: rectify", "negatives: shift"}
    assert "n = 45" in f.get_title(loc="left")


def test_six_axes_or_none(together):
    with pytest.raises(ValueError, match="ax must hold 6 axes, got 2"):
        pf.plot.comparison(together, ax=Figure().subplots(2))


def test_activations_have_a_point_a_network(networks):
    ax = pf.plot.activations(networks, ax=Figure().add_subplot())
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert labels[:2] == ["0", "0.01"]
    assert labels[-4:] == ["gelu", "leaky relu", "relu", "tanh"]
    points = [
        line for line in ax.lines if line.get_marker() in "oDs" and line.get_xdata().size == 15
    ]
    assert len(points) == 3
    expected = networks["error"].sel(maps="trained", memory="reference")
    found = np.concatenate([line.get_ydata() for line in points])
    assert sorted(found) == pytest.approx(sorted(expected.values))


def test_training_has_a_line_a_network_and_a_label_a_kind(networks):
    ax = pf.plot.training(networks, ax=Figure().add_subplot())
    assert sum(list(line.get_xdata()) == [500, 6000] for line in ax.lines) == 45
    labels = ax.get_legend_handles_labels()[1]
    assert labels[0] == "α = 0"
    assert len(labels) == 16


def test_networks_too_few_for_a_correlation_show_their_number_alone():
    few = measured.networks().isel(model=[3, 8])
    data = pf.memory_comparison(few, measured.doses(), measured.lesions())
    f = pf.plot.comparison(data).ravel()[5]
    assert f.get_title(loc="left") == "(f) n = 2"
