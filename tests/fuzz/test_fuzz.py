"""Random damage and random inputs: clear errors only, no hangs, nothing lost, no other numbers.

Every test prints its counts (``pytest -s``). The usual suite runs a small sample of each kind; the
whole of it is marked slow.
"""

import copy
import json
import os
import random
import signal
import string
import subprocess
import sys
import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import networks
from helpers.recipes import RECIPE, assert_bit_equal, recipe, weights

import placeformer as pf
from placeformer.models.grid_world import GridWorld
from placeformer.models.transformer import ModelConfig, NavigationTransformer
from placeformer.training.recipe import Recipe, read_recipes
from placeformer.training.trainer import CHECKPOINT, train
from placeformer.zoo import files
from placeformer.zoo import folder as hub
from placeformer.zoo.folder import FolderError

RESULTS = {"working_error": {"value": 0.0125, "definition": "share of wrong predictions"}}
SECONDS = 60  # that one case may take, on a machine with other work


def sizes(few, many):
    """A small sample for the usual suite, and a large one that is slow."""
    return pytest.mark.parametrize("n", [few, pytest.param(many, marks=pytest.mark.slow)])


def network():
    config = ModelConfig(4, 6, 2, 2, 3, 5, 3, 4, 3, 0.1, "nmda", 0.3)
    return networks.randomised(NavigationTransformer(config, GridWorld(3, 4, 2, 7)).eval())


@pytest.fixture
def folder(tmp_path):
    hub.save(network(), tmp_path / "net", results=RESULTS, history=[{"step": 1}])
    return tmp_path / "net"


def judged(counts, attempt, allowed, about):
    """Count how an attempt ends; anything but success and an allowed error with text fails."""
    start = time.perf_counter()
    try:
        value = attempt()
    except allowed as error:
        assert str(error), f"{about}: an error without a text"
        counts["refused"] += 1
        value = None
    except Exception as error:
        pytest.fail(f"{about}: {type(error).__name__}: {error}")
    else:
        counts["accepted"] += 1
    assert time.perf_counter() - start < SECONDS, f"{about}: slow"
    return value


def mutated_bytes(rng, content):
    """Flip, cut, insert, repeat or replace bytes."""
    content, place = bytearray(content), rng.randrange(max(1, len(content)))
    kind = rng.choice(["flip", "cut", "insert", "repeat", "replace", "digit"])
    if kind == "flip" and content:
        content[place] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "insert":
        content[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif kind == "repeat":
        content[place:place] = content[place : place + rng.randrange(1, 99)]
    elif kind == "replace":
        content[place : place + 4] = rng.choice(
            [b"1e99", b"null", b"[[[[", b"\xff\xfe\0\0", b"-0.0"]
        )
    else:
        digits = [i for i, byte in enumerate(content) if chr(byte) in string.digits]
        if digits:
            content[rng.choice(digits)] = ord(rng.choice(string.digits))
    return bytes(content)


def odd_value(rng):
    """What nobody should pass."""
    return rng.choice(
        [
            None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -0.0, 0.5, 1e308, float("nan"),
            float("inf"), "", "x", "10", "\0", "../../x", "é" * 300, [], {}, [1], [[0, 1]],
            {"a": 1}, (1, 2), b"x", "nmda-a10", 1 + 2j,
        ]
    )  # fmt: skip


@sizes(60, 6_000)
def test_mutated_folders_are_refused_or_the_same(folder, n):
    """With checksums written anew half of the time, as whoever means harm can."""
    rng, counts = random.Random(n), Counter()
    whole = {f.name: f.read_bytes() for f in folder.iterdir()}
    expected = hub.read(folder)
    for _ in range(n):
        name = rng.choice(sorted(whole))
        (folder / name).write_bytes(mutated_bytes(rng, whole[name]))
        changed = (folder / name).read_bytes() != whole[name]
        lie = rng.random() < 0.5
        if lie:
            hub.write_sums(folder)
        found = judged(counts, lambda: hub.read(folder), FolderError, name)
        if found is not None and changed and name != files.SUMS:
            assert lie, f"{name}: a change was not noticed"
            assert_bit_equal(found.state_dict(), expected.state_dict())
            assert found.config == expected.config
        for file, content in whole.items():
            (folder / file).write_bytes(content)
    print(f"mutated folders: {dict(counts)}")
    assert counts["refused"] > n / 2


@sizes(40, 2_000)
def test_odd_values_in_configurations_are_refused(folder, n):
    rng, counts = random.Random(n), Counter()
    whole = json.loads((folder / "config.json").read_text())
    for _ in range(n):
        entries, value = copy.deepcopy(whole), odd_value(rng)
        section = rng.choice(["network", "world", "weights", "results"])
        key = rng.choice(list(entries[section]))
        entries[section][key] = value
        (folder / "config.json").write_text(json.dumps(entries, default=str))
        hub.write_sums(folder)
        judged(counts, lambda: hub.read(folder), FolderError, f"{section}.{key} = {value!r}")
    print(f"odd values in config.json: {dict(counts)}")
    assert counts["refused"] > n / 2


@sizes(100, 5_000)
def test_mutated_recipes_are_refused_or_read(tmp_path, n):
    rng, counts, file = random.Random(n), Counter(), tmp_path / "r.toml"
    whole = Recipe.from_dict(RECIPE).to_toml().encode()
    for _ in range(n):
        file.write_bytes(mutated_bytes(rng, whole))
        judged(counts, lambda: read_recipes(file), ValueError, file.read_bytes()[:2000])
    print(f"mutated recipes: {dict(counts)}")


@sizes(150, 2_000)
def test_odd_values_in_recipes_are_refused_by_name(n):
    rng, counts = random.Random(n), Counter()
    for _ in range(n):
        entries, value = copy.deepcopy(RECIPE), odd_value(rng)
        table = rng.choice([entries, entries["world"], entries["network"], entries["training"]])
        key = rng.choice(list(table))
        table[key] = value
        judged(counts, lambda e=entries: Recipe.from_dict(e), ValueError, f"{key} = {value!r}")
    print(f"odd values in recipes: {dict(counts)}")
    assert counts["refused"] > n / 2


@pytest.fixture(scope="module")
def recording():
    return pf.record(network(), n_walks=2, n_steps=48, progress=False)


CALLS = {
    "rate_maps": (pf.rate_maps, ["bins", "by", "min_occupancy"]),
    "stability": (pf.stability, ["bins", "min_occupancy"]),
    "shuffle_test": (pf.shuffle_test, ["bins", "n_shuffles", "seed"]),
    "similarity": (lambda r, **options: pf.similarity(r, r, **options), ["method"]),
    "record": (
        lambda r, **options: pf.record(network(), n_walks=2, n_steps=8, **options),
        ["layers", "units", "seed", "maps", "burn_in", "batch", "dtype"],
    ),
    "memory_errors": (
        lambda r, **options: pf.memory_errors(network(), **{"n_walks": 2, "n_steps": 8} | options),
        ["where", "maps", "seed"],
    ),
}


@sizes(40, 2_000)
def test_odd_arguments_give_clear_errors(recording, n):
    rng, counts = random.Random(n), Counter()
    for _ in range(n):
        name = rng.choice(sorted(CALLS))
        call, keys = CALLS[name]
        key, value = rng.choice(keys), odd_value(rng)
        if isinstance(value, int) and value > 1000:
            continue  # more than the memory holds, which is up to the caller

        def attempt(call=call, key=key, value=value):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return call(recording, **{key: value})

        clear = (ValueError, TypeError)
        judged(counts, attempt, clear, f"{name}({key}={value!r})")
    print(f"odd arguments: {dict(counts)}")


@sizes(30, 400)
def test_mutated_rate_maps_are_refused_or_right(recording, n):
    rng, counts = random.Random(n), Counter()
    maps = pf.rate_maps(recording)
    right = pf.spatial_information(maps)
    for _ in range(n):
        name = rng.choice(["x_edges", "y_edges", "x", "y", "occupancy", "rate"])
        values = maps[name].values.copy()
        kind = rng.choice(["drop", "reverse", "nan", "text", "zero", "complex"])
        if kind == "drop":
            changed = maps.drop_vars(name)
        else:
            new = {
                "reverse": values[::-1], "nan": np.full_like(values, np.nan, float),
                "text": values.astype(str), "zero": values * 0, "complex": values + 0j,
            }[kind]  # fmt: skip
            changed = maps.assign({name: (maps[name].dims, new)})

        def attempt(changed=changed):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return pf.spatial_information(changed)

        found = judged(counts, attempt, (ValueError, TypeError), f"{kind} {name}")
        if found is not None and name not in ("occupancy", "rate"):
            xr.testing.assert_allclose(found, right)
    print(f"mutated rate maps: {dict(counts)}")


KILLED = """
import json, sys
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import train
train(Recipe.from_dict(json.loads(sys.argv[1])), sys.argv[2], progress=False)
"""


@pytest.mark.slow
def test_training_that_is_killed_at_random_loses_nothing(tmp_path):
    rng, kills = random.Random(0), 0
    expected = weights(train(recipe(), tmp_path / "whole", progress=False))
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", KILLED, json.dumps(RECIPE), str(tmp_path / "run")]
    for _ in range(12):
        process = subprocess.Popen(command, env=environment)
        deadline = time.time() + 120
        while process.poll() is None and not (tmp_path / "run" / CHECKPOINT).exists():
            assert time.time() < deadline
            time.sleep(0.01)
        time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert_bit_equal(weights(train(recipe(), tmp_path / "run", progress=False)), expected)
    left = [f.name for f in (tmp_path / "run").iterdir() if f.name.endswith(".tmp")]
    print(f"kills: {kills}, partial folders left: {len(left)}")


@sizes(12, 300)
def test_a_lying_hub_gives_no_other_network(local_hub, n, tmp_path):
    rng, counts = random.Random(n), Counter()
    hub.save(network(), tmp_path / "net", dtype="float32", results=RESULTS, history=[{"step": 1}])
    expected = pf.load(tmp_path / "net")
    pf.push(expected, "alice/net")
    for i in range(n):
        name = rng.choice(["/" + file for file in files.FILES if file != files.CURVE] + ["/api/"])
        lie = rng.choice(["body", "status", "header", "cut"])
        repository = local_hub.repositories["alice/net"]
        content = repository.commits[repository.branches["main"]]["files"]
        body = mutated_bytes(rng, content.get(name[1:], json.dumps({"id": "alice/net"}).encode()))
        answer = {
            "body": {"body": body},
            "status": {"status": rng.choice([403, 404, 410])},
            "header": {},
            "cut": {"body": body[: len(body) // 2]},
        }[lie]

        def fault(method, path, name=name, answer=answer):
            return answer if name in path else None

        local_hub.fault = fault
        evil = rng.choice(["../../../evil", "/evil", "a" * 64, ""])
        local_hub.headers = lambda path, e=evil, lie=lie: {"ETag": e} if lie == "header" else {}
        cache = tmp_path / f"cache{i}"
        found = judged(
            counts, lambda c=cache: pf.load("alice/net", cache_dir=c), ValueError, f"{lie} {name}"
        )
        if found is not None:
            assert_bit_equal(found.state_dict(), expected.state_dict())
            assert found.info["results"] == expected.info["results"]
        outside = [f for f in cache.rglob("*") if not f.resolve().is_relative_to(cache)]
        assert not outside and not (tmp_path / "evil").exists()
    print(f"lies of a hub: {dict(counts)}")
