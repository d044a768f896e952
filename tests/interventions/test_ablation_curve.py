"""Ablation curves: a network whose answer hangs on known units, and the loop in full."""

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import network
from torch import nn

from placeformer.interventions import ablation_curve as lesioncurve
from placeformer.interventions.ablation_curve import ablation_curve
from placeformer.interventions.ablation_plan import draw_plan, recorded_units
from placeformer.interventions.lesions import ablate
from placeformer.models.grid_world import GridWorld
from placeformer.models.memory import memory_errors
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.recording.record import record

N_UNITS, KNOWN, NEEDED = 24, [2, 5, 11, 17], 3
CONFIG = ModelConfig(10, 16, 2, 2, 8, N_UNITS, 8, 4, 4, 0.0, "nmda", 1.0)
SMALL = {"n_walks": 6, "n_steps": 24, "n_resamples": 50, "progress": False}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(lesioncurve, "RECORDED_WALKS", 6)
    monkeypatch.setattr(lesioncurve, "RECORDED_STEPS", 40)


@pytest.fixture(scope="module")
def built():
    """Answers letter 3, as every map asks, while `NEEDED` of the `KNOWN` units of ffn.1 push it."""
    world = GridWorld(4, 10, 3, seed=0)
    world.maps[:], world.novel_maps[:] = 3, 3
    network = NavigationTransformer(CONFIG, world).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
        for norm in (network.norm, network.layers[1].ffn.norm):
            norm.weight.fill_(1)
        ffn, right, wrong = network.layers[1].ffn, 8, 9
        network.letter.weight[-1, [0, 1]] = torch.tensor([-1.0, 1.0])  # a push to letter 0
        ffn.fc1.weight[:, wrong] = 1
        push = ffn.activation(torch.tensor(8**0.5))  # of the layer norm's output at `wrong`
        ffn.fc2.weight[10], ffn.fc2.weight[11] = 1, -1  # aside
        ffn.fc2.weight[10:12, KNOWN] = 0
        each = 1 / (NEEDED - 0.5) / push
        ffn.fc2.weight[right, KNOWN], ffn.fc2.weight[wrong, KNOWN] = each, -each
        network.read_out.weight[3, right] = network.read_out.weight[0, wrong] = 1
    return network


@pytest.fixture(scope="module")
def model():
    return network(CONFIG)


@pytest.fixture(scope="module")
def reference(model):
    size = {"n_walks": 6, "n_steps": 40, "maps": range(3), "seed": 5, "progress": False}
    return [record(model, layers=layers, **size) for layers in ("ffn.*", "content.ffn.*")]


SCORE = np.isin(np.arange(N_UNITS), KNOWN).astype(float)
COUNTS = np.arange(9)


def test_the_curve_finds_the_units_the_answer_hangs_on_and_controls_do_not(built):
    curve = ablation_curve(
        built, SCORE, layers="ffn.1", how="zero", fractions=COUNTS / N_UNITS, repeats=30,
        controls=["random", "matched"], caliper=np.inf, **SMALL,
    )  # fmt: skip
    np.testing.assert_array_equal(curve.n_units, COUNTS)
    cut = len(KNOWN) - NEEDED < COUNTS
    error = curve.error.transpose("selection", "fraction", "maps", "memory", "repeat")
    np.testing.assert_array_equal(
        error.sel(selection="ordered"), cut[:, None, None, None] * np.ones((9, 2, 2, 30))
    )
    # With all known units in the ordered set its controls have none.
    assert (error.sel(selection="matched").isel(fraction=slice(len(KNOWN), None)) == 0).all()
    # A random set leaves fewer than NEEDED of the known units in some of the draws.
    assert 0.05 < error.sel(selection="random").mean() < 0.45
    assert (curve.area_p_sets.sel(control="random") == 1 / 31).all()
    assert curve.area_p_sets.sel(control="matched").isnull().all()
    assert curve.p_sets.sel(control="matched").isnull().all()
    assert (curve.area_p_pairs == 1 / 51).all()
    mean = curve.error.isel(fraction=slice(1, None)).mean(("fraction", "repeat"))
    for control in ("random", "matched"):
        want = mean.sel(selection="ordered") - mean.sel(selection=control)
        np.testing.assert_allclose(curve.area.sel(control=control), want)


def table(mask):
    """What place_cells decided, for the units of ffn.1 in another order."""
    where = {"layer": ("unit", ["ffn.1"] * N_UNITS), "index": ("unit", np.arange(N_UNITS))}
    decided = xr.DataArray(mask, where, "unit", name="is_place_cell")
    return decided.isel(unit=slice(None, None, -1)).to_dataset()


@pytest.mark.parametrize("of", [lambda mask: mask, table], ids=["mask", "table"])
def test_chosen_units_are_lesioned_beside_as_many_controls(built, of):
    curve = ablation_curve(
        built, of(SCORE == 1), layers="ffn.1", how="zero", repeats=3, caliper=np.inf,
        controls=["matched"], **SMALL,
    )  # fmt: skip
    assert curve.fraction.values.tolist() == [0, len(KNOWN) / N_UNITS]
    assert curve.n_units.values.tolist() == [0, len(KNOWN)]
    assert curve.attrs["order"] == "chosen"
    error = curve.error.sel(maps="trained", memory="reference").isel(fraction=1)
    assert (error.sel(selection="ordered") == 1).all()
    assert (error.sel(selection="matched") == 0).all()


def test_fewer_than_the_chosen_units_are_drawn_among_them(model, reference):
    mask, options = SCORE == 1, {"keep": False, "negatives": "rectify", "caliper": np.inf}
    plan = draw_plan(
        model, recorded_units(["ffn.1"], reference), mask, np.array([2, 4]) / N_UNITS, repeats=8,
        seed=0, controls=["random", "matched"], **options,
    )  # fmt: skip
    sets = plan.lesioned.isel(lesion=plan.lesion_of_set)
    assert sets.dims == ("selection", "fraction", "repeat", "unit")
    np.testing.assert_array_equal(sets.sum("unit"), np.tile([[2], [4]], (3, 1, 8)))
    ordered, _, matched = sets.values
    assert not ordered[..., ~mask].any()
    assert (ordered[1] == mask).all()
    assert not matched[1][..., mask].any()
    assert len(np.unique(ordered[0], axis=0)) > 1


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (np.zeros(N_UNITS, bool), "order must choose at least one unit, got none of 24"),
        (table(SCORE == 1).drop_vars("is_place_cell"), "must be a table with is_place_cell"),
        (
            table(SCORE == 1).expand_dims(map=2),
            "order must have only the dimension unit, got map, unit; choose one map",
        ),
        (SCORE == 1, "fractions must be at most the fraction .* 0.166667, got 0.5; pass a score"),
    ],
)
def test_bad_choices_are_refused(model, reference, order, message):
    settings = {"layers": "ffn.1", "reference": reference, "fractions": [0.5], **SMALL}
    with pytest.raises(ValueError, match=message):
        ablation_curve(model, order, **settings)


def test_variables_say_what_they_are(built):
    curve = ablation_curve(built, SCORE, layers="ffn.1", controls=["random"], repeats=1, **SMALL)
    for name, values in curve.data_vars.items():
        assert {"units", "long_name"} <= set(values.attrs), name
    assert curve.attrs["where"] == "chunk_end"


def test_keeping_only_the_known_units_keeps_the_answer(built):
    settings = {"how": "zero", "fractions": [0, 4 / N_UNITS, 1], "repeats": 3, **SMALL}
    curve = ablation_curve(built, SCORE, layers="ffn.1", keep=True, controls=["random"], **settings)
    error = curve.error.sel(maps="trained", memory="working", selection="ordered")
    np.testing.assert_array_equal(error.mean("repeat"), [1, 0, 0])
    assert curve.area.sel(maps="trained", memory="working").item() < 0
    assert (curve.area_p_pairs < 0.05).all()


def test_lesions_by_the_mean_of_constant_units_cost_nothing(built):
    curve = ablation_curve(built, SCORE, layers="ffn.1", controls=["random"], repeats=2, **SMALL)
    assert (curve.error == 0).all()
    assert (curve.p_sets == 1).all()


def test_the_curve_is_the_loop_of_lesions_and_memory_errors(model, reference):
    seen = []

    def score(network):
        errors = [
            memory_errors(network, n_walks=6, n_steps=24, seed=2, familiar=f) for f in (True, False)
        ]
        seen.append([e.error.values for e in errors])
        return seen[-1][0][1]

    curve = ablation_curve(
        model, "activity", layers="ffn.*", reference=reference, fractions=[0, 0.2, 1], repeats=2,
        controls=["random", "matched"], caliper=np.inf, seed=2, scores=score, **SMALL,
    )  # fmt: skip
    drawn = curve.error.sel(maps="trained", memory="reference")
    np.testing.assert_allclose(curve.score.sel(measure="score"), drawn)
    want = {tuple(np.ravel(one)) for one in seen}
    dims = ("maps", "memory")
    stacked = curve.error.stack(lesion=("selection", "fraction", "repeat"), measure=dims)
    got = {tuple(row) for row in stacked.dropna("lesion").transpose("lesion", "measure").values}
    assert {tuple(np.round(g, 12)) for g in got} == {tuple(np.round(w, 12)) for w in want}
    assert np.isnan(curve.error.sel(selection="matched", fraction=1)).all()


def test_nothing_and_everything(model, reference):
    curve = ablation_curve(
        model, "place_cell_score", layers="ffn.*", reference=reference, fractions=[0, 0.1, 1],
        repeats=2, **SMALL,
    )  # fmt: skip
    walks = {"n_walks": 6, "n_steps": 24}
    intact = memory_errors(model, **walks)
    with ablate(model, {"ffn.0": slice(None), "ffn.1": slice(None)}, reference=reference):
        gone = memory_errors(model, **walks)
    for fraction, want in ((0, intact), (1, gone)):
        got = curve.error.sel(maps="trained", fraction=fraction).transpose("memory", ...)
        for selection in ("ordered", "random", "stratified"):
            np.testing.assert_allclose(
                got.sel(selection=selection), want.error.values[:, None] * [1, 1]
            )


def test_equal_scores_are_ordered_anew_in_every_repeat(model, reference):
    curve = ablation_curve(
        model, "random", layers="ffn.1", reference=reference, fractions=[0.5], repeats=6,
        controls=["random"], **SMALL,
    )  # fmt: skip
    ordered = curve.wrong.sel(selection="ordered").stack(
        rest=("maps", "memory", "walk", "fraction")
    )
    assert len(np.unique(ordered, axis=0)) > 1
    again = ablation_curve(
        model, "random", layers="ffn.1", reference=reference, fractions=[0.5], repeats=6,
        controls=["random"], **SMALL,
    )  # fmt: skip
    xr.testing.assert_identical(curve, again)


def test_orders_by_name_and_by_labelled_scores(model, reference, tmp_path):
    settings = {"layers": "ffn.*", "reference": reference, "fractions": [0.25], "repeats": 1}
    settings |= {"controls": ["random"], **SMALL}
    norms = np.concatenate([layer.ffn.fc2.weight.detach().norm(dim=0) for layer in model.layers])
    by_name = ablation_curve(model, "output_weight", **settings)
    np.testing.assert_allclose(by_name.order_score, norms)
    shuffled = by_name.order_score.isel(unit=np.random.default_rng(0).permutation(2 * N_UNITS))
    labelled = ablation_curve(model, shuffled, **settings)
    np.testing.assert_array_equal(labelled.error, by_name.error)
    labels_only = shuffled.drop_vars(["layer", "component", "index"])
    by_label = ablation_curve(model, labels_only, **settings)
    np.testing.assert_array_equal(by_label.order_score, by_name.order_score)
    with pytest.raises(ValueError, match="order must have a score for every unit"):
        ablation_curve(model, labels_only.isel(unit=slice(1, None)), **settings)
    for order in ("spatial_information", "variance", "place_cell_score"):
        found = ablation_curve(model, order, **settings)
        assert found.attrs["order"] == order
        assert found.order_score.notnull().any()
    by_name.to_netcdf(tmp_path / "curve.nc")
    with xr.open_dataset(tmp_path / "curve.nc") as back:
        xr.testing.assert_identical(back.load(), by_name)


class Sum(nn.Module):
    """Adds up the first two of its hidden units."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Identity()

    def forward(self, x):
        return self.hidden(x)[..., :2].sum(-1)


def test_custom_networks_need_a_score_which_may_be_of_trials():
    x = torch.randn(40, 5, 10, generator=torch.Generator().manual_seed(0))
    network, target = Sum(), x[..., :2].sum(-1)
    reference = xr.Dataset(
        {"activation": (("walk", "time", "unit"), x.numpy())},
        {"layer": ("unit", ["hidden"] * 10), "index": ("unit", range(10))},
    )
    settings = {"reference": reference, "layers": "hidden", "fractions": [0, 0.2, 0.4, 1]}
    settings |= {"n_resamples": 50, "progress": False, "repeats": 19, "caliper": 1.0}
    settings["controls"] = ["random", "matched"]
    order = (np.arange(10) < 2).astype(float)

    def trials(net):
        return ((net(x) - target) ** 2).mean(1)

    curve = ablation_curve(
        network, order, scores={"loss": trials, "mean": lambda n: trials(n).mean()}, **settings
    )
    score = curve.score.sel(measure="loss").mean("repeat")
    assert score.sel(selection="ordered", fraction=0) == 0
    variance = x[..., :2].sum(-1).var().item()
    np.testing.assert_allclose(
        score.sel(selection="ordered", fraction=[0.2, 1]), variance, rtol=0.02
    )
    assert (score.sel(selection="matched", fraction=0.2) == 0).all()
    np.testing.assert_allclose(
        curve.score.sel(measure="mean"), curve.score.sel(measure="loss"), rtol=1e-5
    )
    p = curve.score_area_p_sets
    assert (p.sel(control="random") == 0.05).all() and p.sel(control="matched").isnull().all()
    assert curve.score_area_p_pairs.sel(measure="loss", control="matched") == 1 / 51
    assert curve.score_interval.sel(measure="mean").isnull().all()  # one number, nothing to draw
    with pytest.raises(
        ValueError, match="scores must be a function .* for a Sum, which has no mem"
    ):
        ablation_curve(network, order, **settings)
    sizes = itertools.count(1)
    with pytest.raises(ValueError, match=r"score\['score'\] must return a number, or one for each"):
        ablation_curve(network, order, scores=lambda n: np.zeros(next(sizes)), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fractions": [0, 1.2]}, "fractions must be within 0–1, got 0 to 1.2"),
        ({"fractions": [0.5, 0.2]}, "fractions must be ascending and one-dimensional"),
        (
            {"layers": "ffn.7"},
            r"layers must name feed-forward layers \(ffn.0, ffn.1\), got 'ffn.7'",
        ),
        ({"layers": "attention.*"}, "can be lesioned with placeformer.ablate"),
        ({"order": "size"}, "order must be one of place_cell_score, .*, got 'size'"),
        (
            {"order": np.ones(3)},
            r"order must have a score for each of the 48 units, got shape \(3,\)",
        ),
        (
            {"controls": ["alike"]},
            "controls must be among random, stratified, matched, got 'alike'",
        ),
        ({"cluster": "room"}, 'cluster must be "walk" or "map", got \'room\''),
        ({"how": "median"}, "how must be one of"),
        ({"repeats": 0}, "repeats must be a whole number ≥ 1, got 0"),
        ({"where": "ends"}, "where must be"),
        ({"n_steps": 7}, "n_steps must be at least memory"),
        ({"fractions": [0.6, 1]}, "too few units match .*29 units .* among the other 19"),
        ({"order": "activity", "caliper": 0.0}, "too few units match"),
    ],
)
def test_bad_arguments_are_refused(model, reference, settings, message):
    settings = {"order": "random", "reference": reference, "controls": ["matched"]} | settings
    settings = SMALL | settings
    with pytest.raises(ValueError, match=message):
        ablation_curve(model, settings.pop("order"), **settings)


@pytest.mark.parametrize(
    "option", [{"seed": -1}, {"keep": "no"}, {"keep": 0.5}, {"caliper": -1}, {"caliper": "narrow"}]
)
def test_options_of_the_sets_are_checked_though_unused(built, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be"):
        ablation_curve(built, "activity", controls=["random"], **SMALL | option)
