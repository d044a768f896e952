"""A lesion takes effect on the units that were recorded, or is refused; recordings name it."""

import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import placeformer as pf
from placeformer.data.schema import read_provenance

WALKS, STEPS = 4, 10
RNG = np.random.default_rng(0)
PLACE = {"x": RNG.random((WALKS, STEPS)), "y": RNG.random((WALKS, STEPS))}
VELOCITY = RNG.normal(size=(WALKS, STEPS, 2)).astype("f4")


def record(network, layers, **options):
    inputs = {"velocity": VELOCITY}
    return pf.record(network, PLACE, layers=layers, inputs=inputs, progress=False, **options)


class Channels(nn.Module):
    """Units on the second axis: (walk, unit, time)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 6, 3, padding=1)

    def forward(self, x):
        return self.conv(x.transpose(1, 2))


class Steps(nn.Module):
    """A layer that is called once per step."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(2, 5)

    def forward(self, x):
        state = torch.zeros(len(x), 5)
        return torch.stack([state := self.cell(x[:, t], state) for t in range(x.shape[1])], 1)


class Flat(nn.Module):
    """Walk and time in one axis."""

    def __init__(self, time_first=False):
        super().__init__()
        self.cell, self.time_first = nn.Linear(2, 5), time_first

    def forward(self, x):
        return self.cell((x.transpose(0, 1) if self.time_first else x).flatten(0, 1))


class Direct(nn.Module):
    """A layer whose forward is called directly, which calls no hooks."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(self.a.forward(x))


@pytest.mark.parametrize("change", ["unit", "steps of a unit", "steps of α"])
def test_units_behind_a_convolution_need_the_names_of_their_axes(change):
    network = nn.Sequential(Channels(), pf.NMDA(2.0))
    steps = np.broadcast_to(np.arange(VELOCITY.shape[1]) < 3, VELOCITY.shape[:2])
    options = {} if change == "unit" else {"steps": steps}
    target = "nmda" if change == "steps of α" else {"1": [2]}
    dose = ("clamp", 0.0) if change == "steps of α" else ("zero",)
    with pytest.raises(ValueError, match="dims"), pf.perturb(network, target, *dose, **options):
        record(network, "1", dims=("walk", "unit", "time"))
    intact = record(network, "1", dims=("walk", "unit", "time"))
    with pf.perturb(network, target, *dose, **options, dims=("walk", "unit", "time")):
        changed = record(network, "1", dims=("walk", "unit", "time"))
    differ = (intact.activation != changed.activation).transpose("walk", "time", "unit").values
    assert (differ.any((0, 2)) == (steps[0] if options else True)).all()
    assert differ.any((0, 1)).sum() == (6 if change == "steps of α" else 1)


def test_the_recorded_axis_is_the_lesioned_axis():
    network = Channels()
    intact = record(network, "conv")
    for how in ("zero", "mean", "resample"):
        with pf.ablate(network, intact.isel(unit=[3]), how, reference=intact):
            lesioned = record(network, "conv")
        changed = (lesioned.activation != intact.activation).any(("walk", "time"))
        np.testing.assert_array_equal(np.flatnonzero(changed), [3])
    refused = pytest.raises(ValueError, match="reference must be a Recording of 'conv'")
    with refused, pf.ablate(network, {"conv": [3]}, "zero"):
        record(network, "conv")


@pytest.mark.parametrize(
    ("network", "layer", "dims"),
    [
        (Channels(), "conv", ("walk", "unit", "time")),
        (Steps(), "cell", ("walk", "unit")),
        (Flat(), "cell", ("sample", "unit")),
    ],
)
def test_named_axes_need_no_reference(network, layer, dims):
    for given in (dims, {layer: dims}):
        with pf.ablate(network, {layer: [3]}, "zero", dims=given):
            lesioned = record(network, layer, dims=dims)
        silent = ~(lesioned.activation != 0).any(("walk", "time"))
        np.testing.assert_array_equal(np.flatnonzero(silent), [3])


def test_axes_that_do_not_fit_are_refused():
    network, dims = Channels(), ("walk", "unit", "time")
    intact = record(network, "conv")
    for options, message in (
        ({"dims": {"other": dims}}, "dims must name lesioned layers, conv, got other"),
        (
            {"dims": dims[::-1], "reference": intact},
            r"must be those of the Recording of 'conv', \(",
        ),
        ({"dims": dims[:2]}, "was recorded as"),
    ):
        refused = pytest.raises(ValueError, match=message)
        with refused, pf.ablate(network, {"conv": [3]}, "zero", **options):
            record(network, "conv")
    model, refused = pf.load("mini-nmda-a10"), pytest.raises(ValueError, match="dims must be None")
    with refused, pf.ablate(model, {"ffn.1": [3]}, "zero", dims=dims):
        pass


@pytest.mark.parametrize("network", [Steps(), Flat()])
def test_resampling_draws_anew_at_every_walk_and_step(network):
    intact = record(network, "cell")
    with pf.ablate(network, {"cell": [1]}, "resample", reference=intact):
        drawn = [record(network, "cell", batch=batch).activation[..., 1] for batch in (4, 1)]
    assert np.isin(drawn[0], intact.activation[..., 1]).all()
    assert len(np.unique(drawn[0])) > WALKS * STEPS / 3
    np.testing.assert_array_equal(*drawn)  # whatever runs together


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_layer_that_is_never_called_is_refused():
    network = Direct()
    refused = pytest.raises(ValueError, match="'a' was never called")
    with refused, pf.ablate(network, {"a": [0]}, "zero"):
        network(torch.ones(1, 2))
    with pf.ablate(network, {"a": [0]}, "zero"):
        pass  # nothing ran
    traced = torch.jit.trace(nn.Sequential(nn.Linear(2, 4)), torch.ones(1, 2))
    with pytest.raises(ValueError, match="scripted"), pf.ablate(traced, {"0": [0]}, "zero"):
        pass
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_layer_that_is_called_once_a_step_is_lesioned_in_every_pass():
    network, x = Steps(), torch.from_numpy(VELOCITY)
    intact, mask = record(network, "cell"), np.arange(STEPS) % 3 == 0
    place = np.arange(WALKS * STEPS).reshape(WALKS, STEPS) % 4
    reference = intact.assign_coords(x=(("walk", "time"), place))
    at_place = {"reference": reference, "position": {"x": place}}
    at_steps = {"dims": ("walk", "unit"), "steps": mask}
    for how, options in (("position", at_place), ("zero", at_steps)):
        with pf.perturb(network, {"cell": [1]}, how, **options), torch.no_grad():
            first, second = network(x), network(x)
            along = record(network, "cell").activation
        torch.testing.assert_close(second, first)
        np.testing.assert_allclose(along, first, rtol=1e-6)
    assert ((first[..., 1] == 0).numpy() == mask).all()


class Packed(nn.Module):
    """A recurrent layer on walks of unequal length, sorted by the user or by PyTorch."""

    def __init__(self, presorted=False):
        super().__init__()
        self.rnn, self.presorted = nn.GRU(2, 6, batch_first=True), presorted

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, True, enforce_sorted=self.presorted)
        return pad_packed_sequence(self.rnn(packed)[0], True)[0]


@pytest.mark.parametrize("presorted", [False, True])
@pytest.mark.parametrize("layer", ["rnn", "rnn[0]"])
def test_walks_of_unequal_length_are_lesioned_as_one_by_one(presorted, layer):
    network, lengths = Packed(presorted), torch.tensor([5, 8, 3, 5, 5, 8, 1])
    lengths = lengths.sort(descending=True).values if presorted else lengths
    x = torch.randn(len(lengths), 8, 2)
    mask = np.random.default_rng(0).random((len(lengths), 8)) < 0.5
    reference = record(nn.GRU(2, 6, batch_first=True), "GRU[0]")
    reference = reference.assign_coords(layer=("unit", [layer] * 6))
    for how, options in (
        ("zero", {}),
        ("gain", {"dose": 0.5, "steps": mask}),
        ("resample", {"reference": reference.isel(walk=[0], time=[0])}),
    ):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.filterwarnings("ignore", "reference was recorded from another network")
            with pf.perturb(network, {layer: [1, 4]}, how, **options):
                got = network(x, lengths)
            for walk, n in enumerate(lengths):
                one = options | ({"steps": mask[[walk], :n]} if "steps" in options else {})
                with pf.perturb(network, {layer: [1, 4]}, how, **one):
                    alone = network(x[[walk], :n], lengths[[walk]])
                torch.testing.assert_close(got[walk, :n], alone[0])
                assert not got[walk, n:].any()
    rnn, inputs = network.rnn, pack_padded_sequence(x, lengths, True, enforce_sorted=presorted)
    with torch.no_grad(), pf.ablate(rnn, {"GRU": [1, 4]}, "zero"):
        alone = rnn(inputs)[0].data
    with torch.no_grad():
        want = rnn(inputs)[0].data * torch.tensor([1, 0, 1, 1, 0, 1])
    torch.testing.assert_close(alone, want)


class Shared(nn.Module):
    """One layer that is called twice, and one that has two names."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.second = nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4)
        self.alias = self.second

    def forward(self, x):
        return self.act(self.alias(self.act(self.first(x))))


@pytest.mark.parametrize("network", [Channels(), Flat()])
def test_places_of_a_part_are_those_of_its_walks(network):
    layer = "conv" if isinstance(network, Channels) else "cell"
    grid = {k: RNG.integers(0, 3, (WALKS, STEPS)) for k in ("x", "y")}

    def run(**options):
        inputs = {"velocity": VELOCITY}
        return pf.record(network, grid, layers=layer, inputs=inputs, progress=False, **options)

    intact = run()
    at = {k: intact[k] for k in ("y", "x")}
    want = pf.rate_maps(intact).rate[3].sel(**at).values
    for position in (None, grid):
        with pf.ablate(network, {layer: [3]}, "position", reference=intact, position=position):
            for batch in (4, 3, 1):
                got = run(batch=batch).activation[..., 3]
                np.testing.assert_allclose(got, want, rtol=1e-5)


def test_outputs_are_named_by_their_path():
    network = nn.LSTM(2, 5, batch_first=True)
    intact = record(network, "LSTM[0]")
    for units in (["LSTM[0]/1"], intact.isel(unit=[1]), intact.unit == "LSTM[0]/1"):
        with pf.ablate(network, units, "zero"):
            lesioned = record(network, "LSTM[0]")
        assert not lesioned.activation[..., 1].any()
    refused = pytest.raises(ValueError, match=r"'LSTM\[7\]' must be one of the outputs of 'LSTM'")
    with refused, pf.ablate(network, {"LSTM[7]": [1]}, "zero"):
        network(torch.from_numpy(VELOCITY))


def test_a_reference_of_another_network_is_warned_of():
    network, other = nn.Sequential(nn.Linear(2, 6)), nn.Sequential(nn.Linear(2, 6))
    with (
        pytest.warns(UserWarning, match="reference was recorded from another network"),
        pf.ablate(network, {"0": [2]}, reference=record(other, "0")),
    ):
        pass


def test_what_modules_share_is_refused_as_in_a_recording():
    network = Shared()
    with pytest.raises(ValueError, match="modules that share it cannot be distinguished"):
        record(network, "act")
    for run in (lambda: network(torch.from_numpy(VELOCITY)), lambda: record(network, "second")):
        refused = pytest.raises(ValueError, match="'act' was called 2 times in one forward pass")
        with refused, pf.ablate(network, {"act": [0]}, "zero"):
            run()
    with pf.ablate(network, {"first": [0]}, "zero"):  # calls in several passes are no fault
        for _ in range(3):
            network(torch.from_numpy(VELOCITY))
        record(network, "first", batch=1)


def test_a_module_of_two_names_may_be_called_by_either():
    network = Shared()
    recordings = {}
    for name in ("second", "alias"):
        with pf.ablate(network, record(network, name).isel(unit=[2]), "zero"):
            recordings[name] = record(network, name)
        assert not recordings[name].activation[..., 2].any()
    np.testing.assert_array_equal(*(r.activation for r in recordings.values()))


def test_a_compiled_network_that_has_run_is_lesioned():
    network = nn.Sequential(nn.Linear(2, 6), nn.ReLU())
    compiled, x = torch.compile(network, backend="eager"), torch.ones(3, 2)
    intact = compiled(x)
    for target in (network, compiled):
        with pf.ablate(target, {"1": [0, 1, 2, 3, 4, 5]}, "zero"):
            assert not compiled(x).any()
    torch.testing.assert_close(compiled(x), intact)


def test_a_reference_that_lacks_a_unit_is_refused():
    network = nn.Sequential(nn.Linear(2, 6))
    part = record(network, "0", units={"0": [0, 2]})
    for units in ([3], slice(None)):
        with (
            pytest.raises(ValueError, match="lacks"),
            pf.ablate(network, {"0": units}, reference=part),
        ):
            pass
    with pf.ablate(network, {"0": [2]}, reference=part):
        assert float(record(network, "0").activation[..., 2].std()) < 1e-6


def test_a_mask_must_be_as_long_as_the_layer():
    network = nn.Sequential(nn.Linear(2, 6))
    mask = np.array([False, True])
    for reference, message in (
        (None, "needs the layer's width"),
        (record(network, "0"), "6 entri"),
    ):
        refused = pytest.raises(ValueError, match=message)
        with refused, pf.ablate(network, {"0": mask}, "zero", reference=reference):
            pass


def test_a_recording_names_the_lesions_of_any_network():
    network = nn.Sequential(nn.Linear(2, 6), nn.Tanh())
    intact = record(network, "1")

    def lesions(**options):
        with pf.ablate(network, {"1": [2]}, **options):
            steps = read_provenance(record(network, "1"))["steps"]
        return steps[-1]["network"]["lesions"]

    zero, mean = lesions(how="zero"), lesions(reference=intact)
    assert (zero[0]["layer"], zero[0]["units"], zero[0]["how"]) == ("1", [2], "zero")
    other = lesions(reference=intact.isel(walk=[0]))
    assert mean != other  # another mean
    assert lesions(how="resample", reference=intact) != lesions(
        how="resample", reference=intact, seed=1
    )


def test_contexts_may_be_left_in_any_order():
    network = nn.Sequential(nn.Linear(2, 6), pf.NMDA(10.0))
    x = torch.ones(3, 2)
    intact = network(x)
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        contexts = [
            pf.magnesium(network, alpha=5.0),
            pf.ablate(network, {"1": [0]}, "zero"),
            pf.magnesium(network, alpha=1.0),
        ]
        for context in contexts:
            context.__enter__()
        for i in order:
            contexts[i].__exit__(None, None, None)
        assert network[1].alpha == 10.0
        torch.testing.assert_close(network(x), intact, rtol=0, atol=0)


def test_a_network_in_use_is_refused_to_other_threads():
    network = nn.Sequential(nn.Linear(2, 6), pf.NMDA(10.0))
    errors = []

    def elsewhere(use):
        def run():
            try:
                use()
            except BlockingIOError as error:
                errors.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    uses = [
        lambda: record(network, "1"),
        lambda: pf.magnesium(network, alpha=0).__enter__(),
        lambda: pf.ablate(network, {"1": [0]}, "zero").__enter__(),
    ]
    with pf.magnesium(network, alpha=1.0):
        for use in uses:
            elsewhere(use)
    assert len(errors) == len(uses) and all("another thread" in error for error in errors)
    elsewhere(uses[0])  # free again
    assert len(errors) == len(uses)


def test_axes_that_agree_by_chance_are_refused():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.Linear(2, STEPS)

        def forward(self, x):
            return self.pool(x.mean(1))

    with pytest.raises(ValueError, match="'pool' were read as"):
        record(Pooled(), "pool")
    with pytest.raises(ValueError, match="do not follow each other"):
        record(Flat(time_first=True), "cell")
    want = Flat()
    with torch.no_grad():
        values = want(torch.from_numpy(VELOCITY)).view(WALKS, STEPS, -1)
    np.testing.assert_allclose(record(want, "cell").activation, values, rtol=1e-6)


def test_channels_are_not_steps_where_there_are_as_many_as_walks():
    network = nn.Sequential(Channels(), nn.ReLU())
    network[0].conv = nn.Conv1d(2, WALKS, 3, padding=1)
    axes = {"dims": ("walk", "unit", "time")}
    with pytest.raises(ValueError, match="dims"), pf.ablate(network, {"1": [2]}, "zero"):
        record(network, "1", **axes)
    with pf.ablate(network, {"1": [2]}, "zero", **axes):
        silent = ~(record(network, "1", **axes).activation != 0).any(("walk", "time"))
    assert silent[2]


def test_axes_without_the_walks_are_refused():
    network = nn.Sequential(nn.Linear(2, 5))
    refused = pytest.raises(ValueError, match=r"dims must name the axis of '0' .*\(batch, time")
    with refused, pf.ablate(network, {"0": [2]}, "zero", dims=("batch", "time", "unit")):
        record(network, "0")


def test_resampling_draws_no_padding():
    network = nn.Sequential(nn.Linear(2, 5))
    reference = record(network, "0").copy(deep=True)
    reference.activation[1, 3:] = np.nan  # a shorter walk
    with torch.no_grad(), pf.ablate(network, {"0": [2]}, "resample", reference=reference):
        drawn = network(torch.from_numpy(VELOCITY))[..., 2]
    assert np.isin(drawn, reference.activation[..., 2]).all()
    reference.activation[::2, :, 0] = reference.activation[1::2, :, 1] = np.nan
    with pytest.raises(ValueError, match='reference must hold samples .* how="resample"'):
        pf.ablate(network, {"0": [2]}, "resample", reference=reference).__enter__()


def test_places_on_a_line_need_no_second_axis():
    network = nn.Sequential(nn.Linear(2, 5))
    line = {"x": np.tile(np.arange(STEPS) // 2, (WALKS, 1))}
    options = {"layers": "0", "inputs": {"velocity": VELOCITY}, "progress": False}
    intact = pf.record(network, line, **options)
    with pf.ablate(network, {"0": [2]}, "position", reference=intact):
        got = pf.record(network, line, **options).activation[..., 2]
    want = intact.activation[..., 2].values.reshape(WALKS, -1, 2).mean((0, 2))
    np.testing.assert_allclose(got, np.tile(want.repeat(2), (WALKS, 1)), rtol=1e-5)
    curve = pf.ablation_curve(
        network, "variance", layers="0", reference=intact, fractions=[0, 0.2], repeats=2,
        controls=["random"], scores=lambda _: 0.0, n_resamples=10, progress=False,
    )  # fmt: skip
    eta2 = pf.position_variance_explained(intact, by=("x",))
    np.testing.assert_allclose(curve.order_score, eta2)
    refused = pytest.raises(ValueError, match="rename the axis of place to x")
    with refused, pf.ablate(network, {"0": [2]}, "position", reference=intact.rename(x="linear")):
        pass


def test_a_layer_that_works_in_place_is_lesioned_in_its_input_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.act = nn.Linear(2, 5), nn.ReLU(inplace=True)

        def forward(self, x):
            hidden = self.linear(x)
            self.act(hidden)
            return hidden

    network = Net()
    with torch.no_grad():
        intact = network(torch.from_numpy(VELOCITY))
        with pf.ablate(network, {"act": [1, 3]}, "zero"):
            lesioned = network(torch.from_numpy(VELOCITY))
    want = intact * torch.tensor([1, 0, 1, 0, 1])
    torch.testing.assert_close(lesioned, want, rtol=0, atol=0)
    x = torch.from_numpy(VELOCITY)
    with pf.ablate(network.requires_grad_(), {"act": [1, 3]}, "zero"):
        lesioned = network(x)  # the same where gradients are computed
        lesioned.sum().backward()
    torch.testing.assert_close(lesioned.detach(), want, rtol=0, atol=0)
    alive = (intact > 0) & (want > 0)
    expected = torch.einsum("wtu,wti->ui", alive.float(), x.reshape(*alive.shape[:2], -1))
    torch.testing.assert_close(network.linear.weight.grad, expected)
    with pf.ablate(network, {"act": [1]}, "zero"), pf.perturb(network, {"act": [3]}, "gain", 0):
        torch.testing.assert_close(network(x).detach(), want, rtol=0, atol=0)
    torch.testing.assert_close(network(x).detach(), intact, rtol=0, atol=0)


def test_an_activation_after_a_convolution_is_refused_without_the_names_of_its_axes():
    network = nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, 3, 1))
    x, seen = torch.randn(5, 2, 40), []
    with pytest.raises(ValueError, match="reference must be a Recording of '1'"):  # noqa: SIM117
        with pf.ablate(network, {"1": [0]}, "zero"):
            network(x)
    with pf.ablate(network, {"1": [0]}, "zero", dims=("walk", "unit", "time")):
        network[1].register_forward_hook(lambda module, args, output: seen.append(output))
        network(x)
    assert (seen[0][:, 0] == 0).all() and (seen[0][:, 1:] != 0).any(dim=(0, 2)).all()


@pytest.mark.parametrize("shape", [(50, 2), (5, 10, 2)])
def test_a_layer_that_modules_share_is_refused_for_samples_and_for_walks(shape):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.act = nn.Linear(2, 4), nn.Linear(4, 4), nn.ReLU()

        def forward(self, x):
            return self.act(self.b(self.act(self.a(x))))

    network = Shared()
    refused = pytest.raises(ValueError, match="'act' was called 2 times in one forward pass")
    with refused, pf.ablate(network, {"act": [0]}, "zero"):
        network(torch.randn(shape))


def test_what_layers_of_images_share_is_refused():
    class Images(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.act(self.conv(self.act(x)))

    network, dims = Images(), ("sample", "unit", "row", "column")
    refused = pytest.raises(ValueError, match="'act' was called 2 times")
    with refused, pf.ablate(network, {"act": [1]}, "zero", dims=dims):
        network(torch.zeros(7, 3, 4, 4))
    with torch.no_grad(), pf.ablate(network, {"conv": range(16)}, "zero", dims=dims):
        for _ in range(2):  # two passes
            assert not network(torch.ones(7, 3, 4, 4))[:, 0].any()


def test_a_curve_takes_one_of_several_outputs_of_a_layer():
    network, velocity = nn.GRU(2, 6, batch_first=True), torch.from_numpy(VELOCITY)
    curve = pf.ablation_curve(
        network, "activity", layers="GRU[0]", reference=record(network, "GRU[0]"), how="zero",
        fractions=[0, 0.5, 1], repeats=2, controls=["random"], n_resamples=10, progress=False,
        scores=lambda net: -float(net(velocity)[0].abs().sum()),
    )  # fmt: skip
    cost = curve.score.sel(selection="ordered").squeeze("measure").isel(repeat=0)
    assert cost.dims == ("fraction",) and (np.diff(cost) > 0).all()
    assert cost[-1] == 0  # nothing is left


def test_a_table_of_place_cells_says_which_of_its_units_are_meant():
    network, velocity = nn.Sequential(nn.Linear(2, 4)), torch.from_numpy(VELOCITY)
    recording = record(network, "0")
    table = recording.drop_vars("activation").assign(is_place_cell=("unit", [True, False] * 2))
    refused = pytest.raises(ValueError, match=r"pass table.is_place_cell .* table.unit for all")
    with refused, pf.ablate(network, table, "zero"):
        pass
    chosen = table.isel(unit=table.is_place_cell.values)
    for units, lesioned in ((table.is_place_cell, 2), (table.unit, 4), (chosen, 2)):
        with torch.no_grad(), pf.ablate(network, units, "zero"):
            silent = ~network(velocity).any(0).any(0)
        assert silent.sum() == lesioned and silent[0]
