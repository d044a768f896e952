"""Scripts of the zoo, imported from their files."""

import importlib.util
from pathlib import Path

ZOO = Path(__file__).parents[2] / "zoo"


def script(name):
    spec = importlib.util.spec_from_file_location(name, ZOO / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
