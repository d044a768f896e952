"""Language models of Hugging Face, built from their configuration, along walks over letters."""

import numpy as np
import pytest
import torch

import placeformer as pf

transformers = pytest.importorskip("transformers")

from other_networks.language import ACTIVATIONS, MLP, N_STEPS, WIDTH, WORLD, gpt2, llama, run  # noqa: E402


@pytest.fixture(scope="module")
def walks():
    return WORLD.walk(64, N_STEPS, seed=0)


def test_layers_are_recorded_by_the_names_of_their_modules(walks):
    for family, network in (("GPT2", gpt2()), ("Llama", llama())):
        got = run(network, walks, layers=ACTIVATIONS[family])
        assert dict(got.sizes) == {"walk": 64, "time": N_STEPS, "unit": 2 * MLP}
        assert len(set(got.layer.values)) == 2
        np.testing.assert_array_equal(got.x, walks.x)
        np.testing.assert_array_equal(got.observation, walks.observation)


def test_values_are_the_hidden_states_that_the_library_returns(walks):
    network = gpt2(output_hidden_states=True)
    got = run(network, walks, layers=["h.0", "GPT2Model[last_hidden_state]"])
    with torch.no_grad():
        want = network(torch.from_numpy(walks.observation.values).long()).hidden_states
    np.testing.assert_allclose(got.activation[..., :WIDTH], want[1], atol=1e-5)
    np.testing.assert_allclose(got.activation[..., WIDTH:], want[2], atol=1e-5)


def test_hooks_that_the_library_sets_in_a_run_do_not_pile_up(walks):
    network = gpt2(output_hidden_states=True)
    for _ in range(2):
        run(network, walks, layers="GPT2Model[hidden_states][1]")
        assert not any(module._forward_hooks for module in network.modules())
    ids = torch.from_numpy(walks.observation.values).long()
    assert len(network(ids).hidden_states) == 3


def test_attention_by_lag_is_recorded_once_its_axes_are_named(walks):
    network = gpt2(attn_implementation="eager")
    with pytest.raises(ValueError, match=r"can be \(walk, unit, time, unit\) or \(walk, unit, u"):
        run(network, walks, layers="h.0.attn[1]")
    got = run(network, walks, layers="h.0.attn[1]", dims=("walk", "head", "time", "key"))
    weights = got.activation.values.reshape(64, N_STEPS, 2, N_STEPS)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert (np.triu(weights.transpose(0, 2, 1, 3), 1) == 0).all()  # looks back only


def test_a_name_from_further_down_is_understood(walks):
    network = gpt2("GPT2LMHeadModel")
    with pytest.raises(ValueError, match=r"did you mean '\*\.mlp\.act' \(transformer\.h\.0\.mlp\."):
        run(network, walks, layers="mlp.act")
    with pytest.raises(ValueError, match=r"'none' matches no layer\. There are GPT2LMHeadModel"):
        run(network, walks, layers="none")


@pytest.mark.parametrize("family", ["GPT2", pytest.param("Llama", marks=pytest.mark.slow)])
def test_random_weights_make_tuned_units_and_no_place_cells_that_remember(walks, family):
    network = {"GPT2": gpt2, "Llama": llama}[family]()
    embedding = {"GPT2": "wte", "Llama": "embed_tokens"}[family]
    layers = [embedding, ACTIVATIONS[family]]
    novel = WORLD.walk(64, N_STEPS, seed=1, familiar=False)
    recording, control = (run(network, each, layers=layers) for each in (walks, novel))
    cells = pf.place_cells(recording, control=control, n_shuffles=3000, progress=False)
    assert (cells.q_place < 0.05).all()
    assert cells.is_place_cell.sum() < 0.05 * cells.sizes["unit"]
    assert not cells.depends_on_memory.any()
    letters = cells.reason.values[(cells.layer == embedding).values]
    assert set(letters) == {"follows the observation"}
