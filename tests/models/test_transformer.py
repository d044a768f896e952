"""The network: exact one-pass form, causality, an independent slow reference, the paper's names."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import networks
from torch.nn import functional as F

import placeformer as pf
from placeformer.models import paper_weights as paper
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer, State

CHUNK = 5
CONFIG = ModelConfig(
    n_letters=4,
    d_model=12,
    n_layers=2,
    n_heads=2,
    d_head=3,
    d_inner=10,
    d_rnn=7,
    chunk=CHUNK,
    memory=4,
    dropout=0.0,
    activation="nmda",
    alpha=2.0,
)


def randomised(config=CONFIG, seed=0, world=None):
    """Return a float64 network with every parameter well away from its initial value."""
    model = NavigationTransformer(config, world).double().eval()
    return networks.randomised(model, seed)


def episode(n_walks=3, n_steps=2 * CHUNK, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda n: torch.from_numpy(rng.integers(n, size=(n_walks, n_steps)))  # noqa: E731
    return draw(5), draw(CONFIG.n_letters)


# An independent reference: plain loops over steps and heads, one run per prefix, written from the
# equations of the paper and sharing nothing with the library but the parameters.


def norm(x, layer):
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * layer.weight + layer.bias


def attend(p, config, x, memory):
    """Attention of tokens x (time, d) over memory ++ x, one step and one head at a time."""
    keys_in = norm(torch.cat([memory, x]), p.norm)
    width, d = config.n_heads * config.d_head, config.d_head
    wq, wk, wv = p.qkv.weight.split(width)
    out = torch.zeros(len(x), width, dtype=x.dtype)
    for i in range(len(x)):
        here = len(memory) + i
        for h in range(config.n_heads):
            part = slice(h * d, (h + 1) * d)
            q = wq[part] @ keys_in[here]
            scores = []
            for j in range(here + 1):
                delta = min(here - j, config.memory + config.chunk - 1)
                k = wk[part] @ keys_in[j]
                scores.append(
                    (
                        (q + p.query_bias[h]) @ k
                        + q @ p.distance[h, delta]
                        + p.distance_bias[h, delta]
                    )
                    / math.sqrt(d)
                )
            weight = torch.softmax(torch.stack(scores), 0)
            out[i, part] = sum(weight[j] * (wv[part] @ keys_in[j]) for j in range(here + 1))
    return x + out @ p.out.weight.T


def feed_forward(p, x, alpha):
    hidden = norm(x, p.norm) @ p.fc1.weight.T
    return x + (hidden / (1 + alpha * torch.exp(-hidden))) @ p.fc2.weight.T


def reference_logits(model, action, observation, path, memories):
    """Logits after every step of one walk's chunk by one run per prefix; and what is remembered."""
    config, steps = model.config, len(action)
    states = [path]
    for a in action:
        states.append(torch.tanh(states[-1] + states[-1] @ model.path.weight[a]))
    place = [F.relu(model.place.weight @ e + model.place.bias) for e in states]
    letters = model.letter.weight
    logits = []
    for t in range(steps):
        tokens = [torch.cat([place[s], letters[observation[s]]]) for s in range(t + 1)]
        x = torch.stack([*tokens, torch.cat([place[t + 1], letters[-1]])])
        inputs = []
        for layer, memory in zip(model.layers, memories, strict=True):
            inputs.append(x[:-1])
            x = attend(layer.attention, config, x, memory)
            x = feed_forward(layer.ffn, x, config.alpha)
        logits.append(model.read_out.weight @ norm(x[-1], model.norm) + model.read_out.bias)
    memories = [torch.cat([m, x])[-config.memory :] for m, x in zip(memories, inputs, strict=True)]
    return torch.stack(logits), states[-1], memories


def test_one_pass_equals_the_prefix_runs_of_an_independent_reference():
    model, (action, observation) = randomised(), episode(n_steps=3 * CHUNK)
    state = model.initial_state(len(action), seed=3)
    with torch.no_grad():
        got, _ = model(action, observation, state)
        for walk in range(len(action)):
            path, memories = state.path[walk], [m[walk] for m in state.memory]
            for start in range(0, 3 * CHUNK, CHUNK):  # without memory, then with it
                part = slice(start, start + CHUNK)
                want, path, memories = reference_logits(
                    model, action[walk, part], observation[walk, part], path, memories
                )
                torch.testing.assert_close(got[walk, part], want, atol=1e-10, rtol=0)


def test_one_pass_equals_the_librarys_own_prefix_runs_for_32_steps():
    config = dataclasses.replace(CONFIG, chunk=32, memory=32)
    model, (action, observation) = randomised(config), episode(2, 64)
    start = model.initial_state(2, seed=0)
    with torch.no_grad():
        for part, state in ((slice(0, 32), start), (slice(32, 64), None)):
            if state is None:
                state = model(action[:, :32], observation[:, :32], start)[1]
            whole, _ = model(action[:, part], observation[:, part], state)
            for t in range(1, 33):
                prefix = slice(part.start, part.start + t)
                logits, _ = model(action[:, prefix], observation[:, prefix], state)
                torch.testing.assert_close(logits[:, -1], whole[:, t - 1], atol=1e-10, rtol=0)


def test_no_prediction_depends_on_its_own_or_a_later_letter():
    model, (action, observation) = randomised(), episode(1, CHUNK)
    seen = {}
    model.letter.register_forward_hook(
        lambda module, args, output: seen.setdefault("letters", output)
    )
    logits, _ = model(action, observation)
    for t in range(CHUNK):
        (gradient,) = torch.autograd.grad(logits[0, t].sum(), seen["letters"], retain_graph=True)
        touched = gradient[0].abs().sum(-1) > 0
        # observation[s] is the letter before action s: prediction t may use s ≤ t, and does.
        assert touched.tolist() == [s <= t for s in range(CHUNK)]


def test_a_later_action_changes_no_earlier_prediction():
    model, (action, observation) = randomised(), episode(1, CHUNK)
    other = action.clone()
    other[0, -1] = (other[0, -1] + 1) % 5
    with torch.no_grad():
        a, b = model(action, observation)[0], model(other, observation)[0]
    torch.testing.assert_close(a[:, :-1], b[:, :-1], atol=1e-12, rtol=0)
    assert (a[:, -1] - b[:, -1]).abs().max() > 1e-6


def test_calls_that_end_at_chunk_borders_equal_one_call():
    model, (action, observation) = randomised(), episode(3, 4 * CHUNK)
    start = model.initial_state(3, seed=1)
    with torch.no_grad():
        whole, end = model(action, observation, start)
        cut = 2 * CHUNK
        first, state = model(action[:, :cut], observation[:, :cut], start)
        second, state = model(action[:, cut:], observation[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(state.path, end.path)
    torch.testing.assert_close(state.memory, end.memory)


def test_running_the_letter_stream_to_its_end_changes_no_prediction():
    model, (action, observation) = randomised(), episode()
    units = []
    model.layers[-1].ffn.content_units.register_forward_hook(lambda m, a, out: units.append(out))
    with torch.no_grad():
        short = model(action, observation)[0]
        assert not units
        long = model(action, observation, content=True)[0]
    assert torch.equal(short, long)
    assert [u.shape for u in units] == [(3, CHUNK, CONFIG.d_inner)] * 2


def paper_state_dict(config, seed=0):
    """Random tensors under the names and in the shapes of the paper's public code."""
    c, rng = config, torch.Generator().manual_seed(seed)
    width, reach = c.n_heads * c.d_head, c.chunk + c.memory
    shapes = {
        "rnn.weight": (5, c.d_rnn, c.d_rnn),
        "transformer.grid_emb.0.weight": (c.d_model // 2, c.d_rnn),
        "transformer.grid_emb.0.bias": (c.d_model // 2,),
        "transformer.word_emb.weight": (c.n_letters + 1, c.d_model // 2),
        "transformer.r_emb": (c.n_layers, reach, c.n_heads, c.d_head),
        "transformer.r_bias": (c.n_layers, reach, c.n_heads),
        "transformer.r_w_bias": (c.n_layers, c.n_heads, c.d_head),
        "transformer.ln_f.weight": (c.d_model,),
        "transformer.ln_f.bias": (c.d_model,),
        "classifier.weight": (c.n_letters, c.d_model),
        "classifier.bias": (c.n_letters,),
        "transformer.rew_emb.weight": (3, 2),
        "transformer.valid_seq_emb.weight": (3, 2),
    }
    for layer in range(c.n_layers):
        at = f"transformer.layers.{layer}."
        shapes |= {
            at + "dec_attn.qkv_net.weight": (3 * width, c.d_model),
            at + "dec_attn.o_net.weight": (c.d_model, width),
            at + "dec_attn.layer_norm.weight": (c.d_model,),
            at + "dec_attn.layer_norm.bias": (c.d_model,),
            at + "pos_ff.fc1.0.weight": (c.d_inner, c.d_model),
            at + "pos_ff.fc2.0.weight": (c.d_model, c.d_inner),
            at + "pos_ff.layer_norm.weight": (c.d_model,),
            at + "pos_ff.layer_norm.bias": (c.d_model,),
        }
    return {k: torch.empty(s).double().normal_(0, 0.3, generator=rng) for k, s in shapes.items()}


def test_the_papers_tensors_land_where_they_belong():
    tensors = paper_state_dict(CONFIG)
    model = NavigationTransformer.from_paper_state_dict(
        tensors, n_head=2, alpha=2.0, chunk=CHUNK, memory=4
    ).double()
    assert dataclasses.replace(model.config, dropout=0.0) == CONFIG
    attention, reach = model.layers[1].attention, CHUNK + 4
    for delta in range(reach):  # farthest first: distance δ is index reach - 1 - δ
        theirs = tensors["transformer.r_emb"][1, reach - 1 - delta]
        torch.testing.assert_close(attention.distance[:, delta].data, theirs.float().double())
        theirs = tensors["transformer.r_bias"][1, reach - 1 - delta]
        torch.testing.assert_close(attention.distance_bias[:, delta].data, theirs.float().double())
    assert paper.our_name("transformer.layers.1.pos_ff.fc1.0.weight") == "layers.1.ffn.fc1.weight"
    with torch.no_grad():
        action, observation = episode(1, CHUNK)
        got, _ = model(action, observation)
        state = model.initial_state(1, seed=0)
        want, _, _ = reference_logits(
            model, action[0], observation[0], state.path[0], [m[0] for m in state.memory]
        )
    torch.testing.assert_close(got[0], want, atol=1e-10, rtol=0)


def test_a_paper_state_dict_with_a_missing_tensor_or_wrong_heads_is_refused():
    tensors = paper_state_dict(CONFIG)
    with pytest.raises(ValueError, match=r"n_head .* must be 2 and 9 .* got 4 and 9"):
        NavigationTransformer.from_paper_state_dict(
            tensors, n_head=4, alpha=1.0, chunk=CHUNK, memory=4
        )
    del tensors["transformer.ln_f.bias"]
    with pytest.raises(RuntimeError, match=r"norm\.bias"):
        NavigationTransformer.from_paper_state_dict(
            tensors, n_head=2, alpha=1.0, chunk=CHUNK, memory=4
        )


def test_new_weights_follow_the_paper_and_their_seed():
    config = dataclasses.replace(CONFIG, d_model=64, d_inner=256)
    a, b, c = (NavigationTransformer(config).init_weights(s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["read_out.weight"], c["read_out.weight"])
    assert a["path.weight"].abs().max() == 0
    assert a["layers.0.attention.distance_bias"].abs().max() == 0
    assert torch.equal(a["norm.weight"], torch.ones(64))
    for name in ("layers.0.ffn.fc1.weight", "letter.weight", "layers.1.attention.distance"):
        assert a[name].std().item() == pytest.approx(0.02, rel=0.15)


def test_the_first_path_state_has_the_papers_variance():
    config = dataclasses.replace(CONFIG, d_rnn=100)
    path = NavigationTransformer(config).initial_state(400, seed=0).path
    assert path.var().item() == pytest.approx(1 / 100, rel=0.05)
    assert isinstance(NavigationTransformer(config).initial_state(2, seed=0), State)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": None}, "alpha must be given for nmda"),
        ({"alpha": -1.0}, "alpha must be a finite number ≥ 0"),
        ({"activation": "relu"}, "be None for others, got 2.0 for 'relu'"),
        ({"activation": "swish", "alpha": None}, "activation must be one of nmda, relu"),
        ({"d_model": 13}, "d_model must be even"),
        ({"n_layers": 0}, "n_layers must be a whole number ≥ 1, got 0"),
        ({"d_inner": 10.0}, "d_inner must be a whole number"),
        ({"dropout": 1.0}, "dropout must be in"),
    ],
)
def test_bad_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_bad_input_is_refused():
    model, (action, observation) = randomised(), episode()
    with pytest.raises(ValueError, match="must both be"):
        model(action, observation[:, :-1])
    with pytest.raises(ValueError, match="observation must be in 0–3, got 0 to 4"):
        model(action, torch.where(observation == 3, 4, observation))  # 4 would be the mask
    with pytest.raises(ValueError, match="action must hold whole numbers, got torch.float32"):
        model(action.float(), observation)
    with pytest.raises(ValueError, match="action must be in 0–4, got -1"):
        model(action - 1, observation)
    with pytest.raises(ValueError, match="exactly one of seed and path"):
        model.initial_state(2)
    with pytest.raises(ValueError, match=r"path must be \(2, 7\), got \(2, 6\)"):
        model.initial_state(2, path=torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"config\.n_letters must equal the world's, got 4 and 10"):
        NavigationTransformer(CONFIG, GridWorld(3))


@pytest.mark.parametrize("activation", ["relu", "gelu", "leaky_relu", "tanh"])
def test_the_other_activations_run(activation):
    config = dataclasses.replace(CONFIG, activation=activation, alpha=None)
    logits, _ = randomised(config)(*episode())
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("seed", [[], "0", -1, 2**63, 0.5])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number ≥ 0"):
        pf.load("mini-nmda-a10").initial_state(2, seed=seed)


@pytest.mark.parametrize("dropout", [None, True, "0", 1])
def test_a_dropout_is_a_share_below_1(dropout):
    config = pf.load("mini-nmda-a10").config
    with pytest.raises(ValueError, match="dropout must be in"):
        dataclasses.replace(config, dropout=dropout)
