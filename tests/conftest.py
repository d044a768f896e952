"""A model hub on 127.0.0.1 for all tests: the hub's client reads where it is at its import."""

import atexit
import os
import shutil
import tempfile

import pytest
from helpers.local_hub import LocalHub
from hypothesis import HealthCheck, settings

# No test asserts how fast it runs: the first example of a process also imports what it needs.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_HUB = LocalHub({"hf_alice": "alice", "hf_bob": "bob"})
for _key in [key for key in os.environ if key.startswith(("HF_", "HUGGING_FACE", "HUGGINGFACE"))]:
    del os.environ[_key]
_HOME = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
_SWITCHES = ("XET", "TELEMETRY", "PROGRESS_BARS", "UPDATE_CHECK", "SHARED_BLOBS")
os.environ |= {f"HF_HUB_DISABLE_{switch}": "1" for switch in _SWITCHES}
os.environ |= {"HF_ENDPOINT": _HUB.url, "HF_HOME": _HOME, "NO_PROXY": "127.0.0.1,localhost"}


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    """The hub, empty, with an empty cache; Alice is logged in."""
    from huggingface_hub import constants

    assert _HUB.url == constants.ENDPOINT, "the client was imported too early"
    _HUB.reset()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    return _HUB


@pytest.fixture
def float64():
    """Networks and tensors in double precision."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
