"""Claims tested on simulated networks: known trends, none, the opposite, and few seeds."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from helpers import measured

import placeformer as pf
from placeformer.evaluation.paper_claims import COLUMNS, STATEMENTS, judged_below
from placeformer.stats.intervals import Estimate
from placeformer.zoo.registry import results_folder


def table_of(*args, **options):
    return pf.paper_claims(measured.networks(*args, **options), n_resamples=200)


def row(table, claim, part):
    found = table[(table["claim"] == claim) & (table["part"] == part)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def shown():
    return table_of()


def test_networks_that_do_as_the_paper_says_show_every_claim(shown):
    assert list(shown.columns) == list(COLUMNS)
    assert pf.claim_verdicts(shown).to_dict() == dict.fromkeys(STATEMENTS, "shown")
    assert set(shown["n_seeds"]) == {3}


def test_effects_are_those_put_in(shown):
    assert row(shown, 2, "Hill curve")["value"] == pytest.approx(0.3, abs=0.1)
    gelu = row(shown, 3, "gelu")
    assert gelu["value"] == pytest.approx(0.5 - measured.falling("nmda", 10), abs=0.05)
    assert (gelu["lower"] < gelu["value"]) and (gelu["value"] < gelu["upper"])
    assert gelu["n_networks"] == 6
    washout = row(shown, 7, "washout, reference memory")
    assert washout["value"] == pytest.approx(0.85 - measured.falling("nmda", 10), abs=0.05)
    assert row(shown, 3, "linear (α = 0)")["value"] > 0.5
    assert row(shown, 1, "trained α")["value"] < -0.9
    assert row(shown, 6, "share of place cells")["value"] < -0.8
    assert row(shown, 6, "share of place cells, given α as a rank")["n_networks"] == 33


def test_networks_without_an_effect_show_none():
    table = table_of(measured.flat)
    said = pf.claim_verdicts(table)
    assert (said[[1, 2, 3, 7]] == "not shown").all()
    assert said[4] == "shown"
    assert row(table, 1, "trained α")["p"] > 0.05


def test_alpha_alone_makes_no_relation_of_memory_and_place_cells():
    """α changes both, and networks of the same α have nothing in common."""
    data, p = measured.networks(), []
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 0.02, data["place_cell_fraction"].shape)
        shares = 0.3 * np.nan_to_num(data["trained_alpha"], nan=1).clip(0, 10) / 10
        drawn = data.assign(place_cell_fraction=data["place_cell_fraction"].copy(data=noise))
        drawn["place_cell_fraction"] += xr.DataArray(shares, dims="model")
        table = pf.paper_claims(drawn, n_resamples=39)
        assert row(table, 6, "share of place cells")["value"] < -0.5
        p.append(row(table, 6, "share of place cells, given the activation")["p"])
    assert np.mean(np.array(p) <= 0.05) <= 0.25


def test_a_claim_not_shown_says_the_least_effect_that_could_have_been():
    table = table_of(measured.flat, spread=0.1)
    gelu = row(table, 3, "gelu")
    assert gelu["verdict"] == "not shown"
    assert gelu["least"] == pytest.approx(gelu["upper"] - gelu["value"])
    assert f"could have been shown is {gelu['least']:.2g} with 3 seeds" in gelu["note"]
    silent = table[table["verdict"].str.startswith("not shown") & (table["claim"] != 2)]
    assert silent["note"].str.contains("could have been shown").all()


def test_equal_trends_in_all_seeds_are_decided_by_permutation():
    data = measured.networks()
    alpha = data["trained_alpha"].fillna(1)
    rank = alpha.copy(data=np.searchsorted(np.unique(alpha), alpha))
    data["wrong"] = xr.zeros_like(data["wrong"]) + (20 - rank)
    claim = row(pf.paper_claims(data, n_resamples=199), 1, "trained α")
    assert claim["value"] < -0.9 and np.isnan([claim["lower"], claim["upper"]]).all()
    assert (claim["p"], claim["verdict"]) == (1 / 200, "shown")


def test_networks_that_do_the_opposite_say_so():
    table = table_of(
        lambda *kind: 1 - measured.falling(*kind), lambda name, alpha: 0.3 * (alpha == 0)
    )
    assert (pf.claim_verdicts(table)[[1, 2, 3, 4, 7]] == "opposite").all()


def test_a_better_activation_is_enough_against_claim_3():
    table = table_of(lambda name, alpha: 0.05 if name == "gelu" else measured.falling(name, alpha))
    assert row(table, 3, "gelu")["verdict"] == "opposite"
    assert row(table, 3, "relu")["verdict"] == "shown"
    assert pf.claim_verdicts(table)[3] == "opposite"


def test_one_seed_has_intervals_over_walks_and_says_so():
    table = table_of(seeds=1)
    assert row(table, 3, "gelu")["over"] == "walks"
    assert row(table, 5, "on a trained map")["over"] == "networks"
    named = table[table["verdict"] != "not tested"]["verdict"]
    assert named.str.endswith(" (one seed: preliminary)").all()
    assert pf.claim_verdicts(table)[3] == "shown (one seed: preliminary)"


def test_a_seed_that_lacks_a_network_takes_no_part():
    data = measured.networks()
    lacking = (data["seed"].values == 2) & (data["activation_name"].values == "gelu")
    table = pf.paper_claims(data.isel(model=~lacking), n_resamples=50)
    assert row(table, 3, "gelu")["n_seeds"] == 2
    assert row(table, 3, "relu")["n_seeds"] == 3


@pytest.mark.parametrize("n", [1, 2, 4])
def test_few_networks_are_no_error(n):
    table = pf.paper_claims(measured.networks(seeds=1).isel(model=slice(n)), n_resamples=20)
    said = pf.claim_verdicts(table)
    assert (said[[2, 3, 7]] == "not tested").all()
    assert (said[1] == "not tested") == (n < 4)  # a trend over three doses is none


def test_what_is_missing_is_named():
    with pytest.raises(
        ValueError, match="a result of profile_networks, but eta2_beyond is missing"
    ):
        pf.paper_claims(measured.networks().drop_vars("eta2_beyond"))


def test_the_table_is_the_same_again_and_the_networks_are_untouched(shown):
    data = measured.networks()
    before = data.copy(deep=True)
    pd.testing.assert_frame_equal(pf.paper_claims(data, n_resamples=200), shown)
    assert data.identical(before)
    assert np.isfinite(shown["value"]).all()


def test_fewer_than_eight_networks_of_one_seed_have_no_interval_over_networks():
    for n, tested in ((7, False), (8, True)):
        table = pf.paper_claims(measured.networks(seeds=1).isel(model=slice(n)), n_resamples=20)
        found = row(table, 5, "on a trained map")
        assert np.isfinite([found["lower"], found["upper"]]).all() == tested
        assert (found["verdict"] != "not tested") == tested


def test_an_interval_over_seeds_stays_within_what_effects_can_be():
    table = table_of(spread=0.2)
    over = table[table["over"] == "seeds"]
    assert (over[["lower", "upper"]].abs() <= 1).all(axis=None)
    assert (over[["lower", "upper"]].abs() == 1).any(axis=None)


@pytest.mark.parametrize(
    ("value", "reach", "note"),
    [
        (0.06, 0.02, "it could have been shown for an effect of at most 0.03 with 3 seeds"),
        (0.06, 0.2, "no effect could have been shown to be so small with 3 seeds"),
        (0.02, 0.02, None),
    ],
)
def test_an_effect_that_is_not_shown_to_be_small_says_what_could_have_been(value, reach, note):
    estimate = Estimate(value, value - reach, value + reach, np.nan)
    found = judged_below((estimate, "seeds", 3), at_least=0)  # a range is never below 0
    assert (found["word"] == "shown") == (note is None)
    assert found.get("note") == note


@pytest.fixture(scope="module")
def family():
    return xr.load_dataset(results_folder() / "nmda.nc")


def test_alpha_in_float32_is_the_same_alpha(family):
    rounded = family.assign_coords(trained_alpha=family["trained_alpha"].astype("f4"))
    columns = ["claim", "part", "value", "n_networks", "verdict"]
    tables = [pf.paper_claims(data, n_resamples=19)[columns] for data in (family, rounded)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-5)


def test_networks_without_alpha_leave_the_claims_about_it_untested(family):
    others = family.isel(model=np.isnan(family["trained_alpha"].values))
    for networks in (others, others.isel(model=[0])):
        table = pf.paper_claims(networks, n_resamples=19)
        about_alpha = table[table["claim"].isin([1, 2, 4, 7])]
        assert set(about_alpha["verdict"]) == {"not tested"}
    with pytest.raises(ValueError, match="networks must hold at least one network, got none"):
        pf.paper_claims(family.isel(model=[]))


def test_a_network_without_reference_predictions_is_left_out(family):
    lacking = family.copy(deep=True)
    model = int(np.flatnonzero(lacking["trained_alpha"] == 0.5)[0])
    for name in ("wrong", "n"):
        lacking[name] = lacking[name].astype(float)
        lacking[name].loc[{"memory": "reference", "maps": "trained"}][{"model": model}] = 0
    columns = ["value", "p", "verdict", "n_networks"]
    tables = [
        pf.paper_claims(data, n_resamples=99).loc[0, columns].tolist()
        for data in (lacking, family.drop_isel(model=model))
    ]
    assert tables[0] == tables[1] and tables[0][2] == "shown"
