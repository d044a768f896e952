"""Score cards: known populations, controls with the marks they should have, and the files."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.networks import CONFIG, randomised
from torch import nn

import placeformer as pf
from placeformer.evaluation import score_controls as controls
from placeformer.evaluation import simulation
from placeformer.evaluation.score_card import (
    FIELDS,
    NETWORK,
    UNTRAINED,
    Settings,
    input_classes,
    lesion_of,
    remapping_of,
    with_input,
)
from placeformer.evaluation.score_card_files import table_of

SIDE, N = 7, 20
KINDS = ("place", "same place", "letter", "noise")


def population():
    """20 units each with fields that differ between two maps, fields that do not, letters, noise.

    The layer of a unit is its kind.
    """
    rng = np.random.default_rng(3)
    n_walks, n_steps = 16, 300
    x, y = rng.integers(0, SIDE, (2, n_walks, n_steps))
    room = np.arange(n_walks) % 2
    letters = rng.integers(0, 6, (2, SIDE, SIDE))
    observation = letters[room[:, None], y, x]
    fields = rng.uniform(0, SIDE - 1, (2, N, 2))
    rates = np.array([[simulation.bump(c, 1.2, SIDE) for c in centres] for centres in fields])
    answers = rng.standard_normal((N, 6))
    parts = [
        np.moveaxis(rates, 1, -1)[room[:, None], y, x],
        np.moveaxis(rates[:1], 1, -1)[0][y, x],
        answers.T[observation],
        np.zeros((n_walks, n_steps, N)),
    ]
    noisy = np.concatenate(parts, -1) + 0.1 * rng.standard_normal((n_walks, n_steps, N * 4))
    recording = simulation.recording(noisy.astype("f4"), x, y, map=room, observation=observation)
    layer = ("unit", np.repeat(KINDS, N))
    return recording.assign_coords(layer=layer, index=("unit", np.tile(np.arange(N), 4)))


@pytest.fixture(scope="module")
def card():
    return pf.score_card(population(), progress=False)


def test_known_units_get_the_marks_they_should(card):
    share = card["share"].sel(subject=NETWORK).to_pandas()
    assert (share.loc[["place", "same place"], ["tuned", "beyond input", "stable"]] > 0.9).all(
        axis=None
    )
    assert (share.loc[["place", "same place"], "place cell"] > 0.6).all()
    assert share.loc["letter", "tuned"] == 1
    assert share.loc["letter", "beyond input"] < 0.2 and share.loc["letter", "place cell"] < 0.2
    assert (share.loc["noise", ["tuned", "beyond input", "stable", "place cell"]] < 0.15).all()
    assert share.loc["place", "remaps"] > 0.7
    assert (share.loc[["same place", "letter", "noise"], "remaps"] < 0.15).all()
    assert (card["share_n"] == N).sel(subject=NETWORK).all()


def test_random_smooth_fields_are_tuned_and_decoded_but_do_not_remap(card):
    fields = card.sel(subject=FIELDS)
    assert (fields["share"].sel(mark=["tuned", "beyond input", "stable"]) == 1).all()
    assert (fields["share"].sel(mark="remaps") == 0).all()
    shares = fields["decoded_error"] / fields["chance_error"]
    assert (shares.sel(decoder="ridge") < 0.75).all() and (shares.sel(decoder="bayes") < 0.1).all()
    assert (fields["lesion_reason"] == "no score was given").all()


def test_errors_of_decoding_stand_beside_chance(card):
    found = card.sel(subject=NETWORK, decoder="bayes")
    assert float(found["decoded_error"].sel(layer="place")) < 0.3
    assert float(found["decoded_p"].sel(layer="place")) == 0.05
    assert float(found["decoded_error"].sel(layer="noise")) > 0.95 * float(
        found["chance_error"].sel(layer="noise")
    )
    x = population()["x"].values
    flat = np.sqrt(2 * np.var(x))  # root mean square distance from the mean, above the mean one
    assert 0.8 * flat < float(found["chance_error"][0]) < flat
    low, high = found["decoded_interval"].sel(layer="place").values
    assert low < float(found["decoded_error"].sel(layer="place")) < high


def test_what_a_recording_does_not_have_is_named(card):
    twin = card.sel(subject=UNTRAINED)
    assert np.isnan(twin["share"]).all() and np.isnan(twin["decoded_error"]).all()
    assert set(twin["share_reason"].values.ravel()) == {"a Recording has no untrained twin"}


def test_a_recording_without_layers_is_one_layer():
    rng = np.random.default_rng(0)
    recording = simulation.place_code(rng, n_units=4, n_walks=8).drop_vars(["layer", "map"])
    card = pf.score_card(recording, decoders="bayes", progress=False)
    assert card["layer"].values.tolist() == ["units"] and int(card["n_units"][0]) == 4
    again = pf.score_card(recording, untrained=recording, decoders="bayes", progress=False)
    for name in ("share", "decoded_error"):
        xr.testing.assert_equal(
            again[name].sel(subject=UNTRAINED, drop=True),
            card[name].sel(subject=NETWORK, drop=True),
        )


def test_files_hold_all_of_a_card(card, tmp_path):
    file = pf.write_score_card(card, tmp_path / "card.json")
    assert "NaN" not in file.read_text()
    assert pf.read_score_card(file).identical(card)
    page = pf.write_score_card(card, tmp_path / "card.html", title="a <b>").read_text()
    assert "a &lt;b&gt;" in page and "same place" in page
    share = card["share"].sel(subject=NETWORK, layer="place", mark="remaps").item()
    assert f"<td>{share:.0%} <small>" in page
    with pytest.raises(ValueError, match=r"must end in \.json or \.html, got 'card.txt'"):
        pf.write_score_card(card, tmp_path / "card.txt")
    with pytest.raises(ValueError, match="card must be a result of score_card"):
        pf.write_score_card(xr.Dataset(), tmp_path / "card.json")
    (tmp_path / "other.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="not a score card"):
        pf.read_score_card(tmp_path / "other.json")
    (tmp_path / "other.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a score card"):
        pf.read_score_card(tmp_path / "other.json")


class PlaceNetwork(nn.Module):
    """Half of its units are place cells that the read-out needs, half are noise of the input."""

    def __init__(self, n=20, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("centre", SIDE * torch.rand(n, 2, generator=generator))
        self.hidden = nn.Identity()
        self.read = nn.Linear(n, 2)

    def forward(self, place, noise):
        near = (place[..., None, :] - self.centre).square().sum(-1)
        return self.read(self.hidden(torch.cat([(-near / 4).exp(), noise], -1))[..., :20])


def behaviour(n_walks=10, n_steps=200):
    rng = np.random.default_rng(1)
    place = rng.integers(0, SIDE, (n_walks, n_steps, 2))
    scale = rng.uniform(0.1, 0.4, 20)  # as active as the place cells
    inputs = {
        "place": place.astype(float),
        "noise": scale * rng.standard_normal((n_walks, n_steps, 20)),
    }
    return {"x": place[..., 1], "y": place[..., 0]}, inputs


def test_lesions_of_place_cells_cost_what_their_controls_do_not():
    walks, inputs = behaviour()
    network = PlaceNetwork()
    with torch.no_grad():  # read the place out by ridge regression
        place = torch.tensor(inputs["place"]).float().reshape(-1, 2)
        near = (place[:, None] - network.centre).square().sum(-1)
        design = torch.cat([(-near / 4).exp(), torch.ones(len(place), 1)], 1)
        gram = design.T @ design + 100 * torch.eye(21)
        solved = torch.linalg.solve(gram, design.T @ place)
        network.read.weight.copy_(solved[:-1].T)
        network.read.bias.copy_(solved[-1])

    def score(lesioned):
        with torch.no_grad():
            found = lesioned(*(torch.tensor(v).float() for v in inputs.values()))
        return (found - torch.tensor(inputs["place"])).norm(dim=-1).mean(1).numpy()

    card = pf.score_card(
        network, walks, layers="hidden", inputs=inputs, score=score, repeats=9, progress=False
    ).isel(layer=0)
    found = card.sel(subject=NETWORK)
    assert 10 <= int(found["lesion_n"]) <= 20
    intact, place_cells, others = found["lesion_score"].values
    assert intact < others < place_cells
    np.testing.assert_allclose(found["lesion_cost"], place_cells - others)
    assert float(found["lesion_p"]) == 0.1
    low, high = found["lesion_interval"].values
    assert 0 < low < place_cells - others < high
    assert card["lesion_reason"].sel(subject=FIELDS) == "no network reads these units"
    assert set(card["share_reason"].sel(mark="beyond input").values) == {"no input was given"}


def test_place_cells_without_others_like_them_are_not_compared():
    walks, inputs = behaviour(4, 100)
    network = PlaceNetwork()
    inputs["noise"] *= 100  # strata by activity hold place cells alone or none
    recording = pf.record(network, walks, layers="hidden", inputs=inputs, progress=False)
    cells = xr.Dataset({"is_place_cell": recording["index"] < 20})
    how = Settings(("y", "x"), None, None, None, None, ("bayes",), 9, 0)
    found = lesion_of(
        network, "hidden", cells, recording, how, lambda lesioned: 0.0, {"repeats": 3}
    )
    assert np.isnan(found["lesion_cost"]) and found["lesion_n"] == 20
    assert "no other units of the layer are similar" in found["lesion_reason"].item()
    for none in (cells & False, cells | True):
        found = lesion_of(
            network, "hidden", none, recording, how, lambda lesioned: 0.0, {"repeats": 3}
        )
        assert "unit is a place cell" in found["lesion_reason"].item()


def test_the_untrained_twin_has_new_weights_and_leaves_the_network():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GRU(4, 5))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    twin, again = (controls.untrained_twin(network, None, seed=5) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(twin.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(twin[0].weight, network[0].weight)
    other = controls.untrained_twin(network, None, seed=6)
    assert not torch.equal(twin[0].weight, other[0].weight)
    drawn = controls.untrained_twin(randomised(pf.NavigationTransformer(CONFIG)), None, seed=5)
    expected = pf.NavigationTransformer(CONFIG).init_weights(5)
    for name, value in expected.state_dict().items():
        assert torch.equal(drawn.state_dict()[name], value)


def test_a_network_that_cannot_be_initialised_needs_a_twin():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    network = nn.Sequential(nn.Linear(2, 3), Own())
    with pytest.raises(ValueError, match=r"no reset_parameters\(\): 1 \(Own\); pass as untrained"):
        controls.untrained_twin(network, None, seed=0)
    given = nn.Linear(2, 3)
    assert controls.untrained_twin(network, given, seed=0) is given
    assert controls.untrained_twin(network, lambda seed: nn.Linear(seed, 1), 4).in_features == 4
    with pytest.raises(ValueError, match="another network"):
        controls.untrained_twin(network, network, 0)
    with pytest.raises(TypeError, match=r"must return a torch.nn.Module, got int"):
        controls.untrained_twin(network, lambda seed: seed, 0)
    with pytest.raises(TypeError, match="or a function that makes one from a seed, got str"):
        controls.untrained_twin(network, "mini-gelu", 0)


def test_random_fields_are_smooth_as_stated_and_depend_on_place_alone():
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 1, (2, 4, 500))
    recording = pf.from_arrays(np.zeros((4, 500, 400)), {"x": place[0], "y": place[1]})
    width = 0.1
    fields = controls.random_fields(recording, by=("y", "x"), width=width, seed=1)
    values = fields["activation"].values.reshape(-1, 400).astype(float)
    assert abs(values.std() - 1) < 0.1
    points = place.reshape(2, -1).T
    inside = np.flatnonzero((np.abs(points - 0.5) < 0.25).all(1))[:300]
    distance = np.linalg.norm(points[inside, None] - points[inside], axis=-1)
    product = values[inside] @ values[inside].T / 400
    for low, high in ((0, 0.02), (0.09, 0.11), (0.19, 0.21)):
        pairs = (distance >= low) & (distance < high)
        # white noise smoothed with s.d. w is correlated by exp(-d^2 / 4 w^2)
        expected = np.exp(-(distance[pairs] ** 2) / (4 * width**2)).mean()
        assert abs(product[pairs].mean() - expected) < 0.1
    mapped = recording.assign_coords(map=("walk", [0, 1, 0, 1]))
    again = controls.random_fields(mapped, by=("y", "x"), width=width, seed=1)
    np.testing.assert_array_equal(again["activation"], fields["activation"])
    with pytest.raises(ValueError, match="field_width must be above 0 and at most 1, got 0"):
        controls.random_fields(recording, by=("y", "x"), width=0, seed=1)


@pytest.mark.parametrize("width", [0.1, 0.9])
def test_random_fields_of_a_direction_have_no_seam(width):
    heading = np.linspace(-180, 180, 100)[None]
    recording = pf.from_arrays(
        np.zeros((1, 100, 400)), {"heading": heading}, circular={"heading": 360}, sample_rate=20
    )
    fields = controls.random_fields(recording, by=("heading",), width=width, seed=1)
    values = fields["activation"].values[0].astype(float)
    assert np.abs(values[0] - values[-1]).max() == 0  # -180 and 180 degrees are one place
    assert np.square(values).mean() == pytest.approx(1, abs=0.15)
    kept = {name: recording.attrs[name] for name in ("circular", "sample_rate")}
    assert fields.attrs == kept


def test_units_remap_only_among_enough_units_that_vary():
    # 24 units of which 6 vary and have the same fields in both environments
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (2, 8, 150))
    room = np.arange(8) % 2
    fields = np.array([simulation.bump(c, 1.2, 5) for c in rng.uniform(0, 4, (6, 2))])
    values = np.zeros((8, 150, 24))
    values[..., :6] = np.moveaxis(fields, 0, -1)[y, x]
    recording = simulation.recording(values, x, y, map=room)
    recording = recording.assign_coords(layer=("unit", ["one"] * 24))
    how = Settings(("y", "x"), None, None, None, None, ("bayes",), 19, 0)
    counted = xr.DataArray(np.tile(np.arange(24) < 6, (2, 1)), dims=("map", "unit"))
    assert np.isnan(remapping_of(recording, counted, ["one"], how)).all()


def test_a_page_has_no_p_where_there_was_no_test(card):
    one = card.sel(layer="place").copy(deep=True)
    assert ", p = " in table_of(one)["rows"][-2][1][0]["note"]
    one["decoded_p"][:] = np.nan
    assert not any("p =" in cell["note"] for _, cells in table_of(one)["rows"] for cell in cells)


def test_a_continuous_input_is_cut_into_classes():
    rng = np.random.default_rng(0)
    recording = pf.from_arrays(np.zeros((3, 200, 1)), {"x": rng.random((3, 200))})
    velocity = rng.standard_normal((3, 200, 2))
    classes = input_classes("velocity", velocity, recording)
    assert np.unique(classes).size == 64
    one = input_classes("speed", velocity[..., 0], recording)
    assert np.unique(one).size == 16 and set(np.bincount(one.ravel())) == {37, 38}
    assert np.corrcoef(one.ravel(), velocity[..., 0].ravel())[0, 1] > 0.95
    first = velocity[..., 0][classes == classes[0, 0]]
    assert np.ptp(first) < np.ptp(velocity[..., 0])
    letters = rng.integers(0, 7, (3, 200))
    assert np.array_equal(input_classes("letter", letters, recording), letters)
    longer = np.concatenate([np.full((3, 5), 9), letters], axis=1)  # burn-in was not recorded
    assert np.array_equal(input_classes("letter", longer, recording), letters)
    with pytest.raises(ValueError, match="has 600 classes of values"):
        input_classes("step", np.arange(600).reshape(3, 200), recording)
    with pytest.raises(ValueError, match="must have values"):
        input_classes("letter", letters[:2], recording)


def test_an_input_may_have_any_order_of_dimensions():
    recording = population().rename(observation="letter")
    how = Settings(("y", "x"), None, None, None, "letter", ("bayes",), 19, 0)
    classes = [
        with_input(one, how, None, None)[0]["input_class"].values
        for one in (recording, recording.transpose("unit", "time", "walk"))
    ]
    np.testing.assert_array_equal(*classes)


def test_wrong_arguments_are_named():
    walks, inputs = behaviour(4, 30)
    asked = {"layers": "hidden", "inputs": inputs, "progress": False}
    with pytest.raises(TypeError, match="a torch.nn.Module or a Recording, got str"):
        pf.score_card("nmda-a10")
    with pytest.raises(ValueError, match=r"given must name an input.*noise.*got 'letter'"):
        pf.score_card(PlaceNetwork(), walks, given="letter", **asked)
    with pytest.raises(ValueError, match="only a navigation Transformer has the scores"):
        pf.score_card(PlaceNetwork(), walks, score="reference", **asked)
    recording = population()
    with pytest.raises(ValueError, match="decoders must be one of ridge, knn, bayes, got 'lasso'"):
        pf.score_card(recording, decoders=["lasso"])
    with pytest.raises(ValueError, match="score must be None for a Recording"):
        pf.score_card(recording, score=lambda network: 0)
    with pytest.raises(TypeError, match="untrained must be a Recording for a Recording"):
        pf.score_card(recording, untrained=PlaceNetwork())


def test_an_untrained_twin_along_other_walks_is_refused():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 8, (2, 2, 4, 60))
    first, other = (
        pf.from_arrays(rng.random((4, 60, 3)), {"x": a, "y": b}, behaviour={"cue": a // 4})
        for a, b in zip(x, y, strict=True)
    )
    with pytest.raises(ValueError, match="untrained must be along the walks of the recording"):
        pf.score_card(first, untrained=other, given="cue", n_shuffles=50, progress=False)
