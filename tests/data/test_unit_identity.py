"""Whether two Datasets hold the same units."""

import json

import numpy as np
import pytest
import xarray as xr

import placeformer as pf
from placeformer.data.unit_identity import check_same_units
from placeformer.evaluation import simulation

NAMES = ("maps_a", "maps_b")


def maps(step=None, **coords):
    rate = np.random.default_rng(0).random((3, 5, 5))
    attrs = {"provenance": json.dumps({"steps": [step or {"step": "rate_maps"}]})}
    made = simulation.maps(rate).assign_attrs(attrs)
    return made.assign_coords({k: ("unit", v) for k, v in coords.items()})


def of_network(weights, **walks):
    return {"step": "record", "network": {"weights_sha256": weights}, "walks": walks}


FIRST = maps(of_network("a"), unit_id=[1, 2, 3])

OTHERS = [
    (maps(of_network("a"), unit_id=[2, 3, 9]), "got '1' and '2' as the first 'unit_id'"),
    (maps(of_network("b"), unit_id=[1, 2, 3]), "units of two networks"),
]


@pytest.mark.parametrize(("other", "words"), OTHERS)
@pytest.mark.parametrize(
    "function",
    [lambda *m, **o: pf.remapping(*m, n_shuffles=9, **o), pf.population_vector_correlation],
)
def test_units_that_do_not_correspond_are_refused_unless_insisted_on(function, other, words):
    with pytest.raises(ValueError, match=words):
        function(FIRST, other)
    got = function(FIRST, other, allow_other_units=True)
    want = function(FIRST, FIRST)
    xr.testing.assert_equal(got.drop_vars("unit_id", errors="ignore"),
                            want.drop_vars("unit_id", errors="ignore"))  # fmt: skip


def test_units_of_two_sessions_are_refused():
    first, second = (maps({"step": "from_nwb", "identifier": name}) for name in ("day 1", "day 2"))
    with pytest.raises(ValueError, match="sessions 'day 1' and 'day 2'"):
        check_same_units(first, second, NAMES)
    check_same_units(first, first, NAMES)
    check_same_units(first, second, NAMES, allow_other_units=True)


def test_what_is_not_known_is_not_compared():
    check_same_units(FIRST, maps(), NAMES)
    check_same_units(maps(), maps(unit_id=[4, 5, 6]), NAMES)


def test_maps_of_two_networks_in_two_worlds_are_warned_of():
    a, same, other, novel = (
        maps(of_network(weights, world_seed=seed, familiar=familiar))
        for weights, seed, familiar in [("a", 0, 1), ("b", 0, 1), ("b", 1, 1), ("a", 0, 0)]
    )
    with pytest.warns(UserWarning, match=r"two worlds \(world_seed=0 and world_seed=1\)"):
        pf.similarity(a, other, n_shuffles=0)
    pf.similarity(a, same, n_shuffles=0)  # warnings are errors
    pf.similarity(a, novel, n_shuffles=0)
