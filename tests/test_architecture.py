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

# Room -> the rooms it may import. docs/design.rst shows the same table.
ROOMS = {
    "_kernels": set(),
    "schema": set(),
    "activation": set(),
    "world": {"schema"},
    "paper": set(),
    "pretrained": {"__init__"},
    "glance": {"activation"},
    "layers": {"activation"},
    "model": {"activation", "world", "paper", "pretrained", "glance", "layers"},
    "memory": {"schema", "world", "model"},
    "arrays": {"schema"},
    "extras": set(),
    "sessions": {"schema", "arrays"},
    "pynapple_io": {"schema", "extras", "sessions"},
    "nwb_io": {"schema", "extras", "sessions"},
    "ratinabox_io": {"schema", "sessions"},
    "accessor": {"__init__"},
    "axes": {"schema"},
    "hooks": {"schema", "axes"},
    "restore": set(),
    "fingerprints": set(),
    "resume": {"schema"},
    "streams": {"schema", "resume"},
    "plans": {"schema", "hooks", "fingerprints", "resume"},
    "runs": {"schema", "axes", "hooks", "restore", "resume", "streams", "plans"},
    "taps": {"model", "hooks"},
    "navigation": {"schema", "model", "memory", "hooks", "fingerprints", "plans", "runs", "taps"},
    "modules": {"schema", "arrays", "axes", "hooks", "fingerprints", "plans", "runs"},
    "recording": {
        "model",
        "memory",
        "axes",
        "hooks",
        "restore",
        "plans",
        "runs",
        "taps",
        "navigation",
        "modules",
    },
    "binning": {"_kernels", "schema"},
    "places": {"_kernels", "schema", "binning"},
    "ratemaps": {"_kernels", "schema", "binning", "places"},
    "negatives": {"schema"},
    "variance": {"_kernels", "schema", "binning", "places"},
    "measures": {"schema", "ratemaps", "negatives", "variance"},
    "information": {"_kernels", "schema", "binning", "places", "variance"},
    "halves": {"schema", "binning", "ratemaps", "measures"},
    "gridness": {"schema", "ratemaps", "negatives"},
    "borders": {"schema", "ratemaps", "negatives"},
    "_watershed": set(),
    "_adaptive": set(),
    "_regions": {"_watershed", "_adaptive"},
    "fields": {"schema", "ratemaps", "_regions"},
    "placecells": {"schema", "ratemaps", "negatives", "measures", "fields"},
    "nulls": {"_kernels", "schema", "binning", "places", "ratemaps", "variance", "information"},
    "trades": {"_kernels", "schema", "binning", "places", "ratemaps", "nulls"},
    "shuffles": {
        "trades",
        "schema",
        "binning",
        "borders",
        "gridness",
        "measures",
        "placecells",
        "nulls",
    },
    "folds": {"schema"},
    "bayes": {"_kernels", "schema", "places", "negatives", "variance"},
    "learners": {"_kernels", "places", "bayes"},
    "chance": {"folds"},
    "verdicts": {"schema", "chance", "learners"},
    "decoding": {"verdicts", "schema", "binning", "places", "folds", "learners", "chance"},
    "populations": {"schema", "places", "ratemaps"},
    "_products": {"_kernels"},
    "dimensions": {"schema", "variance", "populations", "_products"},
    "_alignment": {"variance", "_products"},
    "resemblance": {"schema", "populations", "_alignment"},
    "remap": {"schema", "populations"},
    "dependence": {"schema", "shuffles", "variance"},
    "census": {
        "schema",
        "binning",
        "ratemaps",
        "negatives",
        "variance",
        "measures",
        "halves",
        "fields",
        "placecells",
        "shuffles",
        "dependence",
    },
    "recipe": {"model"},
    "family": {"model", "recipe"},
    "machine": set(),
    "run": {"recipe"},
    "batch": {"world"},
    "training": {"world", "model", "memory", "recipe", "machine", "run", "batch"},
    "stacked": {"activation", "model"},
    "ensemble": {"memory", "model", "recipe", "run", "batch", "training", "stacked"},
    "manifest": {"world", "model"},
    "weights": {"world", "model", "manifest"},
    "readme": {"model", "manifest"},
    "hub": {"world", "model", "manifest", "weights", "readme"},
    "client": {"manifest"},
    "remote": {"model", "manifest", "weights", "readme", "hub", "client"},
    "zoo": {"activation", "world", "model", "manifest", "weights", "hub", "remote"},
    "versions": set(),
    "_lattice": {"schema"},
    "plots": {"schema", "_lattice"},
    "portrait": {
        "schema",
        "world",
        "model",
        "memory",
        "recording",
        "ratemaps",
        "negatives",
        "measures",
        "fields",
        "placecells",
        "dependence",
        "census",
    },
    "figures": {"schema", "plots", "portrait"},
    "findings": {"schema", "census", "portrait"},
    "facts": {"activation", "portrait", "findings"},
    "explorer": {"schema", "portrait", "findings"},
    "page": {"schema", "activation", "memory", "portrait", "figures", "findings", "facts"},
}
ROOMS["page"] |= {"census", "explorer"}
ROOMS["curve"] = set()
ROOMS["selection"] = {"schema"}
ROOMS["replacement"] = {"schema", "binning", "places", "ratemaps", "memory"}
ROOMS["sites"] = {"hooks", "model", "replacement", "selection", "taps"}
ROOMS["ablation"] = {
    "binning", "hooks", "memory", "model", "recording", "replacement", "selection", "sites"
}  # fmt: skip
ROOMS["branches"] = {"memory", "model", "replacement", "sites"}
ROOMS["controls"] = {"schema", "measures", "negatives", "placecells", "ratemaps", "variance"}
ROOMS["pairing"] = set()
ROOMS["lesionplan"] = {
    "schema", "model", "negatives", "sites", "controls", "replacement", "selection"
}  # fmt: skip
ROOMS["outcomes"] = {
    "schema", "memory", "model", "ablation", "sites", "branches", "lesionplan", "pairing",
    "replacement",
}  # fmt: skip
ROOMS["lesioncurve"] = {
    "schema", "memory", "model", "navigation", "negatives", "ablation", "sites", "lesionplan",
    "outcomes", "replacement",
}  # fmt: skip
ROOMS["abilities"] = {"memory", "model", "recording", "branches"}
ROOMS["mg"] = {"schema", "activation", "memory", "model", "zoo", "branches", "pairing"}
ROOMS["hill"] = {"schema"}
ROOMS["equivalence"] = {
    "schema", "activation", "memory", "model", "navigation", "ablation", "branches", "mg",
    "pairing", "replacement", "selection",
}  # fmt: skip
ROOMS["_style"] = set()
ROOMS["lesionplots"] = {"_style"}
ROOMS["plots"] |= {"_style", "lesionplots"}
ROOMS["card"] = {"activation", "world", "model", "memory", "training", "hub", "readme", "curve"}
ROOMS["board"] = set()
ROOMS["cluster"] = set()
ROOMS["sweep"] = {"recipe", "family", "training", "manifest", "hub", "card", "board"}
ROOMS["sweep"] |= {"ensemble"}
ROOMS["sweep"] |= {"cluster"}
ROOMS["profiles"] = {
    "schema", "census", "measures", "mg", "model", "negatives", "ratemaps", "recording",
    "variance", "zoo",
}  # fmt: skip
ROOMS["trends"] = set()
ROOMS["evidence"] = {"pairing", "trends"}
ROOMS["claims"] = {"evidence", "hill", "trends"}
ROOMS["comparison"] = {"schema", "trends"}
ROOMS["comparisonplots"] = {"_style", "lesionplots"}
ROOMS["plots"] |= {"comparisonplots"}
ROOMS["report"] = set(ROOMS)  # the root package is a room of its own, "__init__"
ROOMS["commands"] = set(ROOMS)
ROOMS["cli"] = {*ROOMS, "__init__"}
ROOMS["__main__"] = {"cli"}

# The analysis half: labelled arrays in, labelled arrays out, no torch anywhere.
ANALYSIS = [
    "arrays",
    "extras", "sessions", "pynapple_io", "nwb_io", "ratinabox_io",
    "_kernels", "schema", "binning", "places", "ratemaps", "negatives", "variance", "measures",
    "_watershed", "_adaptive", "dependence", "census",
    "_regions", "fields", "placecells", "nulls", "shuffles", "_lattice", "plots",
    "folds", "bayes", "learners", "chance", "decoding",
    "populations", "_products", "dimensions", "_alignment", "resemblance", "remap",
    "information", "halves", "gridness", "borders",
]  # fmt: skip

ANALYSIS += ["trades", "verdicts"]
ANALYSIS += ["selection", "controls", "pairing", "hill", "_style", "lesionplots"]

ANALYSIS += ["trends", "evidence", "claims", "comparison", "comparisonplots"]

PUBLIC = {
    "from_arrays",
    "field_table", "place_cells",
    "from_nwb", "from_pynapple", "from_ratinabox", "to_nwb", "to_pynapple",
    "GridWorld", "ModelConfig", "NMDA", "NavigationTransformer", "__version__", "alpha_to_mg",
    "coherence", "list_models", "load", "memory_errors", "mg_to_alpha", "place_cell_score",
    "place_fields", "plot", "position_variance_explained", "rate_maps", "record", "save",
    "push",
    "show_versions",
    "selectivity", "shuffle_test", "sparsity", "spatial_information", "train",
    "decode_map", "decode_position", "dimensionality", "population_vector_correlation",
    "remapping", "similarity",
    "zoo_table",
    "border_score", "grid_score", "half_maps", "mutual_information", "stability",
}  # fmt: skip
PUBLIC |= {
    "ablate", "ablation_curve", "dose_response", "equivalent_alpha", "fit_hill", "magnesium",
    "novel_working_memory", "recorded_score",
}  # fmt: skip


PUBLIC |= {"claim_verdicts", "memory_comparison", "paper_claims", "profile_networks"}


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


def test_design_page_shows_the_same_table():
    page = (PACKAGE.parents[1] / "docs" / "design.rst").read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - ``(\w+)``\n     - .*\n     - (.*)$", page, flags=re.MULTILINE)
    assert [room for room, _ in rows] == list(ROOMS)
    for room, shown in rows:
        if room not in ("report", "commands", "cli"):
            assert set(re.findall(r"``(\w+)``", shown)) == ROOMS[room], room


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
