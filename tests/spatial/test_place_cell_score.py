import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from placeformer.evaluation import simulation
from placeformer.spatial.place_cell_score import field_share, place_cell_score
from placeformer.spatial.place_fields import place_fields
from placeformer.spatial.rate_maps import rate_maps

RNG = np.random.default_rng


def test_score_of_a_field_and_nothing_else():
    rate = np.zeros((11, 11))
    rate[2:4, 2:5] = 2.0
    np.testing.assert_allclose(place_cell_score(simulation.maps(rate[None])), [1 - 6 / 121])


def test_score_follows_its_definition():
    rate = 0.2 + simulation.bump((4, 6)) + 0.05 * RNG(0).standard_normal((11, 11))
    inside = place_fields(simulation.maps(rate[None])).label.values[0] == 1
    want = (1 - inside.sum() / 121) * rate[inside].sum() / rate.sum()
    np.testing.assert_allclose(place_cell_score(simulation.maps(rate[None])), [want])


def test_the_arena_is_the_visited_places():
    rate = np.full((11, 11), np.nan)
    rate[:, :6] = 0.0
    rate[2:4, 2:5] = 2.0
    np.testing.assert_allclose(place_cell_score(simulation.maps(rate[None])), [1 - 6 / 66])


def test_the_best_field_counts_and_two_fields_share_the_activity():
    rate = np.zeros((11, 11))
    rate[1:3, 1:3] = 2.0
    rate[6:9, 6:9] = 1.0
    large = (1 - 9 / 121) * 9 / 17
    np.testing.assert_allclose(place_cell_score(simulation.maps(rate[None])), [large])


def test_policies_for_negatives():
    rate = np.full((11, 11), -1.0)
    rate[2:4, 2:4] = 3.0
    maps = simulation.maps(rate[None])
    rectified = place_cell_score(maps)
    np.testing.assert_allclose(rectified, [1 - 4 / 121])
    assert rectified.attrs["negatives"] == "rectify"
    assert "set to 0" in rectified.attrs["long_name"]
    assert rectified.attrs["threshold"] == 0.2
    rate[5:, 5:] = 0.0
    mixed = simulation.maps(rate[None])
    shifted = place_cell_score(mixed, negatives="shift", threshold=0.5)
    np.testing.assert_allclose(shifted, [(1 - 4 / 121) * 16 / (16 + 36)])
    with pytest.raises(ValueError, match="negatives='raise'"):
        place_cell_score(mixed, negatives="raise")


def test_no_field_scores_0_and_no_visit_is_nan():
    rates = np.stack([RNG(1).standard_normal((11, 11)), np.ones((11, 11))])
    np.testing.assert_array_equal(place_cell_score(simulation.maps(rates)), [0, 0])
    nothing = simulation.maps(np.full((1, 11, 11), np.nan))
    assert np.isnan(place_cell_score(nothing)).all()


def test_negative_fields_score_0_when_rectified():
    rate = simulation.bump((5, 5)) - 5.0
    maps = simulation.maps(rate[None])
    assert place_fields(maps).n_fields.item() == 1
    np.testing.assert_array_equal(place_cell_score(maps), [0])
    assert place_cell_score(maps, negatives="shift") > 0.4


def test_leading_maps_keep_their_coordinates():
    maps = simulation.maps(simulation.units(RNG(2), 6, 1))
    stacked = xr.concat([maps, maps.isel(unit=slice(None, None, -1)).drop_vars("index")], "map")
    scores = place_cell_score(stacked)
    assert scores.dims == ("map", "unit")
    np.testing.assert_allclose(scores[1, ::-1], scores[0])


def test_place_units_score_above_untuned_ones():
    rng = RNG(3)
    one, two, none = (
        place_cell_score(simulation.maps(simulation.units(rng, 100, k, offset=0.0)))
        for k in (1, 2, 0)
    )
    assert one.median() > two.median() > none.median() == 0


def test_fields_that_are_known_are_taken():
    maps = simulation.maps(simulation.units(RNG(6), 5, 1))
    fields = place_fields(maps, threshold=0.4)
    known = place_cell_score(maps, negatives="shift", fields=fields)
    np.testing.assert_array_equal(known, place_cell_score(maps, negatives="shift", threshold=0.4))
    assert known.attrs["threshold"] == 0.4
    with pytest.raises(ValueError, match=r"got \['threshold'\]; pass them to"):
        place_cell_score(maps, fields=fields, threshold=0.3)
    with pytest.raises(ValueError, match="those of maps with rate"):
        place_cell_score(maps.isel(unit=[0, 1]), fields=fields)


def test_fields_are_paired_with_maps_by_the_names_of_axes():
    maps = simulation.maps(simulation.units(RNG(6), 5, 1))
    turned = maps.transpose("unit", "x", "y", ...)
    want = place_cell_score(maps)
    assert (want > 0).all()
    for one, other in ((maps, turned), (turned, maps)):
        np.testing.assert_array_equal(place_cell_score(one, fields=place_fields(other)), want)
    with pytest.raises(ValueError, match="other bins along 'x'"):
        place_cell_score(maps, fields=place_fields(maps.assign_coords(x=maps.x + 0.1)))


def test_fields_of_units_in_another_order_are_refused():
    maps = rate_maps(simulation.place_code(RNG(7), 2, 200, 4))
    turned = maps.isel(unit=[3, 2, 1, 0])
    with pytest.raises(ValueError, match=r"maps and fields .* with place_fields\(maps\)"):
        place_cell_score(maps, fields=place_fields(turned))


def test_criteria_are_passed_on_and_checked():
    maps = simulation.maps(simulation.bump((5, 5))[None])
    assert place_cell_score(maps, min_bins=100) == 0
    with pytest.raises(ValueError, match="min_bins must"):
        place_cell_score(maps, min_bins=0)
    with pytest.raises(TypeError, match="min_bin"):
        place_cell_score(maps, min_bin=3)


# Share of the map in fields


def halves(first, second):
    """Maps (unit, y, x) of two halves, and the fields of their mean."""
    both = [simulation.maps(rate) for rate in (first, second)]
    whole = simulation.maps((np.asarray(first) + second) / 2)
    return xr.concat(both, "half"), place_fields(whole)


def test_field_share_follows_its_definition():
    first = np.zeros((11, 11))
    first[2:4, 2:5], first[8, 8], first[6, 1] = 2.0, 1.0, -1.0
    second = 3 * first - 5
    second[6, 1] = -5
    found = field_share(*halves(first[None], second[None]))
    np.testing.assert_allclose(found, [6 * 12 / (6 * 12 + 3)])


def test_what_letters_add_is_no_part_of_the_field_share():
    """Letters that move a unit more than its field does, and places visited in one half alone."""
    rng = RNG(7)
    letters = rng.integers(0, 4, 121)
    field, added = simulation.bump((3, 6)), 2 * rng.standard_normal((2, 4))[:, letters]
    first, second = field + added.reshape(2, 11, 11)
    maps, fields = halves(first[None], second[None])
    plain = halves(field[None], field[None])
    fields = fields.assign(label=plain[1].label)
    share = field_share(maps, fields, letters)
    assert share > 0.9
    assert not field_share(maps, fields) > 0.5
    two = [xr.concat([each, each], "map") for each in (maps, fields)]
    both = field_share(two[0].transpose("half", "map", ...), two[1], np.tile(letters, 2))
    np.testing.assert_allclose(both, [share, share])


def test_the_baseline_is_the_median_of_the_visited_places_of_a_letter():
    letters = np.arange(121) % 2
    first = np.where(letters == 1, 5.0, 0.0).reshape(11, 11)
    second = first.copy()
    first[0, 0], second[0, 0], first[0, 1], second[0, 1] = 2.0, 3.0, 6.0, 7.0
    first[5, 5] = np.nan  # visited in one half alone
    maps, fields = halves(first[None], second[None])
    label = np.zeros((1, 11, 11), int)
    label[0, 0, 0] = 1
    fields = fields.assign(label=fields.label.copy(data=label))
    np.testing.assert_allclose(field_share(maps, fields, letters), [6 / (6 + 2)])


def test_field_share_is_free_of_scale_sign_and_noise_of_the_halves():
    rng = RNG(4)
    rates = simulation.units(rng, 60, 1, noise=0.0)
    noisy = [rates + 0.1 * rng.standard_normal(rates.shape) for _ in range(2)]
    share = field_share(*halves(*noisy))
    assert abs(float(share.mean()) - float(field_share(*halves(rates, rates)).mean())) < 0.03
    maps, fields = halves(*noisy)
    other = field_share(maps.assign(rate=7 - 3 * maps.rate), fields)
    np.testing.assert_allclose(other, share)


def test_field_share_without_a_field_and_without_agreement():
    noise = RNG(5).standard_normal((2, 40, 11, 11))
    maps, fields = halves(*noise)
    share = field_share(maps, fields)
    assert (share.values[(fields.n_fields == 0) & np.isfinite(share)] == 0).all()
    opposite = simulation.bump((5, 5))[None]
    assert np.isnan(field_share(*halves(opposite, -opposite))).all()
    unvisited = np.full((1, 11, 11), np.nan)
    assert np.isnan(field_share(*halves(unvisited, unvisited))).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3))
def test_score_lies_between_0_and_1_and_is_free_of_scale(seed, scale):
    rng = RNG(seed)
    rates = simulation.units(rng, 5, rng.integers(0, 3), offset=rng.uniform(-1, 1))
    for policy in ("rectify", "shift"):
        scores = place_cell_score(simulation.maps(rates), negatives=policy)
        assert ((scores >= 0) & (scores <= 1)).all()
        scaled = place_cell_score(simulation.maps(scale * rates), negatives=policy)
        np.testing.assert_allclose(scaled, scores, rtol=1e-9)


def test_labels_alone_give_the_score_of_the_fields():
    maps = simulation.maps(RNG(0).random((3, 9, 9)) ** 4)
    fields = place_fields(maps, min_contrast=0)
    want = place_cell_score(maps, fields=fields)
    np.testing.assert_array_equal(place_cell_score(maps, fields=fields.label), want)
