"""The decision on place cells, criterion by criterion."""

import numpy as np
import xarray as xr

import placeformer as pf
from placeformer.spatial.place_cells import decide


def test_the_reason_is_the_first_criterion_that_fails():
    """Unit k fails criterion k and all after it, unit 6 none; unit 7 is constant."""
    names = ["q_place", "q_beyond", "q_within_observation"]
    names += ["n_fields", "field_share", "reliability"]
    unit = np.arange(8)
    columns = {"eta2": ("unit", np.where(unit == 7, np.nan, 0.5))}
    for k, name in enumerate(names):
        good, bad = (0.0, 1.0) if name[0] == "q" else (2.0, 0.0)
        columns[name] = ("unit", np.where(unit > k, good, bad))
    limits = {"max_q": 0.05, "min_fields": 1, "min_field_share": 0.5, "min_reliability": 0.5}
    want = ["not tuned to place", "follows the observation", "places scattered"]
    want += ["too few fields", "active outside its fields", "unstable"]
    want += ["place cell", "constant"]
    found = decide(xr.Dataset(columns), limits, letters=True)
    assert found["reason"].values.tolist() == want
    assert found["is_place_cell"].values.tolist() == [r == "place cell" for r in want]
    nothing = {name: ("unit", np.full(8, np.nan)) for name in names[1:3]}
    found = decide(xr.Dataset(columns | nothing), limits, letters=False)
    assert found["reason"].values.tolist()[:3] == [want[0], want[3], want[3]]
    found = decide(xr.Dataset(columns | nothing), limits, letters=True)
    assert set(found["reason"].values.tolist()[1:7]) == {"follows the observation"}


def test_the_reason_of_a_unit_does_not_depend_on_the_others():
    """Unit 0 is its letter and nothing else, so that nothing is left to explain beyond it."""
    rng = np.random.default_rng(3)
    letters = rng.permutation(np.repeat(np.arange(5), 5)).reshape(5, 5)
    x, y = rng.integers(0, 5, (2, 4000))
    letter = letters[y, x]
    noisy = np.exp(-((x - 2) ** 2 + (y - 2) ** 2) / 2) + 0.1 * rng.standard_normal(x.size)
    values = np.stack([letter == 2, noisy], axis=-1).astype(float)
    recording = pf.from_arrays(values, {"x": x, "y": y}, behaviour={"observation": letter})
    options = {"n_shuffles": 49, "cell_types": False, "progress": False}
    for units in ([0], [0, 1]):
        table = pf.place_cells(recording.isel(unit=units), **options)
        assert table.reason.values[0] == "follows the observation"
