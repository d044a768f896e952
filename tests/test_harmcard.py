"""The card on lesions and Mg²⁺: its words follow from the numbers."""

import numpy as np
import pytest
from networks import network

import placeformer as pf
from placeformer import harm, harmcard, portrait
from placeformer.settings import Settings

SETTINGS = Settings(lesion_walks=4, lesion_steps=24, lesion_repeats=2, seed=1)


def config(alpha, units=24):
    name = "gelu" if alpha is None else "nmda"
    return pf.ModelConfig(10, 16, 2, 2, 8, units, 8, 4, 4, 0.0, name, alpha)


def made(alpha, **size):
    model = network(config(alpha, **size))
    found = harm.make_harm(model, SETTINGS)
    return portrait.Portrait("net", model, None, None, None, None, found)


@pytest.fixture(scope="module")
def one():
    return made(4.0)


def changed(one, name, value, **where):
    """The same network with other lesions."""
    lesions = one.harm.lesions.copy(deep=True)
    lesions[name].loc[where] = value
    found = harm.Harm(lesions, one.harm.washout, one.harm.equivalents)
    return portrait.Portrait("net", one.model, None, None, None, None, found)


def test_what_was_measured_is_what_the_functions_give(one):
    walks = {"n_walks": 4, "n_steps": 24, "seed": 1, "progress": False}
    lesions = one.harm.lesions
    again = pf.ablation_curve(
        one.model, layers="ffn.1", fractions=lesions["fraction"], repeats=2, **walks
    )
    np.testing.assert_array_equal(lesions["wrong"], again["wrong"])
    alphas = one.harm.washout["alpha"].values
    assert alphas.min() == 0 and alphas.max() == 4
    washed = pf.dose_response(one.model, alphas=alphas, **walks)
    np.testing.assert_array_equal(one.harm.washout["wrong"], washed["wrong"])


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.01, 0.02), "cost more than units alike in activity"),
        ((-0.02, -0.01), "cost less than units alike in activity"),
        ((-0.01, 0.01), "cost neither more nor less than units alike"),
        ((np.nan, np.nan), "cost neither more nor less than units alike"),
    ],
)
def test_the_verdict_follows_from_the_interval(one, bounds, words):
    where = {"maps": "trained", "memory": "reference", "control": "matched"}
    assert words in harmcard.short(changed(one, "area_interval", list(bounds), **where))


def test_no_equivalent_is_none_with_the_reason(one):
    equivalents = one.harm.equivalents.copy(deep=True)
    at = {"selection": "ordered", "fraction": 0.3}
    equivalents["alpha"].loc[at] = np.nan
    equivalents["reason"] = equivalents["reason"].astype(object)
    equivalents["reason"].loc[at] = "it is <above> all"
    said = harmcard.equivalent(one, equivalents, 0.3)
    assert said == '<span title="it is &lt;above&gt; all">none</span>'
    equivalents["alpha"].loc[at] = 1.23456
    equivalents["interval"].loc[at] = [np.nan, 2.0]
    said = harmcard.equivalent(one, equivalents, 0.3)
    assert ">1.23</data> (none to 2)" in said


def test_a_network_of_few_units_has_random_controls_alone():
    few = made(4.0, units=2)
    assert few.harm.lesions["control"].values.tolist() == ["random"]
    said = harmcard.card(few)
    assert "No units are alike enough" in said and "random units" in said
    assert "matched sets" not in said


def test_another_activation_has_no_alpha():
    other = made(None)
    assert list(other.harm.datasets) == ["lesions"]
    said = harmcard.card(other)
    assert "no α to change" in said and "equivalent" not in said
    assert said.count("<img") == 1


def test_a_linear_network_can_only_be_blocked():
    assert harm.test_alphas(0.0).min() == 0 < harm.test_alphas(0.0).max()
    linear = made(0.0)
    assert "At α = 10 instead of 0" in harmcard.card(linear)
