"""What running alone can tell; the layers stand in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

import placeformer as pf

PACKAGE = Path(pf.__file__).parent
TORCH_FREE = ("data", "stats", "spatial", "population", "plot")


def loaded_after(*modules):
    """Top-level modules that a fresh interpreter has loaded after some imports."""
    code = "\n".join([*(f"import {name}" for name in modules), "import sys; print(*sys.modules)"])
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in out.stdout.split()}


def test_the_package_itself_loads_nothing_heavy():
    assert not loaded_after("placeformer") & {"torch", "matplotlib", "numpy", "xarray"}


def test_analyses_run_without_torch():
    modules = [
        ".".join(("placeformer", *path.relative_to(PACKAGE).with_suffix("").parts))
        for folder in TORCH_FREE
        for path in (PACKAGE / folder).glob("*.py")
    ]
    assert "torch" not in loaded_after(*modules)


@pytest.mark.parametrize("name", pf.__all__)
def test_public_names_resolve(name):
    assert getattr(pf, name) is not None


def test_unknown_names_are_refused_with_the_nearest_one():
    out = subprocess.run(
        [sys.executable, "-c", "import placeformer as pf; pf.rate_map"],
        capture_output=True,
        text=True,
    )
    assert out.stderr.strip().endswith(
        "module 'placeformer' has no attribute 'rate_map'. Did you mean: 'rate_maps'?"
    )
