"""Folders that networks are saved to: the current one, home, and networks of other precision."""

import os

import pytest
import torch

import placeformer as pf


@pytest.fixture
def model():
    return pf.load("mini-nmda-a10")


def test_the_current_folder_stays_the_current_folder(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pf.save(model, ".")
    assert "config.json" in os.listdir(".")
    pf.save(model, ".", overwrite=True)
    assert pf.load("./").info["alpha"] == 10


def test_home_is_found(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pf.save(model, "~/net")
    assert pf.load("~/net").info["name"] == "net"
    assert (tmp_path / "net" / "config.json").is_file()


def test_tied_weights_are_stored_and_double_ones_are_not_rounded_silently(model, tmp_path):
    model.layers[1].ffn.fc1.weight = model.layers[0].ffn.fc1.weight
    pf.save(model, tmp_path / "tied", dtype="float32")
    tied = pf.load(tmp_path / "tied")
    assert torch.equal(tied.layers[1].ffn.fc1.weight, tied.layers[0].ffn.fc1.weight)
    double = model.double()
    with torch.no_grad():
        double.norm.bias += 1e-12
    with pytest.raises(ValueError, match="would round"):
        pf.save(double, tmp_path / "double", dtype="exact")


def test_files_and_addresses_are_no_repositories(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pf.save(model, "net")
    with pytest.raises(ValueError, match="folder must be a folder"):
        pf.load("net/config.json")
    with pytest.raises(ValueError, match="org/name"):
        pf.load("https://huggingface.co/alice/net")
