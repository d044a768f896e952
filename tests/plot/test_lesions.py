"""Figures of lesions and doses: what is drawn is what was given, and nothing is written into it."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import placeformer as pf

mpl.use("agg")
MAPS, MEMORY = ["trained", "novel"], ["working", "reference"]


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture
def curve():
    rng = np.random.default_rng(0)
    error = rng.random((2, 2, 3, 4, 5))
    error[:, :, 2, 2:] = np.nan
    mean = error.mean(-1)
    return xr.Dataset(
        {
            "error": (("maps", "memory", "selection", "fraction", "repeat"), error),
            "interval": (
                ("maps", "memory", "selection", "fraction", "bound"),
                np.stack([mean - 0.1, mean + 0.1], -1),
            ),
            "score": (("measure", "selection", "fraction", "repeat"), error[0, :1]),
            "score_interval": (
                ("measure", "selection", "fraction", "bound"),
                np.stack([mean - 0.1, mean + 0.1], -1)[0, :1],
            ),
        },
        {
            "maps": MAPS,
            "memory": MEMORY,
            "selection": ["ordered", "random", "matched"],
            "fraction": [0, 0.1, 0.5, 1],
            "bound": ["lower", "upper"],
            "measure": ["decoding"],
        },
        {"order": "place_cell_score", "layers": "ffn.1", "keep": 0, "chance": 0.9},
    )


@pytest.fixture
def response():
    alpha = np.array([10, 0, 1, np.nan])
    error = np.random.default_rng(0).random((4, 2, 2))
    return xr.Dataset(
        {
            "error": (("model", "maps", "memory"), error),
            "interval": (
                ("model", "maps", "memory", "bound"),
                np.stack([error - 0.1, error + 0.2], -1),
            ),
            "value": (("model", "metric"), error[:, 0]),
        },
        {
            "alpha": ("model", alpha),
            "mg_mM": ("model", 3.57 * alpha),
            "trained_alpha": ("model", [10, 10, 10, np.nan]),
            "maps": MAPS,
            "memory": MEMORY,
            "metric": ["place cells", "other"],
        },
        {"chance": 0.9},
    )


def lines(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}


def test_a_curve_is_the_mean_over_repeats(curve, ax):
    before = curve.copy(deep=True)
    assert pf.plot.ablation(curve, memory="working", maps="novel", ax=ax) is ax
    xr.testing.assert_identical(curve, before)
    drawn = lines(ax)
    assert list(drawn) == ["by place-cell score", "random units", "matched units", "chance"]
    names = zip(["ordered", "random", "matched"], drawn, strict=False)
    for selection, label in names:
        want = curve.error.sel(maps="novel", memory="working", selection=selection)
        np.testing.assert_array_equal(drawn[label].get_xdata(), curve.fraction)
        np.testing.assert_array_equal(drawn[label].get_ydata(), want.mean("repeat", skipna=False))
    assert len(ax.collections) == 3
    assert ax.get_ylabel() == "working-memory errors, novel maps"
    assert ax.get_xlabel() == "share of units lesioned (ffn.1)"


def test_a_curve_of_a_score_and_of_kept_units(curve):
    ax = pf.plot.ablation(curve.assign_attrs(keep=1), measure="decoding")
    assert ax.get_ylabel() == "decoding"
    assert ax.get_xlabel() == "share of units kept (ffn.1)"
    assert "chance" not in lines(ax)


def test_doses_are_drawn_in_order_with_their_intervals(response, ax):
    before = response.copy(deep=True)
    assert pf.plot.dose_response(response, ax=ax) is ax
    xr.testing.assert_identical(response, before)
    points = ax.containers[0]
    np.testing.assert_array_equal(points.lines[0].get_xdata(), [0, 1, 10])
    want = response.error.sel(maps="trained", memory="reference").values[[1, 2, 0]]
    np.testing.assert_array_equal(points.lines[0].get_ydata(), want)
    spans = [segment[:, 1] for segment in points.lines[2][0].get_segments()]
    np.testing.assert_allclose(spans, np.stack([want - 0.1, want + 0.2], 1))
    ax.figure.draw_without_rendering()
    (above,) = ax.child_axes
    np.testing.assert_allclose(above.get_xlim(), np.multiply(ax.get_xlim(), 3.57))


def test_several_responses_a_metric_and_a_fit(response):
    doses = np.array([0, 0.1, 0.5, 1, 2, 5, 10])
    values = 0.9 - 0.6 / (1 + 0.7 / np.maximum(doses, 1e-9))
    points = xr.DataArray(values, {"alpha": ("model", doses)}, "model", "error")
    fit = pf.fit_hill(points)
    ax = pf.plot.dose_response(
        {"test time": response, "trained": response}, metric="place cells", fit=fit
    )
    labels = ax.get_legend_handles_labels()[1]
    assert set(labels) == {"test time", "trained", "Hill fit", "K = 0.7"}
    assert ax.get_ylabel() == "place cells"
    unsure = fit.assign(identifiable=False)
    assert "K = 0.7" not in lines(pf.plot.dose_response(response, fit=unsure))


@pytest.mark.parametrize(
    ("where", "words"), [("chunk_end", "chunk ends"), ("every_step", "every step")]
)
def test_labels_say_which_predictions_are_counted(curve, response, where, words):
    want = f"reference-memory errors, trained maps, {words}"
    assert pf.plot.ablation(curve.assign_attrs(where=where)).get_ylabel() == want
    assert pf.plot.dose_response(response.assign_attrs(where=where)).get_ylabel() == want


def test_chosen_units_are_named(curve):
    for order, label in (
        ("chosen", "chosen units"),
        ("given", "by given score"),
        ("place cells, then score", "by place cells, then score"),
    ):
        drawn = lines(pf.plot.ablation(curve.assign_attrs(order=order)))
        assert list(drawn)[:2] == [label, "random units"]


def test_the_axis_of_another_parameter_is_its_dose():
    about = {"units": "1", "long_name": "factor of the activation"}
    response = xr.Dataset(
        {
            "value": (("model", "metric"), [[1.0], [2.0], [4.0]]),
            "interval": (("model", "metric", "bound"), [[[0.5, 1.5]], [[1, 3]], [[2, 6]]]),
        },
        {"metric": ["cost"], "dose": ("model", [0.5, 1.0, -np.inf], about),
         "alpha": ("model", [10.0] * 3), "trained_alpha": ("model", [10.0] * 3)},
        {"parameter": "gain"},
    )  # fmt: skip
    ax = pf.plot.dose_response(response, metric="cost")
    assert ax.get_xlabel() == "factor of the activation" and ax.get_xscale() == "linear"
    assert ax.lines[0].get_xdata().tolist() == [0.5, 1.0]
    other = {"gain": response, "α": response.assign_attrs(parameter="nmda")}
    with pytest.raises(ValueError, match="response must be of one parameter"):
        pf.plot.dose_response(other, metric="cost")


def test_points_of_lesions_stand_beside_doses(ax, curve, response):
    pf.plot.lesion_points(curve, response, fraction=0.5, memory="working", ax=ax)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels[:4] == ["no lesion", "by place-cell score", "random units", "matched units"]
    assert [text.split(" (")[0] for text in labels[4:]] == ["α = 10", "α = 1", "α = 0"]
    drawn = {
        float(x): float(y)
        for container in ax.containers
        for x, y in zip(*container.lines[0].get_data(), strict=True)
    }
    error = curve["error"].sel(maps="trained", memory="working")
    np.testing.assert_allclose(drawn[0], error.isel(selection=0, fraction=0).mean())
    np.testing.assert_allclose(drawn[2], error.sel(selection="random", fraction=0.5).mean())
    assert np.isnan(drawn[3])  # no set was matched
    doses = response["error"].sel(maps="trained", memory="working").values
    np.testing.assert_allclose([drawn[4], drawn[5], drawn[6]], doses[[0, 2, 1]])
    with pytest.raises(ValueError, match="fraction must be one of 0, 0.1, 0.5, 1, got 0.3"):
        pf.plot.lesion_points(curve, fraction=0.3, ax=ax)


def test_points_of_scores_and_of_several_curves(ax, curve):
    pf.plot.lesion_points({"a": curve, "b": curve}, measure="decoding", ax=ax)
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert len(labels) == 7 and labels[4] == "b: by place-cell score"
    assert ax.get_ylabel() == "decoding"


def test_a_course_shows_every_layer_and_tells_scores_apart():
    layers = [f"$h_{i}$ $\\x$" for i in range(5)]
    both = ["trained", "novel"]
    cka = np.random.default_rng(0).random((3, 2, 5))
    course = xr.Dataset(
        {
            "place_cell_fraction": (("step", "maps", "layer"), cka),
            "memory_dependent_fraction": (("step", "layer"), cka[:, 0]),
            "kept_excess": (("step", "compared"), cka[:, 0, :3]),
            "cka": (("step", "maps", "layer"), cka),
            "cka_interval": (("step", "maps", "layer", "bound"), np.stack([cka, cka], -1)),
            "map_excess": ("step", cka[:, 0, 0]),
            "map_excess_interval": (("step", "bound"), cka[:, :, 0]),
            "score": (("step", "metric"), cka[:, 0, :2]),
        },
        {
            "step": [0, 1, 2], "maps": both, "layer": layers, "metric": ["loss $1$", "gain"],
            "compared": ["previous", "final", "retest"],
        },
    )  # fmt: skip
    panels = pf.plot.consolidation(course, ax=Figure(figsize=(9, 9)).subplots(2, 2))
    scores, *_, alike = panels.ravel()
    scores.figure.canvas.draw()
    assert len({line.get_color() for line in scores.get_lines()}) == 2 and scores.get_ylabel()
    shown = [line for line in alike.get_lines() if line.get_label().startswith("CKA")]
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in shown}
    assert len(shown) == len(looks) == 2 * len(layers)


def test_doses_of_networks_without_alpha_are_refused_before_a_figure_is_opened(response):
    with pytest.raises(ValueError, match="at least one network with a finite alpha, got none"):
        pf.plot.dose_response(response.isel(model=[3]))
