"""The house: which room may import which, what stays free of torch, and what is public."""

import ast
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import placeformer as pf

PACKAGE = Path(pf.__file__).parent

PAGE = (PACKAGE.parents[1] / "docs" / "design.rst").read_text(encoding="utf-8")


def table(page):
    """Room -> the rooms it may import, as a row of the page on the design says."""
    rooms = {}
    for room, may in re.findall(r"^   \* - ``(\w+)``\n     - .*\n     - (.*)$", page, re.MULTILINE):
        above = set(rooms) if may.startswith("every room above") else set()
        rooms[room] = above | set(re.findall(r"``(\w+)``", may))
    return rooms


ROOMS = table(PAGE)
# The analysis half: labelled arrays in, labelled arrays out, no torch anywhere.
ANALYSIS = re.findall(r"``(\w+)``", re.search(r"The analysis half \(([^)]*)\)", PAGE)[1])

PUBLIC = {
    "__version__", "ablate", "ablation_curve", "alpha_to_mg", "border_score", "claim_verdicts",
    "coherence", "decode_map", "decode_position", "dimensionality", "dose_response",
    "equivalent_alpha", "equivalent_curve", "field_table", "fit_hill", "from_arrays", "from_nwb",
    "from_pynapple",
    "from_ratinabox", "grid_score", "GridWorld", "half_maps", "list_models", "load",
    "magnesium", "memory_comparison", "memory_errors", "mg_to_alpha", "ModelConfig",
    "mutual_information", "NavigationTransformer", "NMDA", "novel_working_memory",
    "paper_claims", "place_cell_score", "place_cells", "place_fields", "plot",
    "population_vector_correlation", "position_variance_explained", "profile_networks", "push",
    "rate_maps", "record", "recorded_score", "remapping", "save", "selectivity",
    "show_versions", "shuffle_test", "similarity", "sparsity", "spatial_information",
    "stability", "to_nwb", "to_pynapple", "train", "zoo_table",
}  # fmt: skip


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def runtime_nodes(node):
    """Every node below `node` that can run: all but the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            for alternative in child.orelse:
                yield alternative
                yield from runtime_nodes(alternative)
        else:
            yield child
            yield from runtime_nodes(child)


def imported_modules(source):
    """Absolute dotted names a module of placeformer imports, wherever in its text it does so."""
    for node in runtime_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(["placeformer"] * bool(node.level) + [node.module] * bool(node.module))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            name = node.args[0] if node.args else None
            dynamic = not (isinstance(name, ast.Constant) and isinstance(name.value, str))
            name = "placeformer.<dynamic>" if dynamic else name.value
            yield f"placeformer{name}" if name.startswith(".") else name


def imported_rooms(source):
    """The rooms among the imports; a name of the root package counts as the room behind it."""
    for name in imported_modules(source):
        top, _, rest = name.partition(".")
        if top == "placeformer" and rest != "__version__":
            room = rest.partition(".")[0]
            yield "plots" if room == "plot" else pf._EXPORTS.get(room, room or "__init__")


def arrows(sources):
    return {room: set(imported_rooms(source)) - {room} for room, source in sources.items()}


def unlisted(sources, rooms):
    return sorted(
        f"{room} -> {target}"
        for room, targets in arrows(sources).items()
        for target in targets - rooms.get(room, set())
    )


def check_acyclic(graph):
    TopologicalSorter(graph).prepare()


def package_sources():
    return {
        path.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."): path.read_text(
            encoding="utf-8"
        )
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"
    }


def loaded_after(imports, *, path=None):
    """The top-level modules loaded in a fresh interpreter once `imports` have been imported."""
    code = "\n".join([*(f"import {name}" for name in imports), "import sys", "print(*sys.modules)"])
    parts = [os.fspath(path or PACKAGE.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, parts))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_every_room_is_listed():
    assert set(package_sources()) == set(ROOMS)


def test_rooms_import_only_what_the_table_allows():
    assert unlisted(package_sources(), ROOMS) == []


def test_a_row_is_read_as_it_stands():
    row = "   * - ``{}``\n     - subject\n     - {}\n"
    page = row.format("a", "nothing") + row.format("b", "``a``, ``x``, when called")
    page += row.format("c", "every room above, and the public names (``__init__``)")
    assert table(page) == {"a": set(), "b": {"a", "x"}, "c": {"a", "b", "__init__"}}


def test_arrows_form_no_cycle():
    check_acyclic(arrows(package_sources()))
    check_acyclic({room: targets - {"__init__"} for room, targets in ROOMS.items()})


@pytest.mark.parametrize(
    "source",
    [
        "import placeformer.zoo",
        "import placeformer.zoo as z",
        "from placeformer.zoo import load",
        "from placeformer import zoo",
        "from placeformer import load",
        "from .zoo import load",
        "from . import zoo",
        "from . import load",
        "def f():\n    from placeformer.zoo import load",
        "class A:\n    def f(self):\n        if self:\n            import placeformer.zoo",
        "try:\n    from .zoo import load\nexcept ImportError:\n    pass",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from .zoo import load",
        "import importlib\nimportlib.import_module('placeformer.zoo')",
        "import importlib\nimportlib.import_module('.zoo', 'placeformer')",
    ],
)
def test_checker_sees_a_planted_import(source):
    assert unlisted({"schema": source}, ROOMS) == ["schema -> zoo"]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import placeformer as pf", "__init__"),
        ("from importlib import import_module\nimport_module(name)", "<dynamic>"),
        ("from placeformer import plot", "plots"),
        ("from placeformer import nonsense", "nonsense"),
    ],
)
def test_checker_sees_imports_that_hide_their_room(source, target):
    assert unlisted({"schema": source}, ROOMS) == [f"schema -> {target}"]


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .zoo import load",
        "import typing\nif typing.TYPE_CHECKING:\n    import placeformer.zoo",
        "import numpy as np",
        "from placeformer import __version__",
        "text = 'from placeformer.zoo import load'",
    ],
)
def test_checker_leaves_harmless_imports_alone(source):
    assert unlisted({"schema": source}, ROOMS) == []


def test_checker_sees_a_planted_room_and_a_planted_cycle():
    assert unlisted({"cellar": "from . import schema"}, ROOMS) == ["cellar -> schema"]
    sources = {"schema": "def f():\n    from . import world", "world": "from . import schema"}
    with pytest.raises(CycleError, match="cycle"):
        check_acyclic(arrows(sources))


def test_package_loads_neither_torch_nor_matplotlib():
    assert not loaded_after(["placeformer"]) & {"torch", "matplotlib", "numpy", "xarray"}


def test_analysis_half_never_loads_torch():
    loaded = loaded_after([f"placeformer.{room}" for room in ANALYSIS])
    assert "xarray" in loaded
    assert "torch" not in loaded


def test_analysis_half_never_mentions_torch():
    """Imports inside functions as well, and no arrow from it to a room that needs torch."""
    sources = package_sources()
    for room in ANALYSIS:
        tops = {name.partition(".")[0] for name in imported_modules(sources[room])}
        assert not tops & {"torch", "safetensors", "huggingface_hub"}, room
        assert ROOMS[room] <= set(ANALYSIS), room


def test_purity_check_sees_a_planted_violation(tmp_path):
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "__init__.py").write_text("")
    (planted / "analysis.py").write_text("from planted import helper")
    (planted / "helper.py").write_text("import torch")
    (tmp_path / "torch.py").write_text("")
    assert "torch" in loaded_after(["planted.analysis"], path=tmp_path)
    assert "torch" not in loaded_after(["planted"], path=tmp_path)


def test_public_names_are_exactly_these():
    assert len(pf.__all__) == len(set(pf.__all__))
    assert set(pf.__all__) == PUBLIC
    assert dir(pf) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_resolves(name):
    value = getattr(pf, name)
    if name in pf._EXPORTS:
        assert value.__module__ == f"placeformer.{pf._EXPORTS[name]}"
        assert value.__name__ == name


def test_no_public_name_is_a_room():
    """Importing a room sets its name on the package, which would hide a function so called."""
    assert not PUBLIC & set(ROOMS)


def test_editors_see_the_names_that_are_exported():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if is_type_checking(node)]
    seen = {
        alias.asname: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    wanted = {name: (f"placeformer.{room}", name) for name, room in pf._EXPORTS.items()}
    assert seen == wanted | {"plot": ("placeformer", "plots")}


def test_plot_is_the_module_plots():
    import placeformer.plots

    assert pf.plot is placeformer.plots


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'placeformer' has no attribute 'rate_map'"):
        _ = pf.rate_map


def test_version_is_the_one_installed():
    from importlib.metadata import version

    assert pf.__version__ == version("placeformer")
