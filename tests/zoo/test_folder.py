"""One folder in, one folder out: exact round trips, and every kind of damage refused by name."""

import dataclasses
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import networks
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import placeformer as pf
from placeformer.models.activation import OTHERS
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.zoo import files
from placeformer.zoo import folder as hub
from placeformer.zoo.config import parse
from placeformer.zoo.folder import FolderError, read, save
from placeformer.zoo.weights import MAPS, shapes

CONFIG = ModelConfig(
    n_letters=4,
    d_model=6,
    n_layers=2,
    n_heads=2,
    d_head=3,
    d_inner=5,
    d_rnn=3,
    chunk=4,
    memory=3,
    dropout=0.1,
    activation="nmda",
    alpha=0.1 + 0.2,
)
RESULTS = {"working_error": {"value": 0.0125, "definition": "share of wrong predictions"}}


def network(config=CONFIG, seed=0, world=True):
    grid = GridWorld(3, config.n_letters, 2, 7) if world else None
    model = NavigationTransformer(config, grid)
    return networks.randomised(model, seed)


@pytest.fixture
def folder(tmp_path):
    save(network(), tmp_path / "net", results=RESULTS)
    return tmp_path / "net"


def edit_config(folder, change):
    entries = json.loads((folder / "config.json").read_text())
    change(entries)
    (folder / "config.json").write_text(json.dumps(entries))
    hub.write_sums(folder)


def rehash(folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    edit_config(folder, lambda c: c["weights"].update(sha256=digest))


def edit_weights(folder, change, metadata=None):
    """Rewrite the weight file after `change`, with a sha256 that fits."""
    file = folder / "model.safetensors"
    with safe_open(file, "pt") as stream:
        metadata = stream.metadata() if metadata is None else metadata
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(tensors)
    save_file(tensors, file, metadata)
    rehash(folder)


def refused(folder, *parts):
    with pytest.raises(FolderError) as caught:
        read(folder)
    for part in (str(folder), *parts):
        assert part in str(caught.value)
    return str(caught.value)


# Round trips


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_round_trip_is_bit_equal(tmp_path, dtype):
    model = network()
    save(model, tmp_path / "net", dtype=dtype)
    loaded = read(tmp_path / "net")
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        expected = weight.to(getattr(torch, dtype)).float()
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], expected), name
    save(loaded, tmp_path / "again", dtype=dtype)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "net" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_loaded_network_predicts_the_same_in_eval_mode(tmp_path):
    model = network().train()
    save(model, tmp_path / "net", dtype="float32")
    assert model.training
    loaded = read(tmp_path / "net")
    assert not any(module.training for module in loaded.modules())
    walk = model.world.walk(2, 9, seed=1)
    action, seen = (torch.from_numpy(walk[k].values) for k in ("action", "observation"))
    assert torch.equal(loaded(action, seen)[0], model.eval()(action, seen)[0])


def test_world_comes_back_with_the_stored_maps(tmp_path):
    model = network()
    model.world.maps = (3 - model.world.maps).astype(np.uint8)  # not those of its seed
    save(model, tmp_path / "net")
    world = read(tmp_path / "net").world
    assert repr(world) == repr(model.world)
    for ours, theirs in (
        (world.maps, model.world.maps),
        (world.novel_maps, model.world.novel_maps),
    ):
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, theirs)
    world.maps[0, 0] = 0  # may be written to


def test_network_without_a_world(tmp_path):
    save(network(world=False), tmp_path / "net")
    assert read(tmp_path / "net").world is None
    assert json.loads((tmp_path / "net" / "config.json").read_text())["world"] is None


@pytest.mark.parametrize("activation", sorted(OTHERS))
def test_other_activations(tmp_path, activation):
    config = dataclasses.replace(CONFIG, activation=activation, alpha=None)
    save(network(config), tmp_path / "net")
    assert read(tmp_path / "net").config == config


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(0, allow_infinity=False, allow_nan=False))
def test_alpha_is_preserved_exactly(tmp_path_factory, alpha):
    where = tmp_path_factory.mktemp("alpha") / "net"
    save(network(dataclasses.replace(CONFIG, alpha=alpha)), where)
    loaded = read(where)
    assert loaded.config.alpha == loaded.info["alpha"] == alpha
    assert loaded.layers[1].ffn.activation.alpha == alpha


def test_whole_number_alpha_becomes_a_float(tmp_path):
    save(network(dataclasses.replace(CONFIG, alpha=10)), tmp_path / "net")
    assert repr(read(tmp_path / "net").config.alpha) == "10.0"


def test_info_says_what_it_is(folder):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    model = read(folder)
    assert model.info == {
        "name": "net",
        "source": str(folder),
        "folder": str(folder),
        "alpha": CONFIG.alpha,
        "parameters": sum(w.numel() for w in model.parameters()),
        "sha256": digest,
        "dtype": "float16",
        "results": {"working_error": 0.0125},
        "definitions": {"working_error": "share of wrong predictions"},
    }


def test_random_state_is_left_as_found(folder):
    before = torch.get_rng_state()
    read(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_files_are_written(tmp_path):
    (tmp_path / "r.toml").write_text('name = "net"\n')
    rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    save(network(), tmp_path / "net", history=rows, recipe=tmp_path / "r.toml", results=RESULTS)
    net = tmp_path / "net"
    assert sorted(f.name for f in net.iterdir()) == sorted(set(files.FILES) - {files.CURVE})
    assert (net / "history.csv").read_text() == "step,loss\n1,0.5\n2,0.25\n"
    assert tomllib.loads((net / "recipe.toml").read_text()) == {"name": "net"}
    card = (net / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: placeformer\nlicense: mit\npipeline_tag: ")
    assert "| working_error | 0.0125 | share of wrong predictions |" in card
    save(network(), tmp_path / "copy", history=net / "history.csv", card="mine")
    assert (tmp_path / "copy" / "history.csv").read_text() == "step,loss\n1,0.5\n2,0.25\n"
    assert (tmp_path / "copy" / "README.md").read_text() == "mine"
    read(tmp_path / "copy")
    (tmp_path / "bom.toml").write_text('name = "net"\n', encoding="utf-8-sig")
    save(network(), tmp_path / "marked", recipe=tmp_path / "bom.toml")
    assert (tmp_path / "marked" / "recipe.toml").read_bytes() == b'name = "net"\n'


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 8),
    letters=st.integers(2, 6),
    world=st.one_of(st.none(), st.tuples(st.integers(2, 4), st.integers(1, 3))),
)
def test_shapes_are_those_of_the_network(sizes, letters, world):
    half, *rest = sizes
    config = ModelConfig(letters, 2 * half, *rest, dropout=0.0, activation="gelu", alpha=None)
    expected = {k: tuple(v.shape) for k, v in NavigationTransformer(config).state_dict().items()}
    entries = world and {"side": world[0], "n_letters": letters, "n_maps": world[1], "seed": 0}
    if world:
        expected |= dict.fromkeys(MAPS, GridWorld(**entries).maps.shape)
    assert shapes(config, entries) == expected


def test_walls_that_close_places_off_are_refused(folder):
    def wall_off(entries):
        entries["world"]["walls"] = [[0, 1], [0, 3]]

    edit_config(folder, wall_off)
    with safe_open(folder / "model.safetensors", "pt") as stream:
        facts = json.loads(stream.metadata()["placeformer"])
    facts["world.walls"] = [[0, 1], [0, 3]]
    edit_weights(folder, lambda tensors: None, {"placeformer": json.dumps(facts)})
    refused(folder, "world: walls must leave every place reachable")


# Damage to the configuration


def rename(section, old, new):
    return lambda c: c[section].update({new: c[section].pop(old)})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (rename("network", "alpha", "aplha"), ['unknown key "aplha"', "did you mean alpha?"]),
        (rename("network", "alpha", "aplha"), ['network: missing key "alpha"']),
        (lambda c: c["network"].pop("d_head"), ['network: missing key "d_head"']),
        (lambda c: c["network"].update(colour=1), ['network: unknown key "colour"']),
        (rename("world", "n_maps", "maps"), ['"maps"', "did you mean n_maps?"]),
        (lambda c: c.pop("network"), ['missing key "network"']),
        (lambda c: c.pop("world"), ['missing key "world"']),
        (lambda c: c.pop("format_version"), ['missing key "format_version"']),
        (lambda c: c.update(netwrok={}), ['"netwrok"', "did you mean network?"]),
        (lambda c: c.update(format_version=2), ["format_version: expected 1, got 2"]),
        (lambda c: c.update(format_version=True), ["format_version: expected 1, got True"]),
        (lambda c: c.update(library="timm"), ["library: expected 'placeformer', got 'timm'"]),
        (lambda c: c.update(network=[1]), ["network: expected an object, got [1]"]),
        (lambda c: c["network"].update(d_model="6"), ["network.d_model: expected a whole number"]),
        (lambda c: c["network"].update(d_model=6.0), ["network.d_model", "got 6.0"]),
        (lambda c: c["network"].update(n_heads=True), ["network.n_heads", "got True"]),
        (lambda c: c["network"].update(alpha="0.3"), ["network.alpha: expected a number or null"]),
        (lambda c: c["network"].update(alpha=None), ["alpha must be given for nmda"]),
        (lambda c: c["network"].update(alpha=-1), ["alpha must be a finite number", "-1"]),
        (lambda c: c["network"].update(alpha=10**400), ["network: int too large"]),
        (lambda c: c["network"].update(alpha=0.5), ["network.alpha: expected 0.3", "got 0.5"]),
        (lambda c: c["network"].update(dropout=1.5), ["dropout must be in [0, 1)"]),
        (lambda c: c["network"].update(activation="swish"), ["activation must be one of"]),
        (lambda c: c["network"].update(d_model=7), ["d_model must be even"]),
        (lambda c: c["network"].update(d_inner=0), ["d_inner must be a whole number ≥ 1"]),
        (
            lambda c: c["network"].update(chunk=3, memory=4),
            ["network.chunk: expected 4", "got 3"],
        ),
        (lambda c: c["world"].update(n_letters=5), ["world.n_letters: expected 4", "got 5"]),
        (lambda c: c["world"].update(seed=8), ["world.seed: expected 7", "got 8"]),
        (lambda c: c["world"].update(side=10**4000), ["world.side: expected a whole number of"]),
        (lambda c: c["world"].update(seed="7"), ["world.seed: expected a whole number"]),
        (lambda c: c["world"].update(side=-3), ["world.side: expected 3", "got -3"]),
        (lambda c: c["world"].update(shape=[3, 3]), ['world: unknown key "side"']),
        (lambda c: c["world"].update(shape=c["world"].pop("side")), ["world.shape: expected two"]),
        (rename("world", "side", "sides"), ['"sides"', "did you mean side?"]),
        (lambda c: c["world"].update(walls=[[0, 1, 2]]), ["world.walls: expected a list of pairs"]),
        (
            lambda c: c["world"].update(walls=[[0, 1]]),
            ["world.walls: expected 'nothing'", "got [[0"],
        ),
        (lambda c: c.update(world=None), ["world.maps: expected no such tensor"]),
        (lambda c: c["weights"].update(file="../w"), ["weights.file: expected model.safetensors"]),
        (lambda c: c["weights"].update(sha256="0"), ["weights.sha256: expected 64 digits"]),
        (lambda c: c["weights"].update(dtype="float64"), ["weights.dtype", "float16 or float32"]),
        (lambda c: c["weights"].update(dtype="float32"), ["expected dtype F32, got F16"]),
        (lambda c: c.update(results=[]), ["results: expected an object"]),
        (
            lambda c: c["results"].update(x=1),
            ["results.x: expected an object with value and definition, got 1"],
        ),
        (lambda c: c["results"]["working_error"].pop("definition"), ["results.working_error"]),
    ],
)
def test_damaged_config_is_refused_by_name(folder, change, parts):
    edit_config(folder, change)
    refused(folder, *parts)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[1]", "expected an object, got [1]"),
        ('{"library": 1, "library": 2}', 'the key "library" occurs 2 times'),
        ('{"network": {"alpha": 1, "alpha": 2}}', 'the key "alpha" occurs 2 times'),
        ('{"library": NaN}', "NaN is not JSON"),
        ('{"library": -Infinity}', "-Infinity is not JSON"),
        ("[" * 100_000, "expected JSON"),
        (" " * (2**20 + 1), "bytes, more than"),
        ("9" * 10_000, "expected JSON"),
        ("\udcff", "utf-8"),
    ],
)
def test_broken_json_is_refused(folder, text, part):
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    refused(folder, "config.json", part)


def test_duplicate_alpha_in_a_whole_config_is_refused(folder):
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"alpha":', '"alpha": 10.0, "alpha":'))
    refused(folder, 'config.json: expected JSON, got the key "alpha" occurs 2 times')


def test_parse_is_json_otherwise():
    assert parse('{"a": [1, 2.5, null], "b": {}}') == {"a": [1, 2.5, None], "b": {}}


def test_all_problems_are_in_one_error(folder):
    edit_config(folder, rename("network", "alpha", "aplha"))
    edit_config(folder, lambda c: c["world"].update(side="x"))
    (folder / "model.safetensors").unlink()
    text = refused(folder, '"aplha"', "world.side", "model.safetensors: the file is missing")
    assert text.count("\n  - ") == 4


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    refused(folder, f"{file}: the file is missing")
    (folder / file).mkdir()
    refused(folder, file)


def test_no_folder(tmp_path):
    with pytest.raises(FolderError, match=r"folder must be a folder with config\.json"):
        read(tmp_path / "none")


@pytest.mark.parametrize(
    "sizes",
    [
        {"d_model": 10**9},
        {"d_model": 10**30},
        {"n_layers": 10**9},
        {"n_layers": 10**12, "d_inner": 10**12},
        {"d_rnn": 10**9, "chunk": 10**12},
        {"n_letters": 10**9},
        {"d_inner": 2**63 - 1},  # PyTorch refuses it with another error than the next one
        {"chunk": 2**63 - 1, "memory": 2**63 - 1},
    ],
)
def test_giant_network_is_refused_before_memory_is_taken(folder, sizes, monkeypatch):
    monkeypatch.setattr(hub, "NavigationTransformer", None)
    monkeypatch.setattr(hub, "GridWorld", None)
    edit_config(folder, lambda c: c["network"].update(sizes))
    refused(folder, "expected", "got")


def test_giant_world_is_refused_before_memory_is_taken(folder):
    edit_config(folder, lambda c: c["world"].update(side=10**9))
    refused(folder, "world.maps: expected shape (2, 1000000000000000000), got (2, 9)")


def test_world_that_cannot_be_is_refused(folder):
    """Config and weight file agree, so only the world itself can object."""
    with safe_open(folder / "model.safetensors", "pt") as stream:
        facts = json.loads(stream.metadata()["placeformer"])
    metadata = {"placeformer": json.dumps(facts | {"world.side": -3})}
    edit_weights(folder, lambda t: None, metadata)
    edit_config(folder, lambda c: c["world"].update(side=-3))
    refused(folder, "world: side must be a whole number ≥ 2, got -3")


# Checksums of all files


@pytest.fixture
def whole(tmp_path):
    """A folder with every text file."""
    (tmp_path / "r.toml").write_text('name = "net"\n')
    options = {"history": [{"step": 1}], "recipe": tmp_path / "r.toml", "results": RESULTS}
    save(network(), tmp_path / "net", **options)
    return tmp_path / "net"


def test_checksums_are_those_of_sha256sum(whole):
    lines = (whole / "SHA256SUMS").read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    assert listed.keys() == {f.name for f in whole.iterdir()} - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert digest == hashlib.sha256((whole / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.json", "0.0125", "0.0725"),
        ("config.json", "share of wrong", "share of right"),
        ("README.md", "0.0125", "0.0025"),
        ("history.csv", "1", "2"),
        ("recipe.toml", "net", "ten"),
    ],
)
def test_a_changed_figure_is_refused_like_a_changed_weight(whole, tmp_path, name, old, new):
    model = read(whole)
    (whole / name).write_text((whole / name).read_text().replace(old, new))
    refused(whole, f"{name}: expected sha256", "(SHA256SUMS)", "the file was altered")
    with pytest.raises(FolderError, match="cannot be saved with the files of"):
        save(model, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    hub.write_sums(whole)  # as the message says
    read(whole)


def test_a_file_that_is_missing_or_unlisted_is_refused(whole):
    (whole / "curve.png").write_bytes(b"picture")
    refused(whole, "curve.png: expected a line in SHA256SUMS, got none for it")
    (whole / "curve.png").unlink()
    (whole / "notes.txt").write_text("mine")  # no file of a network
    read(whole)
    (whole / "README.md").unlink()
    refused(whole, "README.md: the file is missing")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "SHA256SUMS: the file is missing; if no file was altered, run `sha256sum"),
        (b"", "config.json: expected a line in SHA256SUMS"),
        (b"0\n", "SHA256SUMS: expected a sha256 and a file in each line, got '0'"),
        (b"\xff", "SHA256SUMS: expected a sha256 and a file in each line, got"),
        (b" " * 70_000, "SHA256SUMS: expected at most 65,536 bytes, got 70,000"),
    ],
)
def test_checksums_that_are_none_are_refused(whole, text, part):
    (whole / "SHA256SUMS").unlink()
    if text is not None:
        (whole / "SHA256SUMS").write_bytes(text)
    refused(whole, part)


# Files that are none


@pytest.mark.parametrize("name", files.FILES)
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda f, secret: f.symlink_to(secret), "a link to"),
        (lambda f, secret: f.symlink_to("/dev/zero"), "a link to '/dev/zero'"),
        (lambda f, secret: os.mkfifo(f), "a named pipe"),
        (lambda f, secret: f.mkdir(), "a folder"),
    ],
)
def test_what_is_no_regular_file_is_refused_by_name(whole, tmp_path, name, make, what):
    """A link would make its reader save or push a file of his own; a pipe is never at its end."""
    model, before = read(whole), (tmp_path / "secret").write_text("TOPSECRET")
    (whole / name).unlink(missing_ok=True)
    make(whole / name, tmp_path / "secret")
    refused(whole, f"{name}: expected a regular file, got {what}")
    for target, overwrite in ((tmp_path / "copy", False), (whole, True)):
        if target == whole or name not in ("config.json", "model.safetensors"):
            with pytest.raises(FolderError, match=f"{name}: expected a regular file, got"):
                save(model, target, overwrite=overwrite)
    assert before and (tmp_path / "secret").read_text() == "TOPSECRET"
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("name", files.FILES)
def test_a_giant_of_a_file_is_not_read(whole, name):
    with open(whole / name, "ab") as stream:
        stream.truncate(2**40)  # sparse: it takes no space
    refused(whole, f"{name}: expected a", f"got {2**40:,}")


def test_a_tensor_that_is_named_twice_is_refused(folder):
    """The safetensors library takes the last one."""
    content = (folder / "model.safetensors").read_bytes()
    n = int.from_bytes(content[:8], "little")
    entry = json.dumps(json.loads(content[8 : 8 + n])["norm.bias"])
    header = content[8 : 8 + n].rstrip()[:-1] + f',"norm.bias":{entry}}}'.encode()
    header += b" " * (-len(header) % 8)
    whole = len(header).to_bytes(8, "little") + header + content[8 + n :]
    (folder / "model.safetensors").write_bytes(whole)
    rehash(folder)
    refused(folder, 'the key "norm.bias" occurs 2 times')


# Damage to the weights


def set_value(name, value):
    return lambda t: t[name].view(-1)[:1].fill_(value)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda t: t.pop("norm.bias"), ["norm.bias: expected shape (6,), got no tensor"]),
        (lambda t: t.pop("world.maps"), ["world.maps: expected shape (2, 9), got no tensor"]),
        (lambda t: t.update(extra=torch.zeros(1)), ["extra: expected no such tensor"]),
        (
            lambda t: t.update({"read_out.wieght": t.pop("read_out.weight")}),
            ["read_out.wieght", "did you mean read_out.weight?", "read_out.weight: expected"],
        ),
        (
            lambda t: t.update({"place.bias": torch.zeros(4).half()}),
            ["place.bias: expected shape (3,), got (4,)"],
        ),
        (
            lambda t: t.update({"path.weight": t["path.weight"].transpose(0, 1).contiguous()}),
            ["path.weight: expected shape (5, 3, 3), got (3, 5, 3)"],
        ),
        (
            lambda t: t.update({"norm.bias": t["norm.bias"].float()}),
            ["norm.bias: expected dtype F16, got F32"],
        ),
        (
            lambda t: t.update({"world.maps": t["world.maps"].long()}),
            ["world.maps: expected dtype U8, got I64"],
        ),
        (set_value("norm.weight", math.nan), ["norm.weight: expected finite", "NaN or infinity"]),
        (set_value("letter.weight", -math.inf), ["letter.weight: expected finite"]),
        (set_value("world.maps", 4), ["world.maps: expected letters 0–3, got 0–4"]),
        (set_value("world.novel_maps", 255), ["world.novel_maps: expected letters 0–3"]),
    ],
)
def test_damaged_tensors_are_refused_by_name(folder, change, parts):
    edit_weights(folder, change)
    refused(folder, "model.safetensors: ", *parts)


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {"placeformer": "{"}, {"placeformer": "3"}])
def test_weights_without_their_settings_are_refused(folder, metadata):
    edit_weights(folder, lambda t: None, metadata)
    refused(folder, "expected the network's settings in its header, got none")


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
@pytest.mark.parametrize("matching", [False, True])
def test_truncated_weights_are_refused(folder, keep, matching):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    if matching:
        rehash(folder)
    refused(folder, "model.safetensors: expected a whole safetensors file")


def test_pickled_weights_are_refused(folder):
    torch.save({"a": torch.zeros(2)}, folder / "model.safetensors")
    rehash(folder)
    refused(folder, "model.safetensors: expected a whole safetensors file")


def test_weights_of_another_network_are_refused(folder, tmp_path):
    save(network(seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    refused(folder, "model.safetensors: expected sha256", "(config.json), got")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_refused(tmp_path_factory, data):
    where = tmp_path_factory.getbasetemp() / "flipped"
    if not where.exists():
        save(network(), where)
    file = where / "model.safetensors"
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    try:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
        refused(where, "model.safetensors: ")
    finally:
        file.write_bytes(whole)
    read(where)


def test_pin_is_held_against_the_file(folder):
    pin = hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    assert read(folder, pin=pin).info == read(folder).info
    with pytest.raises(FolderError, match=f"expected sha256 {'0' * 64} .the pin of the zoo."):
        read(folder, pin="0" * 64)


# Saving


def test_used_folder_is_refused_and_kept(folder):
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(FolderError, match="overwrite=True"):
        save(network(seed=1), folder)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


def test_of_two_that_save_to_a_new_folder_at_once_one_is_refused(tmp_path):
    target = tmp_path / "net"
    with (
        pytest.raises(FolderError, match="overwrite=True"),
        hub.new_folder(target, overwrite=False) as new,
    ):
        save(network(), target)
        (new / "config.json").write_text("other")
    assert read(target).config == CONFIG
    assert os.listdir(tmp_path) == ["net"]


def test_overwrite_replaces_the_network_and_keeps_the_rest(folder):
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("keep")
    (folder / "history.csv").write_text("of the old one")
    save(network(seed=1), folder, overwrite=True, dtype="float32")
    assert torch.equal(read(folder).norm.weight, network(seed=1).norm.weight)
    assert (folder / "notes" / "mine.txt").read_text() == "keep"
    assert not (folder / "history.csv").exists()
    assert os.listdir(folder.parent) == ["net"]


def test_empty_folder_and_missing_parents_are_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    save(network(), tmp_path / "empty")
    save(network(), tmp_path / "a" / "b" / "net")
    read(tmp_path / "empty")
    read(tmp_path / "a" / "b" / "net")


def test_symlink_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    save(network(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    read(tmp_path / "real")


def test_file_in_the_way(tmp_path):
    (tmp_path / "net").write_text("")
    with pytest.raises(FolderError, match="folder must be a folder, got the file"):
        save(network(), tmp_path / "net")


def test_unwritable_place_is_said_before_work_starts(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(hub, "pack", None)
    with pytest.raises(FolderError, match="must be a place where files can be written"):
        save(network(), tmp_path / "file" / "net")


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [0, 1, 2])
def test_save_that_fails_leaves_the_old_folder(folder, monkeypatch, error, written):
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    write, calls = Path.write_bytes, []

    def failing(file, content):
        if len(calls) == written:
            write(file, content[:10])
            raise error
        calls.append(file)
        return write(file, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises((FolderError, KeyboardInterrupt)):
        save(network(seed=1), folder, overwrite=True)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    assert os.listdir(folder.parent) == ["net"]


def test_rename_that_fails_puts_the_old_folder_back(folder, monkeypatch):
    rename = os.rename

    def failing(source, target):
        if ".tmp" in str(source):
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(FolderError):
        save(network(seed=1), folder, overwrite=True)
    read(folder)
    assert os.listdir(folder.parent) == ["net"]


@pytest.mark.slow
def test_killed_save_leaves_the_old_folder(folder):
    code = (
        "import os, signal, sys; from pathlib import Path;"
        "from placeformer.zoo import folder as hub;"
        "model = hub.read(sys.argv[1]); write = Path.write_bytes;"
        "Path.write_bytes = lambda f, c: (write(f, c), os.kill(os.getpid(), signal.SIGKILL));"
        "hub.save(model, sys.argv[1], overwrite=True)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=False)
    assert done.returncode == -9
    assert read(folder).info["results"] == {"working_error": 0.0125}
    assert len(os.listdir(folder.parent)) == 2
    save(network(), folder, overwrite=True)  # removes what the killed process left
    assert os.listdir(folder.parent) == ["net"]


@pytest.mark.parametrize(
    ("value", "dtype", "part"),
    [
        (
            1e5,
            "float16",
            'expected at most 65504 (float16), got 100000; save it with dtype="float32"',
        ),
        (math.nan, "float16", "expected finite weights, got NaN or infinity"),
        (math.inf, "float32", "expected finite weights, got NaN or infinity"),
    ],
)
def test_weights_that_are_not_finite_are_not_saved(tmp_path, value, dtype, part):
    model = network()
    with torch.no_grad():
        model.layers[1].ffn.fc1.weight[0, 0] = value
    with pytest.raises(FolderError) as caught:
        save(model, tmp_path / "net", dtype=dtype)
    assert f"layers.1.ffn.fc1.weight: {part}" in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_largest_float16_is_saved(tmp_path):
    model = network()
    with torch.no_grad():
        model.norm.bias[0] = 65504
    save(model, tmp_path / "net")
    assert read(tmp_path / "net").norm.bias[0] == 65504


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            lambda net: setattr(net.layers[0].ffn, "activation", torch.nn.ReLU()),
            "layers.0.ffn.activation: expected NMDA",
        ),
        (
            lambda net: setattr(net.layers[1].ffn.dropout, "p", 0.9),
            "layers.1.ffn.dropout: expected Dropout(p=0.1",
        ),
        (
            lambda net: net.layers[0].ffn.units.register_forward_hook(lambda *args: args[-1] * 0),
            "layers.0.ffn.units: expected the hooks",
        ),
    ],
)
def test_a_network_that_is_computed_otherwise_is_not_saved_as_the_one_of_its_config(
    tmp_path, change, part
):
    model = network()
    change(model)
    with pytest.raises(FolderError) as caught:
        save(model, tmp_path / "other")
    assert part in str(caught.value)
    assert not (tmp_path / "other").exists()


def test_a_lesioned_network_is_not_saved_as_the_intact_one(tmp_path):
    model = network()
    lesion = {"ffn.1": [0]}
    changes = (
        pf.ablate(model, lesion, "zero"),
        pf.perturb(model, "layers.0.ffn.fc1.weight", "gain", 0.5),
    )
    for change in changes:
        with change, pytest.raises(FolderError, match="leave its block"):
            save(model, tmp_path / "lesioned")
    save(model, tmp_path / "intact")


def test_network_that_left_its_config_is_not_saved(tmp_path):
    model = network()
    model.layers[1].ffn.activation.alpha = 5.0
    with pytest.raises(
        FolderError, match=r"layers.1.ffn.activation: expected NMDA.alpha=0.3.*alpha=5"
    ):
        save(model, tmp_path / "net")
    model = network()
    model.norm = torch.nn.LayerNorm(8)
    with pytest.raises(FolderError, match=r"norm.weight: expected shape \(6,\), got \(8,\)"):
        save(model, tmp_path / "net")
    model = network()
    model.world.maps = model.world.maps + 4
    with pytest.raises(FolderError, match=r"world\.maps: expected letters 0–3"):
        save(model, tmp_path / "net")


@pytest.mark.parametrize(
    ("options", "error", "part"),
    [
        ({"dtype": "float64"}, ValueError, "dtype must be"),
        ({"history": []}, FolderError, "history: expected rows"),
        ({"history": "no/such.csv"}, FolderError, "history: expected a text file"),
        ({"history": [{"step": 1}, {"loss": 1}]}, FolderError, "history: expected the columns"),
        ({"history": iter([{"step": 1}])}, FolderError, "history: expected a list of rows"),
        ({"history": pd.DataFrame({"step": [1]})}, FolderError, "(?s)history: .* to_dict"),
        ({"recipe": {"name": "x"}}, FolderError, "recipe: expected the path of a TOML file"),
        ({"card": b"text"}, FolderError, "card: expected the text of the model card"),
        ({"recipe": "no/such.toml"}, FolderError, "recipe: expected a text file"),
        ({"recipe": __file__}, FolderError, "recipe: expected TOML"),
        (
            {"results": {"x": 1}},
            FolderError,
            "results.x: expected an object with value and definition",
        ),
        (
            {"results": {"x": {"value": math.nan, "definition": ""}}},
            FolderError,
            "results.x.value: expected a finite number",
        ),
        (
            {"results": {"x": {"value": 10**400, "definition": ""}}},
            FolderError,
            "results.x.value: expected a finite number",
        ),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, part):
    with pytest.raises(error, match=part):
        save(network(), tmp_path / "net", **options)
    assert os.listdir(tmp_path) == []


def test_networks_that_are_not_registered_are_not_saved(tmp_path):
    with pytest.raises(TypeError, match="or of a registered class, got Linear; write a class of"):
        save(torch.nn.Linear(2, 2), tmp_path / "net")
    with pytest.raises(TypeError, match="got NoneType; pass a torch.nn.Module"):
        save(None, tmp_path / "net")


def header_of(folder):
    content = (folder / "model.safetensors").read_bytes()
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def test_other_libraries_know_the_weights_as_pytorchs(folder, tmp_path):
    with safe_open(folder / "model.safetensors", "pt") as stream:
        assert stream.metadata().keys() == {"format", "placeformer"}
        assert stream.metadata()["format"] == "pt"
    assert len(header_of(folder)) % 8 == 0
    save(network(), tmp_path / "again", results=RESULTS)
    ours, again = ((f / "model.safetensors").read_bytes() for f in (folder, tmp_path / "again"))
    assert ours == again


def test_a_network_of_the_zoo_keeps_its_bytes(tmp_path):
    model = pf.load("mini-nmda-a10")  # its file is older than the tag "format"
    save(model, tmp_path / "copy")
    ours, theirs = Path(model.info["folder"]), tmp_path / "copy"
    assert b'"format"' not in header_of(ours)
    for file in ours.iterdir():
        assert file.read_bytes() == (theirs / file.name).read_bytes(), file.name
