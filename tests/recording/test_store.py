"""Zarr stores: the same recording, gone on with after a kill, and refused to any other."""

import contextlib
import errno
import os
import runpy
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

pytest.importorskip("zarr")
pytest.importorskip("dask")

from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.recording import store as streams
from placeformer.recording.record import record
from placeformer.recording.store import Point, load_point, resume_file, save_point

RNG = np.random.default_rng(0)
WALKS = {"x": RNG.random((5, 60)), "y": RNG.random((5, 60))}
INPUTS = {"velocity": RNG.standard_normal((5, 60, 2)).astype(np.float32)}
CONFIG = ModelConfig(10, 16, 2, 2, 8, 12, 8, 4, 4, 0.1, "nmda", 2.0)


class Noisy(nn.Module):
    """A recurrent network with noise, which depends on the random state as well as on its own."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(2, 6, batch_first=True)

    def forward(self, x, state=None):
        out, state = self.rnn(x, state)
        return out, state + 0.1 * torch.randn_like(state)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Noisy()


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 steps of two walks."""
    monkeypatch.setattr(streams, "BLOCK", 10 * 2 * 6 * 4)


class Killed(BaseException):
    """Stands for a kill: nobody catches it."""


def carry(module, batch, state):
    return module(torch.from_numpy(batch["velocity"].values), state)[1]


class Counted:
    """A forward that notes its calls, and is killed in the one after a limit."""

    def __init__(self, calls, limit=None):
        self._calls, self._limit = calls, limit  # private: no data of what it computes

    def __call__(self, module, batch, state):
        if len(self._calls) == self._limit:
            raise Killed
        self._calls.append(batch.time.values[0])
        return carry(module, batch, state)


def killed_after(n):
    """A forward that is killed in its n-th call."""
    return Counted([], n)


def run(net, **settings):
    options = {"layers": "rnn[0]", "inputs": INPUTS, "forward": carry, "chunk": 7, "batch": 2}
    return record(net, WALKS, **({"progress": False} | options | settings))


def test_a_store_holds_what_memory_would(net, small_blocks, tmp_path):
    for burn_in in (0, 3, 17, 59):
        path = tmp_path / f"{burn_in}.zarr"
        want, got = run(net, burn_in=burn_in), run(net, burn_in=burn_in, store=path)
        assert got.activation.chunks is not None
        assert not resume_file(path).exists()
        xr.testing.assert_identical(got.load(), want)
        assert got.unit.values.tolist() == [f"rnn[0]/{i}" for i in range(6)]
        with xr.open_zarr(path) as raw:
            np.testing.assert_array_equal(
                raw.sel(unit="rnn[0]/4").activation, want.activation[..., 4]
            )
            np.testing.assert_array_equal(raw.activation, want.activation)


def test_behaviour_lies_in_the_chunks_of_the_activations(net, small_blocks, tmp_path):
    run(net, store=tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr") as raw:
        assert raw.chunks["time"] == (10,) * 6
        for name in ("x", "y", "activation"):
            assert raw[name].variable.chunks[:2] == ((2, 2, 1), (10,) * 6), name


PROBES = 1
"""Short runs after the first part, which confirm the axes that were inferred."""


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4, 7, 11, 18, 27])
def test_a_killed_recording_is_gone_on_with(net, small_blocks, tmp_path, calls):
    path = tmp_path / "a.zarr"
    want = run(net, burn_in=3, forward=Counted([]))
    with pytest.raises(Killed):
        run(net, burn_in=3, store=path, forward=killed_after(calls))
    if calls > PROBES:
        point = load_point(path)
        with xr.open_zarr(path) as raw:
            stored = raw.activation.values
        done = np.isfinite(stored).all(-1)
        assert done[: point.walk].all()
        assert done[point.walk : point.walk + 2].sum(1).tolist() == [point.stored] * len(
            done[point.walk : point.walk + 2]
        )
        np.testing.assert_array_equal(stored[done], want.activation.values[done])
    runs = []
    got = run(net, burn_in=3, store=path, forward=Counted(runs))
    xr.testing.assert_identical(got.load(), want)
    parts = 27 - max(0, calls - PROBES - 3)  # what is stored is not run again
    assert len(runs) <= parts + PROBES * (calls <= PROBES)
    again = []
    xr.testing.assert_identical(run(net, burn_in=3, store=path, forward=Counted(again)), got)
    assert not again


def test_a_state_that_is_changed_in_place_is_saved_as_it_was(net, small_blocks, tmp_path):
    def in_place(n):
        calls = iter(range(n))

        def forward(module, batch, state):
            if next(calls, None) is None:
                raise Killed
            state = state or {"h": torch.zeros(1, batch.sizes["walk"], 6)}
            state["h"].copy_(carry(module, batch, state["h"].clone()))
            return state

        return forward

    path, want = tmp_path / "a.zarr", run(net, forward=in_place(100))
    with pytest.raises(Killed):
        run(net, store=path, forward=in_place(5))
    xr.testing.assert_identical(run(net, store=path, forward=in_place(100)).load(), want)


def navigator():
    return NavigationTransformer(CONFIG, GridWorld(4, 10, 3, seed=0)).init_weights(0).eval()


@pytest.mark.parametrize("layers", ["ffn.*", "content.attention.0"])
def test_a_navigation_transformer_streams_and_goes_on(monkeypatch, tmp_path, layers):
    model, path = navigator(), tmp_path / "a.zarr"
    options = {"n_walks": 3, "n_steps": 30, "progress": False, "layers": layers, "burn_in": 5}
    want = record(model, **options, batch=2)
    monkeypatch.setattr(streams, "BLOCK", 9 * 2 * 24 * 4)
    step, calls = model.forward_chunk, iter(range(13))

    def killed(*args):
        if next(calls, None) is None:
            raise Killed
        return step(*args)

    with monkeypatch.context() as patch:
        patch.setattr(NavigationTransformer, "forward_chunk", lambda self, *a: killed(*a))
        with pytest.raises(Killed):
            record(model, **options, batch=2, store=path)
    assert load_point(path).walk == 2
    xr.testing.assert_identical(record(model, **options, batch=2, store=path).load(), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "rnn[1]"}, r"layers is \['rnn\[0\]'\] there, \['rnn\[1\]'\] here"),
        ({"burn_in": 4}, "burn_in is 0 there, 4 here"),
        ({"dtype": "float16"}, "dtype is 'float32' there, 'float16' here"),
        ({"seed": 1, "batch": 3}, "seed is 0 there, 1 here; batch is 2 there, 3 here"),
        ({"units": {"rnn[0]": [1]}}, r"units.rnn\[0\] is None there, \[1\] here"),
        ({"inputs": {"velocity": INPUTS["velocity"] + 1}}, "walks_sha256 is '.*' there, '.*' here"),
    ],
)
def test_a_store_of_other_settings_is_refused_and_what_differs_is_said(
    net, tmp_path, change, message
):
    path = tmp_path / "a.zarr"
    for calls in (3, 100):
        with contextlib.suppress(Killed):
            run(net, store=path, forward=killed_after(calls))
        with pytest.raises(ValueError, match=message):
            run(net, store=path, **change)


def test_a_store_of_another_network_is_refused(net, tmp_path):
    path = tmp_path / "a.zarr"
    run(net, store=path)
    with torch.no_grad():
        net.rnn.weight_ih_l0[0, 0] += 1e-6
    with pytest.raises(ValueError, match=r"network\.weights_sha256 is '.*' there, '.*' here"):
        run(net, store=path)


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(net, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not a recording"):
        run(net, store=tmp_path)
    assert os.listdir(tmp_path) == ["note.txt"]


def test_a_full_disk_says_how_much_is_stored(net, small_blocks, tmp_path, monkeypatch):
    path, want = tmp_path / "a.zarr", run(net)
    write = streams.Stream.write
    blocks = iter(range(8))

    def full(self, *args):
        if next(blocks, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(streams.Stream, "write", full)
        with pytest.raises(
            OSError, match=r"No space left.* 160 of 300 samples are stored"
        ) as error:
            run(net, store=path)
    assert error.value.errno == errno.ENOSPC
    with xr.open_zarr(path) as raw:
        done = np.isfinite(raw.activation.values).all(-1)
        np.testing.assert_array_equal(raw.activation.values[done], want.activation.values[done])
    assert done.sum() == 160
    xr.testing.assert_identical(run(net, store=path).load(), want)


def test_a_block_that_cannot_be_written_leaves_a_store_to_go_on_with(net, small_blocks, tmp_path):
    resource = pytest.importorskip("resource")
    path, want, before = tmp_path / "a.zarr", run(net), resource.getrlimit(resource.RLIMIT_FSIZE)

    def forward(module, batch, state):
        if batch.time.values[0] > 40:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # smaller than a block
        return carry(module, batch, state)

    try:
        with pytest.raises(OSError, match=r"File too large\. 80 of 300 samples are stored"):
            run(net, store=path, forward=forward)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with xr.open_zarr(path) as raw:
        assert np.isfinite(raw.activation.values).all(-1).sum() == 80
    xr.testing.assert_equal(run(net, store=path).load(), want)


def test_nothing_is_left_of_a_store_that_could_not_be_made(net, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(streams, "save_point", full)
    with pytest.raises(OSError, match=r"No space left on device\. Nothing is stored yet.*a\.zarr"):
        run(net, store=tmp_path / "a.zarr")
    assert os.listdir(tmp_path) == []


def test_a_missing_extra_says_what_to_install(net, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"pip install 'placeformer\[zarr\]'"):
        run(net, store=tmp_path / "a.zarr")


SCRIPT = """
import sys, numpy as np, torch
from placeformer import record
from placeformer.recording import store as streams
streams.BLOCK = 2 * 10 * 6 * 4
torch.manual_seed(0)
net = torch.nn.GRU(2, 6, batch_first=True)
rng = np.random.default_rng(0)
def forward(module, batch, state):
    print("part", flush=True)
    if "wait" in sys.argv:
        sys.stdin.readline()
    return module(torch.from_numpy(batch.velocity.values), state)[1]
walks = {"x": rng.random((5, 60))}
inputs = {"velocity": rng.standard_normal((5, 60, 2)).astype("f4")}
recording = record(net, walks, layers="GRU[0]", inputs=inputs, forward=forward, chunk=7, batch=2,
                   store=sys.argv[1], progress=False)
"""


def test_a_process_killed_by_sigkill_is_gone_on_with(tmp_path, monkeypatch, capsys):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    store = tmp_path / "a.zarr"
    with subprocess.Popen(
        [sys.executable, script, store], stdout=subprocess.PIPE, text=True
    ) as process:
        for _ in range(14):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert resume_file(store).exists()
    monkeypatch.setattr(streams, "BLOCK", 2 * 10 * 6 * 4)
    found = []
    for path in (store, tmp_path / "b.zarr"):
        monkeypatch.setattr(sys, "argv", ["script.py", str(path)])
        found.append(runpy.run_path(script)["recording"].load())
        found.append(capsys.readouterr().out.count("part"))
    assert found[1] < found[3] == 27 + PROBES
    xr.testing.assert_identical(found[0], found[2])


@pytest.mark.parametrize("parts", [1, 14])
def test_two_processes_do_not_write_one_store(tmp_path, monkeypatch, parts):
    script, store = tmp_path / "script.py", tmp_path / "a.zarr"
    script.write_text(SCRIPT)
    monkeypatch.setattr(streams, "BLOCK", 2 * 10 * 6 * 4)

    def here(path):
        monkeypatch.setattr(sys, "argv", ["script.py", str(path)])
        return runpy.run_path(script)["recording"].load()

    command, pipe = [sys.executable, script, store, "wait"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        for part in range(parts):
            process.stdout.readline()
            if part < parts - 1:
                print(file=process.stdin, flush=True)
        assert store.exists() == (parts > 1)  # what the layers put out is not known before a part
        with pytest.raises(BlockingIOError, match=r"a\.zarr is being recorded by another process"):
            here(store)
        if store.exists():
            with xr.open_zarr(store) as raw:
                begun = raw.activation.values
        process.communicate()
    assert process.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "script.py"]
    whole = here(store)
    xr.testing.assert_identical(whole, here(tmp_path / "b.zarr"))
    if parts > 1:
        stored = np.isfinite(begun)
        assert 0 < stored.sum() < stored.size
        np.testing.assert_array_equal(begun[stored], whole.activation.values[stored])


def test_states_come_back_as_they_were(tmp_path):
    state = {
        "a": (torch.arange(3), [torch.zeros(2, 0), None, 1.5]),
        "b": torch.ones(2, 3, dtype=torch.bfloat16).T,
        "c": (),
    }
    (tmp_path / "activation").mkdir()
    save_point(tmp_path, Point(2, 7, 4, state))
    point = load_point(tmp_path)
    assert (point.walk, point.step, point.stored) == (2, 7, 4)
    assert repr(point.state) == repr(state)
    with pytest.raises(TypeError, match="must return a state of tensors.*got object"):
        save_point(tmp_path, Point(state=[object()]))


def test_a_flipped_bit_of_a_chunk_is_refused(net, tmp_path):
    """Compressors alone let half of such damage pass as other values."""
    path, rng = tmp_path / "a.zarr", np.random.default_rng(0)
    run(net, store=path)
    chunks = sorted(file for file in path.rglob("*") if "c" in file.parts and file.is_file())
    assert len(chunks) > 3
    for file in chunks:
        whole = file.read_bytes()
        for place in rng.integers(len(whole), size=5):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match="checksum"):
                xr.open_zarr(path).load()
        file.write_bytes(whole)
    xr.open_zarr(path).load()


def test_a_damaged_resume_point_is_named(net, tmp_path):
    path = tmp_path / "a.zarr"
    save_file = resume_file(path)
    save_file.parent.mkdir(parents=True)
    save_point(path, Point(2, 10, 5, torch.ones(3)))
    content = bytearray(save_file.read_bytes())
    content[-1] ^= 1
    save_file.write_bytes(content)
    with pytest.raises(ValueError, match=r"resume\.safetensors must be the point .* record again"):
        load_point(path)


class Stateful(nn.Module):
    """A recurrent network that keeps its state itself."""

    def __init__(self):
        super().__init__()
        self.rnn, self.state = nn.GRU(2, 6, batch_first=True), None

    def forward(self, x):
        out, self.state = self.rnn(x, self.state)
        return out


def test_a_state_that_the_network_keeps_is_that_of_its_walks_after_a_kill(small_blocks, tmp_path):
    torch.manual_seed(0)
    net, path, calls = Stateful(), tmp_path / "a.zarr", []

    def forward(module, batch, state):
        if len(calls) == 8:
            raise Killed
        calls.append(batch.time.values[0])
        module(torch.from_numpy(batch["velocity"].values))

    with pytest.raises(Killed):
        run(net, store=path, forward=forward)
    point = load_point(path)
    assert point.stored > 0  # in the middle of walks
    calls.clear()
    calls += [None] * 9
    got = run(net, store=path, forward=forward).load()
    with torch.no_grad():
        want = net.rnn(torch.from_numpy(INPUTS["velocity"]))[0]
    np.testing.assert_allclose(got.activation, want, atol=1e-6)
