"""Every figure beside a picture of it that was looked at: tests/plot/pictures/<test>.png.

After an intended change, ``pytest tests/plot --mpl-generate-path=tests/plot/pictures``
draws them anew: look at each.
"""

import inspect
from functools import partial

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from helpers import measured
from matplotlib.figure import Figure

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.zoo.registry import results_folder

mpl.use("agg")
SIDE = 7
picture = partial(
    pytest.mark.mpl_image_compare,
    baseline_dir="pictures",
    style="default",
    tolerance=12,  # RMS of 255: fonts are drawn a little differently from version to version
    savefig_kwargs={"dpi": 60},
)


def blank(width=4.6, height=3.6):
    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def maps():
    """One unit with a field, 0 on the left half of the rest, and four places not visited."""
    rate = np.round(simulation.bump((2, 4), side=SIDE), 3)
    rate[:, :2] = 0
    rate[5, 1:5] = np.nan
    return simulation.maps(rate[None]).assign_coords(
        layer=("unit", ["ffn.1"]),
        index=("unit", [17]),
        x=("x", np.arange(SIDE), {"units": "1"}),
        y=("y", np.arange(SIDE), {"units": "1"}),
    )


def memories(shift):
    error = np.array([0.1, 0.4]) + shift
    bounds = np.stack([error - 0.05, error + 0.05], axis=1)
    return xr.Dataset(
        {"error": ("memory", error), "interval": (("memory", "bound"), bounds)},
        coords={"memory": ["working", "reference"], "bound": ["lower", "upper"]},
        attrs={"chance": 0.9},
    )


def errors(*first):
    """Errors (…, maps, memory) that rise with ``first``, and their intervals."""
    rise = np.array(first)[..., None, None]
    error = 0.1 + rise * np.array([[0.1, 0.6], [0.2, 0.8]])
    return error, np.stack([error - 0.05, error + 0.05], axis=-1)


@picture()
def test_rate_maps():
    return pf.plot.rate_maps(maps(), ax=blank()).figure


@picture()
def test_place_fields():
    data = maps()
    return pf.plot.place_fields(data, pf.place_fields(data), ax=blank()).figure


def arena():
    """One unit with a field at the top left of a box of a metre, whose lower right is unvisited."""
    edges = np.linspace(0, 1, 11)
    centre = (edges[:-1] + edges[1:]) / 2
    y, x = np.meshgrid(centre, centre, indexing="ij")
    rate = 8 * np.exp(-((y - 0.75) ** 2 + (x - 0.25) ** 2) / 0.03)
    rate[(y < 0.2) & (x > 0.7)] = np.nan
    units = {"units": "m"}
    return xr.Dataset(
        {
            "rate": (("unit", "y", "x"), rate[None], {"units": "Hz"}),
            "occupancy": (("y", "x"), np.where(np.isnan(rate), 0, 30)),
        },
        {"y": ("y", centre, units), "x": ("x", centre, units),
         "y_edges": ("y_edges", edges), "x_edges": ("x_edges", edges),
         "unit": ["CA1/7"]},
    )  # fmt: skip


def track(n_units=1):
    """Units with one field each on a track of two metres, of which the last bin is unvisited."""
    edges = np.linspace(0, 200, 26)
    centre = (edges[:-1] + edges[1:]) / 2
    peak = 200 * (np.arange(n_units) * 7 % n_units + 0.3) / n_units
    rate = 1 + (4 + np.arange(n_units))[:, None] * np.exp(-(((centre - peak[:, None]) / 15) ** 2))
    rate[:, -1] = np.nan
    return xr.Dataset(
        {
            "rate": (("unit", "x"), np.round(rate, 3), {"units": "Hz"}),
            "occupancy": ("x", np.where(np.arange(25) < 24, 30, 0)),
        },
        {"x": ("x", centre, {"units": "cm"}), "x_edges": ("x_edges", edges),
         "unit": [f"CA1/{i}" for i in range(n_units)]},
    )  # fmt: skip


@picture()
def test_rate_maps_in_metres():
    return pf.plot.rate_maps(arena(), ax=blank()).figure


@picture()
def test_rate_maps_in_centimetres():
    """Bins of one centimetre at whole numbers are no grid of a world: y points up."""
    units = {"units": "cm"}
    data = maps()
    data = data.assign_coords(x=("x", np.arange(SIDE), units), y=("y", np.arange(SIDE), units))
    return pf.plot.rate_maps(data, ax=blank()).figure


@picture()
def test_rate_maps_on_a_track():
    return pf.plot.rate_maps(track(), ax=blank()).figure


@picture()
def test_place_fields_on_a_track():
    data = track()
    return pf.plot.place_fields(data, pf.place_fields(data), ax=blank()).figure


@picture()
def test_population():
    return pf.plot.population(track(12), ax=blank()).figure


@picture()
def test_population_sorted_by_the_other_half():
    rng = np.random.default_rng(0)
    data = track(12)
    noisy = [data.assign(rate=data.rate + 2 * rng.standard_normal(data.rate.shape)) for _ in "ab"]
    halves = xr.concat(noisy, xr.Variable("half", ["odd", "even"]), data_vars=["rate"])
    return pf.plot.population(halves, ax=blank()).figure


@picture()
def test_gallery():
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    rng = np.random.default_rng(1)
    data = simulation.maps(np.round(simulation.units(rng, 7, 1, side=SIDE), 3))
    data = data.assign_coords(layer=("unit", ["ffn.1"] * 7))
    pf.plot.gallery(data, [6, 1, 2, 3, 0], fields=pf.place_fields(data), ax=figure.subplots(2, 3))
    return figure


@picture()
def test_gallery_on_a_track():
    figure = Figure(figsize=(6, 2), layout="constrained")
    pf.plot.gallery(track(3), ax=figure.subplots(1, 3))
    return figure


@picture()
def test_autocorrelogram():
    y, x = np.mgrid[:30, :30] * 2.0
    turns = np.deg2rad([20, 80, 140])
    waves = [np.cos(0.35 * (x / 1.2 * np.cos(a) + y * np.sin(a))) for a in turns]
    maps = pf.maps_from_arrays(sum(waves), edges=np.arange(31) * 2.0, position_units="cm")
    r, found = pf.autocorrelogram(maps), pf.grid_properties(maps)
    return pf.plot.autocorrelogram(r, properties=found, ax=blank()).figure


@picture()
def test_walk():
    steps = ("walk", "time")
    x, y = [[0, 1, 1, 2, 3, 3, 2, 1, 1]], [[0, 0, 1, 1, 1, 2, 2, 2, 1]]
    visited = [[False, False, False, False, True, False, True, True, True]]
    correct = [[True, False, True, True, True, False, True, False, True]]
    data = xr.Dataset(
        {"visited": (steps, visited), "correct": (steps, correct)},
        coords={"x": (steps, x), "y": (steps, y)},
        attrs={"side": 4},
    )
    letters = xr.DataArray(np.arange(16).reshape(4, 4) % 5, dims=("y", "x"))
    return pf.plot.walk(data, letters, ax=blank(4.2, 4.8)).figure


@picture()
def test_walk_in_metres():
    angle, step = np.linspace(0, 5, 60), ("walk", "time")
    x, y = 0.5 + 0.4 * angle / 5 * np.cos(angle), 0.5 + 0.4 * angle / 5 * np.sin(angle)
    metres = {"units": "m"}
    data = xr.Dataset(coords={"x": (step, x[None], metres), "y": (step, y[None], metres)})
    return pf.plot.walk(data, ax=blank(4.2, 4.8)).figure


@picture()
def test_memory():
    return pf.plot.memory({"trained": memories(0), "novel": memories(0.5)}, ax=blank()).figure


@picture()
def test_distribution():
    about = {"units": "bits/spike", "long_name": "spatial information"}
    trained = xr.DataArray(np.linspace(0, 2, 41) ** 2, dims="unit", attrs=about)
    groups = {"trained map": trained, "novel map": trained * 0.5, "shifted in time": trained * 0.1}
    return pf.plot.distribution(groups, ax=blank()).figure


@picture()
def test_ablation():
    error, interval = errors([0.0, 0.3, 0.8, 1.0], [0.0, 0.1, 0.3, 1.0], [0.0, 0.1, 0.4, np.nan])
    dims = ("selection", "fraction", "maps", "memory")
    curve = xr.Dataset(
        {"error": ((*dims, "repeat"), error[..., None]), "interval": ((*dims, "bound"), interval)},
        coords={
            "selection": ["ordered", "random", "matched"],
            "fraction": [0, 0.1, 0.5, 1],
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "bound": ["lower", "upper"],
        },
        attrs={"order": "place_cell_score", "layers": "ffn.1", "keep": 0, "chance": 0.9},
    )
    return pf.plot.ablation(curve, ax=blank()).figure


@picture()
def test_lesion_points():
    rng = np.random.default_rng(0)
    error = np.array([[0.1, 0.42], [0.1, 0.22], [0.1, 0.18]])[..., None] + 0.02 * rng.random(
        (3, 2, 9)
    )
    error[:, 0], error[0] = 0.1, error[0, :, :1]  # one set of no units, and of all chosen ones
    mean = error.mean(-1)
    curve = xr.Dataset(
        {
            "error": (("selection", "fraction", "repeat"), error),
            "interval": (
                ("selection", "fraction", "bound"), np.stack([mean - 0.04, mean + 0.05], -1)
            ),
        },
        {
            "selection": ["ordered", "random", "stratified"],
            "fraction": [0, 0.14],
            "bound": ["lower", "upper"],
        },
        {"order": "chosen", "chance": 0.9, "where": "chunk_end"},
    ).expand_dims(maps=["trained"], memory=["reference"])  # fmt: skip
    alpha = np.array([0, 0.3, 1, 10])
    values = np.array([0.7, 0.5, 0.3, 0.1])
    doses = xr.Dataset(
        {
            "error": ("model", values),
            "interval": (("model", "bound"), np.stack([values - 0.05, values + 0.05], -1)),
        },
        {
            "alpha": ("model", alpha),
            "mg_mM": ("model", [pf.alpha_to_mg(a) for a in alpha]),
            "bound": ["lower", "upper"],
        },
    ).expand_dims(maps=["trained"], memory=["reference"])
    return pf.plot.lesion_points(curve, doses, ax=blank(5.4, 5)).figure


@picture()
def test_dose_response():
    alpha = np.array([0, 0.1, 1, 10])
    error, interval = errors(*(1 - alpha / (1 + alpha)))
    dims = ("model", "maps", "memory")
    response = xr.Dataset(
        {"error": (dims, error), "interval": ((*dims, "bound"), interval)},
        coords={
            "alpha": ("model", alpha),
            "mg_mM": ("model", [pf.alpha_to_mg(a) for a in alpha]),
            "trained_alpha": ("model", np.full(4, 1.0)),
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "bound": ["lower", "upper"],
        },
        attrs={"chance": 0.9},
    )
    return pf.plot.dose_response(response, ax=blank()).figure


@picture()
def test_comparison():
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    data = pf.memory_comparison(measured.networks(), measured.doses(), measured.lesions())
    pf.plot.comparison(data, ax=figure.subplots(2, 3))
    return figure


@picture()
def test_activations():
    return pf.plot.activations(measured.networks(), memory="reference", ax=blank(7)).figure


@picture()
def test_training():
    return pf.plot.training(measured.networks(), memory="reference", ax=blank(7)).figure


@picture()
def test_score_card():
    share = np.array([[0.9, 0.7, 0.8, np.nan], [0.4, 0.3, 0.2, np.nan], [1, 1, 1, np.nan]])
    error = np.array([[0.2, 0.3], [8, 1.1], [0.05, 0.1]])
    card = xr.Dataset(
        {
            "share": (("subject", "mark"), share),
            "share_interval": (
                ("subject", "mark", "bound"), np.stack([share - 0.1, share + 0.05], -1)
            ),
            "decoded_error": (("subject", "decoder"), error),
            "decoded_interval": (
                ("subject", "decoder", "bound"), np.stack([error - 0.04, error + 0.04], -1)
            ),
            "chance_error": ("subject", np.ones(3)),
            "n_units": 64,
        },
        coords={
            "subject": ["network", "untrained twin", "random smooth fields"],
            "mark": ["tuned", "beyond input", "stable", "remaps"],
            "decoder": ["ridge", "bayes"],
            "bound": ["lower", "upper"],
        },
    ).expand_dims(layer=["ffn.1"])  # fmt: skip
    for absent in ("ffn.2", 1, -2):
        with pytest.raises(ValueError, match=r"layer must be one of \['ffn.1'\]"):
            pf.plot.score_card(card, absent)
    return pf.plot.score_card(card, ax=blank(6, 3.6)).figure


def stored(name):
    """Measurements of the zoo, which the package holds."""
    return xr.load_dataset(results_folder() / f"{name}.nc")


@picture()
def test_specificity():
    return pf.plot.specificity(stored("specificity"), ax=blank(6, 4.5)).figure


@picture()
def test_consolidation():
    figure = Figure(figsize=(10, 7), layout="constrained")
    course = stored("consolidation")
    which = int(np.flatnonzero(course["name"].values == "consolidation-nmda-a10")[0])
    pf.plot.consolidation(course.isel(model=which), ax=figure.subplots(2, 2))
    return figure


@picture()
def test_amnesia_curve():
    curve = stored("amnesia")
    shown = curve.isel(model=0).sel(maps=["old", "new"])
    return pf.plot.amnesia_curve(shown, ax=blank(6, 4.5)).figure


def test_every_figure_has_a_picture():
    public = {
        name
        for name, value in vars(pf.plot).items()
        if inspect.isfunction(value) and not name.startswith("_") and name != "fill"
    }
    assert all(f"test_{name}" in globals() for name in public), public
