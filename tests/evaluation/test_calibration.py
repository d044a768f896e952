"""Tests keep their level and intervals their coverage: the small version of the benchmark."""

import numpy as np
import pytest
from calibration import (
    ALPHA,
    COVERAGE,
    DECISION,
    EXPERIMENTS,
    POWER,
    QUICK,
    STATISTICS,
    P,
    Share,
    run,
    untuned,
)

SURE = 0.998
"""Level of a two-sided interval that is above 5 % by chance with p = .001."""


def too_many(shares):
    """Shares that are above 5 % by more than chance."""
    return [f"{s.test}, {s.data}: {s}" for s in shares if s.interval(SURE)[0] > ALPHA]


def pooled(shares):
    """Shares of a shuffle test over all kinds of units along the same walks."""
    groups = {}
    for share in shares:
        if "|" in share.data:
            groups.setdefault((share.test, share.data.rpartition("|")[0]), []).append(share)
    return [
        Share(P, *name, sum(s.hits for s in of), sum(s.trials for s in of))
        for name, of in groups.items()
    ]


def test_the_interval_of_a_share_is_that_of_its_sets():
    """Units that share their walks and all their outcomes count as one."""
    hits = np.repeat([0.0, 1.0], [12, 8])
    one = Share(P, "", "", hits, np.ones(20)).interval()
    np.testing.assert_allclose(Share(P, "", "", 30 * hits, np.full(20, 30.0)).interval(), one, 0.1)
    spread = Share(P, "", "", np.full(20, 12.0), np.full(20, 30.0)).interval()
    assert np.ptp(spread) < np.ptp(one) / 4


def test_units_have_the_time_courses_that_they_are_named_for():
    units = untuned(np.random.default_rng(0), 8, 2000, 4)
    for name, rho in {"white noise": 0.0, "AR(0.9)": 0.9, "AR(0.99)": 0.99}.items():
        values = units[name] - units[name].mean()
        found = (values[:, 1:] * values[:, :-1]).mean() / (values**2).mean()
        assert found == pytest.approx(rho, abs=0.03)
    ramp = units["ramp in every walk"].mean(0)
    assert (abs(np.corrcoef(np.arange(2000), ramp.T)[0, 1:]) > 0.8).all()
    start = units["transient at the start"].mean(0)
    assert (abs(start[:5].mean(0)) > 1.5).all() and (abs(start[500:].mean(0)) < 0.1).all()
    assert 0.85 < (units["sparse bursts"] < 0.01).mean() < 0.99
    assert all(np.isfinite(values).all() for values in units.values())


@pytest.fixture(scope="module")
def shares():
    return run(EXPERIMENTS, QUICK)


@pytest.mark.slow
def test_tests_keep_their_level(shares):
    promised = [s for s in shares if s.kind in (P, DECISION) and s.promised]
    assert len(promised) > 130
    assert too_many(promised) == []
    assert too_many(pooled(promised)) == []


@pytest.mark.slow
def test_the_same_criterion_finds_a_test_that_does_not(shares):
    """Circular shifts of walks of 64 steps, which the page calls invalid."""
    short = [s for s in shares if "circular|128 × 64" in s.data]
    assert len(short) == 8 * len(STATISTICS)
    assert len(too_many(pooled(short))) >= 2


@pytest.mark.slow
def test_intervals_hold_the_truth(shares):
    covering = [s for s in shares if s.kind == COVERAGE]
    assert len(covering) == 12
    assert [str(s) for s in covering if s.interval(SURE)[1] < 0.95] == []


@pytest.mark.slow
def test_strong_effects_are_found(shares):
    strong = ("field 2", "field 1")
    found = [s for s in shares if s.kind == POWER and s.data.startswith(strong)]
    assert len(found) == 5
    assert [str(s) for s in found if s.value < 0.8] == []
