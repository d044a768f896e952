"""Rules on consolidation: times of half, verdicts from intervals, on courses of known truth."""

import numpy as np
import pytest
import xarray as xr

from placeformer.evaluation.consolidation_rules import (
    amnesia_answers,
    consolidation_answers,
    half_step,
    share_lost,
    turnover_of,
    window_answers,
)

STEPS = np.array([0, 100, 200, 400, 800, 1600])


def rising(half, height, start=0.0):
    """A share that rises from `start` by `height`, with half of it at a step."""
    x = np.interp(STEPS, [0, half, 2 * half], [0, 0.5, 1])
    return start + height * x / x[-1]


def course(seed, cells=400, reference=400, novel=None, lost=(0.5, 0.5, 0.4, 0.2, 0.0)):
    error = 0.9 - rising(reference, 0.6)
    errors = np.stack([np.stack([0.9 - rising(150, 0.8), error], -1), np.full((6, 2), 0.9)], 1)
    share = np.stack([rising(cells, 0.2, 0.1), np.full(6, 0.1) if novel is None else novel], 1)
    kept = np.full((6, 4), 0.8)
    kept[1:, 0] -= lost
    kept[0, 0] = np.nan
    return xr.Dataset(
        {
            "error": (("step", "maps", "memory"), errors),
            "place_cell_fraction": (("step", "maps", "layer"), share[..., None]),
            "memory_dependent_fraction": (("step", "layer"), rising(cells, 0.15)[:, None]),
            "kept_excess": (("step", "compared"), kept),
        },
        {
            "step": STEPS,
            "maps": ["trained", "novel"],
            "memory": ["working", "reference"],
            "compared": ["previous", "first", "final", "retest"],
        },
    ).assign_coords(network=("model", ["α = 10"]), seed=("model", [seed]))


def family(*members):
    return xr.concat(members, "model", data_vars="all")


def verdicts(table, question):
    rows = table[table["question"] == question]
    return dict(zip(rows["measure"], rows["verdict"], strict=True))


def test_half_of_the_way_is_found_between_snapshots():
    assert half_step(STEPS, np.array([0, 0, 1, 1, 1, 1.0]), 0.1) == 150
    assert half_step(STEPS, np.array([0.9, 0.9, 0.9, 0.7, 0.5, 0.1]) * -1, 0.1) == 800
    assert np.isnan(half_step(STEPS, np.array([0, 0, 0, 0, 0, 0.05]), 0.1))
    assert np.isnan(half_step(STEPS, np.full(6, np.nan), 0.1))


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        ((120, 130, 110), "before"),
        ((300, 310, 290), "with"),
        ((700, 760, 790), "after"),
        ((100, 400, 800), "undecided"),
    ],
)
def test_place_cells_are_placed_in_time_by_the_whole_interval(cells, verdict):
    found = consolidation_answers(
        family(*(course(seed, cells=c, reference=300) for seed, c in enumerate(cells)))
    )
    assert verdicts(found, "when")["trained map"] == verdict
    assert verdicts(found, "when")["depend on memory"] == verdict
    assert verdicts(found, "when")["novel map (control)"] == "not tested"  # it does not rise
    assert (found["n_seeds"][found["measure"] == "trained map"] == 3).all()


def test_turnover_is_what_two_recordings_do_not_explain():
    assert turnover_of(course(0).isel(model=0)) == pytest.approx({"last": 0.0, "half": 0.4})
    members = [
        course(seed, lost=(0.5, 0.5, 0.4 + d, 0.2, d)) for seed, d in enumerate((0, 0.01, -0.01))
    ]
    found = verdicts(consolidation_answers(family(*members)), "turnover")
    assert found["last interval"] == "ends"
    members = [course(s, lost=(0.5, 0.5, 0.1, 0.2, 0.4 + s / 50)) for s in range(3)]
    found = verdicts(consolidation_answers(family(*members)), "turnover")
    assert found == {"last interval": "goes on", "while memory is acquired": "less then"}


def test_one_seed_tests_nothing():
    found = consolidation_answers(family(course(0)))
    assert set(found["verdict"]) == {"not tested"}


def test_windows_are_compared_within_seeds():
    rows = []
    for seed in range(4):
        base = 0.1 + 0.1 * seed  # seeds differ much, windows little but always
        costs = {"never": 0, "a": 0.05, "b": 0.2, "throughout": 0.3}
        for i, (window, cost) in enumerate(costs.items()):
            value = base + cost + 0.01 * np.random.default_rng([seed, i]).random()
            rows.append(
                xr.Dataset(
                    {"error": (("alpha", "maps", "memory"), np.full((2, 1, 2), value))},
                    {"maps": ["trained"], "memory": ["working", "reference"], "alpha": [10, 0.1]},
                ).assign_coords(window=("model", [window]), seed=("model", [seed]))
            )
    found = window_answers(xr.concat(rows, "model", data_vars="all"))
    costs = found[(found["question"] == "cost") & (found["measure"] == "reference memory")]
    assert costs["network"].tolist() == ["a", "b", "throughout"]
    assert set(costs["verdict"]) == {"costs"}
    most = found[found["question"] == "most"]
    assert most["network"].tolist() == ["b − a"] and most["verdict"].tolist() == ["more"]


def further_courses(*, old=0.4, new=0.2, lost_old=0.4, lost_new=(0.8, 0.6), forgotten=0.3):
    """Three seeds: errors and shares of the memory lost by a lesion, at two steps."""
    rows = []
    for seed in range(3):
        wobble = 0.01 * (seed - 1)
        intact = np.array([[old, 0.5, 0.9], [old, new, 0.9]]) + wobble
        lost = np.array([[lost_old, lost_new[0], 0], [lost_old, lost_new[1], 0]])
        lost[1, 1] += wobble
        lesioned = intact + lost * (0.9 - intact)
        error = np.stack([intact, lesioned], 1)  # step, condition, maps
        rows.append(
            xr.Dataset(
                {
                    "forgetting": (
                        ("step", "maps", "memory"), np.full((2, 3, 2), forgotten + wobble)
                    ),
                    "kept_excess": 0.5 + wobble,
                    "error": (
                        ("step", "condition", "maps", "memory"), np.stack([error * 0, error], -1)
                    ),
                },
                {
                    "step": [0, 9], "maps": ["old", "new", "novel"],
                    "memory": ["working", "reference"], "condition": ["intact", "lesion"],
                },
            ).assign_coords(rehearsal=("model", ["none"]), seed=("model", [seed]))
        )  # fmt: skip
    return xr.concat(rows, "model", data_vars="all").assign_attrs(chance=0.9)


def told(found):
    """Verdicts by question and measure."""
    return dict(zip(zip(found["question"], found["measure"], strict=True), found["verdict"],
                    strict=True))  # fmt: skip


def test_the_share_of_the_memory_that_is_lost_does_not_depend_on_how_much_there_was():
    lost = share_lost(further_courses(old=0.6, new=0.1, lost_old=1.0, lost_new=(1.0, 1.0)))
    np.testing.assert_allclose(lost.isel(model=1, condition=1, step=1).sel(maps=["old", "new"]), 1)
    found = amnesia_answers(further_courses(old=0.6, new=0.1, lost_old=1.0, lost_new=(1.0, 1.0)))
    assert told(found)["gradient", "lesion"] == "undecided"  # though more is lost where more was


def test_amnesia_is_judged_over_seeds():
    found = told(amnesia_answers(further_courses()))
    assert found == {
        ("learnt", "new maps"): "learnt",
        ("learnt", "novel maps"): "none",
        ("forgetting", "old maps"): "forgets",
        ("gradient", "lesion"): "recent suffers more",
        ("hardening", "lesion"): "later costs less",
        ("survival", "place cells"): "some survive",
    }
    other = told(amnesia_answers(further_courses(lost_old=0.9, lost_new=(0.3, 0.5), forgotten=0)))
    assert other["gradient", "lesion"] == "old suffers more"
    assert other["hardening", "lesion"] == "later costs more"
    assert other["forgetting", "old maps"] == "undecided"


@pytest.mark.parametrize("hardly", [{"new": 0.7}, {"old": 0.7}])
def test_amnesia_of_what_is_hardly_remembered_is_not_tested(hardly):
    found = told(amnesia_answers(further_courses(**hardly)))
    assert found["gradient", "lesion"] == "not tested"
    assert found["learnt", "new maps"] == ("not shown" if "new" in hardly else "learnt")


def test_a_recalled_novel_map_is_found():
    curves = further_courses()
    error = curves["error"] - 0.2 * (curves["maps"] == "novel")
    found = told(amnesia_answers(curves.assign(error=error.transpose(*curves["error"].dims))))
    assert found["learnt", "novel maps"] == "not shown"


def test_amnesia_is_judged_by_rehearsal():
    kinds = [
        further_courses(forgotten=lost).assign_coords(rehearsal=("model", [words] * 3))
        for words, lost in (("none", 0.4), ("a quarter", 0.0))
    ]
    found = amnesia_answers(xr.concat(kinds, "model", data_vars="all").assign_attrs(chance=0.9))
    forgetting = found[found["question"] == "forgetting"]
    assert forgetting["network"].tolist() == ["rehearsal: none", "rehearsal: a quarter"]
    assert forgetting["verdict"].tolist() == ["forgets", "undecided"]
