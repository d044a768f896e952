"""Recording: every value is the one the network computed, and the network comes back untouched."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import networks
from helpers.networks import CONFIG
from torch import nn

from placeformer.data.schema import check_recording, read_provenance
from placeformer.models.grid_world import GridWorld
from placeformer.models.memory import attended_window, places, predictions, untouched, visited
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.navigation import by_lag
from placeformer.recording.record import record


@pytest.fixture
def model():
    network = NavigationTransformer(CONFIG, GridWorld(4, 10, 3, seed=0)).init_weights(0).eval()
    return networks.randomised(network)


def run(model, **settings):
    return record(model, **({"n_walks": 3, "n_steps": 10, "progress": False} | settings))


def test_the_units_are_what_the_feed_forward_layer_computed(model):
    walks = model.world.walk(3, 12, seed=1)
    got = run(model, walks=walks, burn_in=0, seed=5)
    inputs = {}
    for i, layer in enumerate(model.layers):
        layer.ffn.fc2.register_forward_pre_hook(
            lambda module, args, i=i: inputs.setdefault(i, []).append(args[0])
        )
    action, observation = (torch.from_numpy(walks[k].values) for k in ("action", "observation"))
    with torch.no_grad():
        logits, _ = model(action, observation, model.initial_state(3, seed=5))
    for i in (0, 1):
        # fc2 sees the query stream first, then (all layers but the last) the letter stream.
        want = torch.cat(inputs[i][:: 2 - i], 1)
        unit = got["activation"].where(got.layer == f"ffn.{i}", drop=True)
        np.testing.assert_array_equal(unit, want)
    np.testing.assert_array_equal(got.prediction, logits.argmax(-1))


def test_the_letter_stream_is_recorded_at_the_place_stood_on(model):
    walks = model.world.walk(3, 12, seed=1)
    letters = run(model, walks=walks, layers="content.ffn.*", burn_in=2)
    np.testing.assert_array_equal(letters.x, walks.x[:, 2:])
    np.testing.assert_array_equal(letters.observation, walks.observation[:, 2:])
    assert "prediction" not in letters
    queries = run(model, walks=walks, burn_in=2)
    np.testing.assert_array_equal(queries.y, walks.next_y[:, 2:])
    np.testing.assert_array_equal(queries.observation, walks.target[:, 2:])
    assert not np.array_equal(letters.activation, queries.activation)


@pytest.mark.parametrize("layers", ["attention.*", "content.attention.*"])
def test_attention_by_lag_sums_to_one_and_stays_within_reach(model, layers):
    got = run(model, layers=layers, burn_in=0, n_steps=12)
    lags = CONFIG.memory + CONFIG.chunk + 1
    weight = got.activation.values.reshape(3, 12, 2 * 2, lags)
    np.testing.assert_allclose(weight.sum(-1), 1, atol=1e-6)
    own = 1 if layers.startswith("attention") else 0
    reach = np.array([1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8]) + own  # chunks of 4, 4 remembered
    inside = np.arange(lags) < reach[:, None]
    for t in range(12):
        assert (weight[:, t, :, ~inside[t]] == 0).all()
        assert (weight[:, t, :, inside[t]] > 0).all()


def test_attention_by_lag_by_hand():
    # 1 key remembered, 2 steps, then the query's own key.
    weights = torch.tensor([[[[0.1, 0.2, 0.0, 0.7], [0.1, 0.2, 0.3, 0.4]]]])
    assert by_lag(weights, 4, own=1)[0].tolist() == pytest.approx(
        np.array([[0.7, 0.2, 0.1, 0.0], [0.4, 0.3, 0.2, 0.1]])
    )
    weights = torch.tensor([[[[0.4, 0.6, 0.0], [0.1, 0.2, 0.7]]]])
    assert by_lag(weights, 3, own=0)[0].tolist() == pytest.approx(
        np.array([[0.6, 0.4, 0.0], [0.7, 0.2, 0.1]])
    )


def test_a_recording_keeps_the_contract(model, tmp_path):
    got = run(model, familiar=False, maps=[1, 2])
    check_recording(got, need=("x", "y", "observation", "map"))
    assert got.activation.dims == ("walk", "time", "unit")
    assert got.activation.dtype == np.float32
    assert got.sizes == {"walk": 3, "time": 10, "unit": 24}
    assert set(got["map"].values) <= {1, 2}
    assert not got.familiar.any()
    assert got.time.values[0] == CONFIG.memory + CONFIG.chunk
    walks = model.world.walk(3, 18, seed=0, familiar=False, maps=[1, 2])
    window = attended_window(18, 4, 4)
    np.testing.assert_array_equal(got.window, window[8:])
    np.testing.assert_array_equal(got.visited, visited(places(walks), window)[:, 8:])
    answer = predictions(model, walks, seed=0)[:, 8:]
    np.testing.assert_array_equal(got.correct, answer == walks.target.values[:, 8:])
    step = read_provenance(got)["steps"][0]
    assert step["network"]["alpha"] == 2.0
    assert step["walks"]["walk_seed"] == 0
    assert step["layers"] == ["ffn.0", "ffn.1"]
    got.to_netcdf(tmp_path / "recording.nc")
    with xr.open_dataset(tmp_path / "recording.nc") as back:
        xr.testing.assert_identical(back.load(), got)


def test_the_sha256_follows_the_weights(model):
    def sha():
        return json.loads(run(model).attrs["provenance"])["steps"][0]["network"]["weights_sha256"]

    first = sha()
    assert first == sha()
    with torch.no_grad():
        model.read_out.bias[0] += 1e-6
    assert first != sha()


def test_batches_do_not_matter(model):
    many = run(model, n_walks=130)
    walks = model.world.walk(130, 18, seed=0, maps=[0])
    path = model.initial_state(130, seed=0).path[129:]
    state = model.initial_state(1, path=path)
    units = []
    hook = model.layers[1].ffn.units.register_forward_hook(lambda m, a, out: units.append(out))
    action, observation = (
        torch.from_numpy(walks[k].values[129:]) for k in ("action", "observation")
    )
    with torch.no_grad():
        model(action, observation, state)
    hook.remove()
    want = torch.cat(units, 1)[0, 8:]
    np.testing.assert_allclose(many.activation[129, :, 12:], want, atol=1e-6)


def test_float16_is_the_rounded_recording(model):
    full, half = run(model), run(model, dtype="float16")
    assert half.activation.dtype == np.float16
    np.testing.assert_array_equal(half.activation, full.activation.astype(np.float16))


@pytest.mark.parametrize("fail", [False, True])
def test_the_network_comes_back_untouched(model, fail, monkeypatch):
    model.train()
    model.layers[0].ffn.eval()
    modes = [m.training for m in model.modules()]
    hooks = [len(m._forward_hooks) for m in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    if fail:
        monkeypatch.setattr(model.norm, "forward", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(model)
    else:
        run(model)
    assert [m.training for m in model.modules()] == modes
    assert [len(m._forward_hooks) for m in model.modules()] == hooks
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.is_grad_enabled()


def test_untouched_works_on_any_module():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    with untouched(net):
        assert not net[1].training
    assert net[1].training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "fnn.0"}, r"'fnn\.0' matches no layer; did you mean ffn\.0"),
        ({"layers": ["ffn.0", "ffn.2"]}, r"'ffn\.2' matches no layer"),
        ({"layers": ["ffn.0", "content.ffn.0"]}, "layers must be of one stream"),
        ({"layers": []}, "layers must be of one stream, got none"),
        ({"dtype": "float64"}, 'dtype must be "float32" or "float16"'),
        ({"burn_in": -1}, "burn_in must be a whole number ≥ 0, got -1"),
        ({"maps": [7]}, r"maps must be indices in 0–2"),
    ],
)
def test_bad_arguments_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        run(model, **settings)


def test_a_recording_is_no_walk(model):
    with pytest.raises(
        ValueError, match=r"got Dataset without target, next_x, next_y \(a Recording"
    ):
        run(model, walks=run(model))


def test_a_network_without_a_world_says_so():
    network = NavigationTransformer(CONFIG).eval()
    with pytest.raises(ValueError, match=r"model\.world must be a GridWorld"):
        run(network)
    walks = GridWorld(4, 10, 3).walk(2, 20, seed=0)
    assert run(network, walks=walks).sizes["time"] == 12


@networks.needs_gpu
def test_a_network_on_a_gpu_is_recorded_as_on_the_processor(model):
    walks = model.world.walk(3, 40, seed=1)
    want = run(model, walks=walks, layers=["ffn.*", "position"])
    got = run(model.cuda(), walks=walks, layers=["ffn.*", "position"])
    assert model.read_out.weight.is_cuda
    xr.testing.assert_allclose(got.drop_vars("prediction"), want.drop_vars("prediction"), atol=1e-4)
    assert (got.prediction == want.prediction).mean() > 0.99
