"""States come back as they were, and no damage to their file goes unnoticed."""

import numpy as np
import pytest
import torch

from placeformer._state_files import DamagedFileError, copied, load_state, save_state

STATE = {
    "step": 3,
    "rate": 0.1 + 0.2,
    "name": "a",
    "nothing": None,
    "pair": (True, [torch.arange(3), torch.zeros(0, 4)]),
    "moments": {0: {"step": torch.tensor(2.0)}, 5: torch.ones(2, 3, dtype=torch.bfloat16).T},
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "state", STATE)
    assert same(load_state(tmp_path / "state"), STATE)
    assert same(load_state(tmp_path / "state", "cpu"), STATE)
    copy = copied(STATE)
    copy["pair"][1][0][0] = 9
    assert same(load_state(tmp_path / "state"), STATE)


def test_a_flipped_bit_is_noticed(tmp_path):
    file = tmp_path / "state"
    save_state(file, STATE)
    whole, rng, noticed = file.read_bytes(), np.random.default_rng(0), 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            assert same(load_state(file), STATE)
        except DamagedFileError:
            noticed += 1
    assert noticed > 0.95 * len(whole)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04.", b"{}", b"\0" * 100])
def test_what_is_no_state_is_refused(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(DamagedFileError):
        load_state(tmp_path / "state")


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(TypeError, match="got set"):
        save_state(tmp_path / "state", {"a": {1}})
    assert not list(tmp_path.iterdir())
