"""The card on lesions and Mg²⁺: its words follow from the numbers."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from helpers import measured
from helpers.networks import network

import placeformer as pf
from placeformer.reporting import lesion_section, measurements, page
from placeformer.reporting.measurements import (
    NETWORK_MAPS,
    InterventionResults,
    Settings,
    SubjectReport,
)

SECTION = page.TEMPLATES.get_template("lesions.html.jinja").module
SETTINGS = Settings(lesion_walks=4, lesion_steps=24, lesion_repeats=2, seed=1)


def written(macro, *arguments):
    """What a macro of the section writes, on one line."""
    return " ".join(getattr(SECTION, macro)(*arguments).split())


def config(alpha, units=24):
    name = "gelu" if alpha is None else "nmda"
    return pf.ModelConfig(10, 16, 2, 2, 8, units, 8, 4, 4, 0.0, name, alpha)


def table(model, cells):
    """Units of both layers, the last ones of the last layer place cells."""
    n = model.config.d_inner
    score = np.tile(np.linspace(0.5, 0, n), 2)
    index, layer = np.tile(np.arange(n), 2), np.repeat(["ffn.0", "ffn.1"], n)
    return xr.Dataset(
        {
            "score": ("unit", score),
            "is_place_cell": ("unit", (layer == "ffn.1") & (index >= n - cells)),
        },
        {"layer": ("unit", layer), "index": ("unit", index)},
    )


def made(alpha, cells=3, **size):
    model = network(config(alpha, **size))
    found = measurements.measure_interventions(model, table(model, cells), SETTINGS)
    return SubjectReport("net", NETWORK_MAPS, None, None, model=model, interventions=found)


@pytest.fixture(scope="module")
def one():
    return made(4.0)


def changed(one, name, value, **where):
    """The same network with other lesions."""
    lesions = one.interventions.lesions.copy(deep=True)
    lesions[name].loc[where] = value
    found = InterventionResults(lesions, one.interventions.washout, one.interventions.equivalents)
    return SubjectReport("net", NETWORK_MAPS, None, None, model=one.model, interventions=found)


def test_what_was_measured_is_what_the_functions_give(one):
    walks = {"n_walks": 4, "n_steps": 24, "seed": 2, "maps": [0], "progress": False}
    lesions = one.interventions.lesions
    mask = table(one.model, 3)["is_place_cell"]
    again = pf.ablation_curve(one.model, mask, layers="ffn.1", repeats=2, **walks)
    assert lesions.attrs["n_place_cells"] == 3 and again["n_units"][1] == 3
    chosen = lesions["wrong"].isel(fraction=lesions["n_units"].values == 3)
    np.testing.assert_array_equal(
        chosen.sel(selection="ordered").squeeze(),
        again["wrong"].sel(selection="ordered").isel(fraction=1),
    )
    alphas = one.interventions.washout["alpha"].values
    assert alphas.min() == 0 and alphas.max() == 4
    washed = pf.dose_response(one.model, alphas=alphas, **walks)
    np.testing.assert_array_equal(one.interventions.washout["wrong"], washed["wrong"])


class Asked(Exception):
    """What was asked of ablation_curve."""


def test_place_cells_of_the_last_layer_come_first_then_scores(monkeypatch):
    def ask(model, order, **options):
        raise Asked(order, options)

    monkeypatch.setattr(measurements, "ablation_curve", ask)
    with pytest.raises(Asked) as asked:
        made(4.0)
    order, options = asked.value.args
    assert set(order["layer"].values) == {"ffn.1"} and options["layers"] == "ffn.1"
    first = order["index"].values[np.argsort(-order.values)]
    assert set(first[:3]) == {21, 22, 23}  # the place cells, though their scores are the least
    assert list(first[3:]) == list(range(21))
    assert 3 / 24 in options["fractions"]
    assert (options["maps"], options["seed"]) == ((0,), SETTINGS.seed + 1)


@pytest.mark.parametrize(("p", "verdict"), [(0.05, "more"), (0.1, "not detectably more")])
def test_the_verdict_follows_from_the_exact_test(one, p, verdict):
    where = {"maps": "trained", "memory": "reference", "control": "stratified", "fraction": 3 / 24}
    text = written("summary", changed(one, "p_sets", p, **where))
    assert "With the 3 place cells among the 24 units of ffn.1 lesioned" in text
    assert f"This is {verdict} than after lesions of as many units drawn at random from" in text
    assert "over 2 sets)" in text


def test_the_change_of_the_logits_is_compared_with_that_of_the_controls(one):
    change = one.interventions.lesions["logit_change"].sel(fraction=3 / 24).mean("repeat")
    ratio = float(change.sel(selection="ordered") / change.sel(selection="stratified"))
    assert f">{ratio:.2f}</data> times as much" in written("summary", one)


def test_without_place_cells_the_greatest_scores_are_told():
    said = written("summary", made(4.0, cells=0))
    assert (
        "With the 5 of 24 units of ffn.1 with the highest place-cell scores (none is a place cell)"
        in said
    )


def test_no_equivalent_is_none_with_the_reason(one):
    equivalents = one.interventions.equivalents.copy(deep=True)
    changed = replace(one, interventions=replace(one.interventions, equivalents=equivalents))

    def equivalent():
        return written("equivalent", lesion_section.equivalent(changed, 0.3))

    at = {"selection": "ordered", "fraction": 0.3}
    equivalents["alpha"].loc[at] = np.nan
    equivalents["reason"] = equivalents["reason"].astype(object)
    equivalents["reason"].loc[at] = "it is <above> all"
    why = '<button type="button" class="why" data-why="it is &lt;above&gt; all">none</button>'
    assert equivalent() == why
    equivalents["alpha"].loc[at] = 1.23456
    equivalents["interval"].loc[at] = [np.nan, 2.0]
    assert ">1.23</data> (none to 2)" in equivalent()


def test_a_network_of_few_units_has_one_stratum():
    few = made(4.0, cells=1, units=2)
    assert few.interventions.lesions["control"].values.tolist() == ["random", "stratified"]
    said = written("card", few)
    assert "sets of random units" in said and "sets of stratified units" in said


def test_another_activation_has_no_alpha():
    other = made(None)
    assert list(other.interventions.datasets) == ["lesions"]
    said = written("card", other)
    assert "no α to change" in said and "equivalent" not in said
    assert said.count("<img") == 1


def test_a_linear_network_can_only_be_blocked():
    assert measurements.test_alphas(0.0).min() == 0 < measurements.test_alphas(0.0).max()
    linear = made(0.0)
    assert "At α = 10 instead of 0" in written("card", linear)


def test_a_network_of_the_zoo_is_shown_among_those_trained_alike(monkeypatch, one):
    assert "with the same training" not in written("card", one)
    monkeypatch.setattr(measurements, "family_results", lambda sha256: measured.networks(seeds=2))
    together = made(4.0).interventions.comparison
    assert together.sizes["model"] == 30 and together.sizes["fraction"] > 2
    results = replace(one.interventions, comparison=together)
    shown = written("card", replace(one, interventions=results))
    assert "the 30 networks of the zoo with the same training, including this one (2 seeds" in shown
    assert shown.count("data:image/svg+xml") == 3
