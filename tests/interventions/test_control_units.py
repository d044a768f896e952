"""Control units: strata, exact relabelling, and the expected change of the logits."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from helpers.networks import network

import placeformer as pf
from placeformer.interventions.ablation_comparison import compare
from placeformer.interventions.ablation_curve import count_lesion_errors
from placeformer.interventions.ablation_plan import draw_plan, recorded_units
from placeformer.interventions.control_units import lesion_sets, relabelled, strata
from placeformer.interventions.lesions import replacements
from placeformer.interventions.logit_change import logit_change, logit_kernels
from placeformer.models.transformer import ModelConfig


def test_strata_are_quantiles_of_the_first_covariate_and_then_of_the_second():
    rng = np.random.default_rng(0)
    covariates, layer = rng.normal(size=(768, 2)), np.repeat(["ffn.0", "ffn.1"], [512, 256])
    stratum = strata(covariates, layer)
    _, sizes = np.unique(stratum, return_counts=True)
    assert len(sizes) == 8 * 4 + 8 * 2 and set(sizes) == {16}
    for name, n_first, n_second in (("ffn.0", 8, 4), ("ffn.1", 8, 2)):
        here = layer == name
        order = np.argsort(np.argsort(covariates[here, 0]))
        first = order * n_first // here.sum()
        for one in np.unique(stratum[here]):
            assert len(np.unique(first[stratum[here] == one])) == 1
        for group in range(n_first):
            of_group, values = stratum[here][first == group], covariates[here, 1][first == group]
            ranges = sorted(
                (values[of_group == s].min(), values[of_group == s].max())
                for s in np.unique(of_group)
            )
            assert len(ranges) == n_second
            assert all(a[1] < b[0] for a, b in pairwise(ranges))


@pytest.mark.parametrize("n", [1, 2, 15, 31])
def test_a_small_layer_is_one_stratum(n):
    assert (strata(np.random.default_rng(0).normal(size=(n, 2)), np.repeat("ffn.0", n)) == 0).all()


def test_labels_are_exchanged_within_strata_each_way_equally_often():
    stratum = np.array([1, 0, 1, 0, 1])
    rng = np.random.default_rng(0)
    drawn = [tuple(relabelled(stratum, rng)) for _ in range(2400)]
    ways, counts = np.unique(drawn, axis=0, return_counts=True)
    want = {
        (a[0], b[0], a[1], b[1], a[2])
        for a in permutations([0, 2, 4])
        for b in permutations([1, 3])
    }
    assert set(map(tuple, ways)) == want
    assert (abs(counts - 200) < 60).all()  # 4.6 standard deviations


def sets_of(targets, covariates, stratum, seed, repeats=19):
    layer = np.repeat("ffn.1", targets.size)
    sets, _, _ = lesion_sets(
        targets.astype(float), covariates, layer, stratum=stratum, sizes=[int(targets.sum())],
        repeats=repeats, controls=["stratified"], caliper=1, seed=seed,
    )  # fmt: skip
    return sets[:, 0]


def test_p_over_stratified_sets_is_exact_where_targets_are_random_within_strata():
    """The cost depends on the covariates, and on units that hang together: targets are extreme."""
    rng = np.random.default_rng(0)
    n_units, n, p = 160, 400, []
    covariates = rng.lognormal(size=(n_units, 2))
    stratum = strata(covariates, np.repeat("ffn.1", n_units))
    likely = np.repeat([0.05, 0.6], [5, 5])[np.argsort(np.argsort(stratum)) * 10 // n_units]
    mixing = rng.normal(size=(n_units, 20)) * covariates[:, :1]
    for seed in range(n):
        targets = rng.random(n_units) < likely
        sets = sets_of(targets, covariates, stratum, seed)
        cost = np.tanh(np.linalg.norm(sets @ mixing, axis=-1) / 40)
        assert (
            sets @ (stratum[:, None] == np.arange(10))
            == (targets @ (stratum[:, None] == np.arange(10)))
        ).all()
        p.append((1 + (cost[1] >= cost[0, 0]).sum()) / 20)
    # p takes the values 1/20, ..., 1 with equal probability: 5 % at .05, standard error 1.1 %.
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.08
    assert 0.44 < np.mean(np.array(p) <= 0.5) < 0.56


@pytest.fixture(scope="module")
def model():
    return network(ModelConfig(10, 16, 2, 2, 8, 24, 8, 4, 4, 0.0, "nmda", 1.0))


@pytest.fixture(scope="module")
def reference(model):
    size = {"n_walks": 6, "n_steps": 40, "seed": 5, "progress": False}
    return [pf.record(model, layers=layers, **size) for layers in ("ffn.*", "content.ffn.*")]


def test_the_change_of_the_logits_is_that_of_the_linear_path(model, reference):
    with torch.no_grad():
        model.norm.weight.copy_(torch.linspace(0.5, 2, 16))
    units = recorded_units(["ffn.0", "ffn.1"], reference)
    layer = units["layer"].values
    sets = np.random.default_rng(0).random((3, 48)) < 0.4
    found = logit_change(logit_kernels(model, units), layer, sets)
    activation = units["activation"].values.reshape(-1, 48).astype(float)
    want = np.zeros(3)
    for i, mask in enumerate(sets):
        for name in ("ffn.0", "ffn.1"):
            here = layer == name
            hidden = (activation - activation.mean(0))[:, here] * mask[here]
            fc2 = model.layers[int(name[-1])].ffn.fc2.weight.detach().double().numpy()
            stream = hidden @ fc2.T
            stream = (stream - stream.mean(1, keepdims=True)) * model.norm.weight.detach().numpy()
            logits = stream @ model.read_out.weight.detach().double().numpy().T
            want[i] += ((logits - logits.mean(1, keepdims=True)) ** 2).sum(1).mean()
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_a_plan_says_what_its_sets_change_and_share(model, reference):
    units = recorded_units(["ffn.1"], reference)
    mask = np.arange(24) < 6
    plan = draw_plan(
        model, units, mask, None, keep=False, negatives="rectify", repeats=5, seed=0, caliper=9,
        controls=["random", "stratified", "matched"],
    )  # fmt: skip
    assert plan.attrs["stratified_by"] == "logit_change activity"
    lesioned = plan.lesioned.isel(lesion=plan.lesion_of_set).transpose(..., "unit")
    kernels = logit_kernels(model, units)
    np.testing.assert_allclose(
        plan.logit_change, logit_change(kernels, units["layer"].values, lesioned.values)
    )
    overlap = (lesioned & mask).sum("unit").isel(fraction=1) / 6
    np.testing.assert_allclose(plan.overlap.isel(fraction=1), overlap)
    assert (plan.overlap.isel(fraction=1).sel(selection="ordered") == 1).all()
    assert (plan.overlap.isel(fraction=1).sel(selection="matched") == 0).all()


@pytest.mark.slow
def test_random_targets_keep_the_level_in_a_trained_network():
    """P of random masks: the false-positive rate of the exact tests is theirs."""
    model, n_masks = pf.load("mini-nmda-a10"), 30
    reference = [pf.record(model, layers="ffn.1", n_walks=16, n_steps=256, progress=False)]
    units = recorded_units(["ffn.1"], reference)
    fill = replacements(model, ["ffn.1"], "mean", reference=reference, bins=None, seed=0)
    rng, p = np.random.default_rng(0), {"random": [], "stratified": []}
    for seed in range(n_masks):
        mask = np.zeros(units.sizes["unit"], bool)
        mask[rng.choice(mask.size, mask.size // 7, replace=False)] = True
        plan = draw_plan(
            model, units, mask, np.array([mask.mean()]), keep=False, negatives="rectify",
            controls=list(p), caliper=1, repeats=19, seed=seed,
        )  # fmt: skip
        counts = count_lesion_errors(
            model, plan, fill, n_walks=8, n_steps=1024, maps=(0,), seed=seed, where="chunk_end",
            cluster="walk", progress=False,
        )  # fmt: skip
        found = compare(counts, plan, n_resamples=10, seed=0)["p_sets"].isel(fraction=0)
        for control in p:
            one = found.sel(maps="trained", memory="reference", control=control)
            p[control].append(float(one))
    for control in p:
        assert np.mean(np.array(p[control]) <= 0.05) <= 0.2  # 7 of 30 or more: p = .0006 at 5 %
