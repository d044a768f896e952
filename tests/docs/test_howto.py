"""The code of every how-to page runs as it stands, from top to bottom."""

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
PAGES = sorted(page.stem for page in HOWTO.glob("*.rst") if page.stem != "index")
NEEDS = {"nwb": "pynwb", "out_of_memory": "zarr", "cluster": "distributed"}
"""Optional packages."""


def code(page):
    """The Python of a page."""
    text = (HOWTO / f"{page}.rst").read_text("utf-8")
    blocks = re.findall(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text, re.M)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(page):
        if find_spec(NEEDS.get(page, "numpy")) is None:
            pytest.skip(f"needs {NEEDS[page]}")
        names, style = {}, plt.rcParams.copy()
        try:
            for block in code(page):
                exec(block, names)
        finally:
            plt.rcParams.update(style)
            plt.close("all")
        return names

    return run


def test_the_index_lists_every_page():
    index = (HOWTO / "index.rst").read_text("utf-8")
    lines = re.findall(r"^:doc:`(\w+)`$", index, re.M)
    assert sorted(lines) == PAGES
    assert sorted(re.findall(r"^   (\w+)$", index, re.M)) == PAGES


def test_few_units_of_a_gru_without_training_pass(run):
    names = run("gru")
    assert names["recording"].sizes == {"walk": 32, "time": 200, "unit": 24}
    assert 0 < int(names["cells"]["is_place_cell"].sum()) < 8


def test_the_field_in_two_numpy_files_is_found(run):
    cells = run("arrays")["cells"]
    assert cells["is_place_cell"].values.tolist() == [True] + 5 * [False]


def test_the_place_cell_of_an_nwb_file_is_found(run):
    assert run("nwb")["cells"]["is_place_cell"].values.tolist() == [True, False]


def test_fields_and_directions_on_a_track(run):
    names = run("track")
    assert names["cells"]["is_place_cell"].values.tolist() == [True, True, False]
    np.testing.assert_array_equal(names["apart"]["is_place_cell"], [[1, 1, 0], [1, 0, 0]])
    assert (names["stable"].values[:2] > 0.9).all()
    peaks = names["both"]["rate"].isel(unit=1).max("x").values
    assert peaks[0] > 8 and peaks[1] < 3
    assert names["rates"].sizes["lap"] == 48


def test_the_cell_with_a_preferred_heading_is_found(run):
    cells = run("heading")["cells"]
    assert (cells["q"].values <= 0.05).tolist() == [True, False]
    assert float(cells["preferred_direction"][0]) == pytest.approx(2.0, abs=0.1)


def test_a_page_is_written(run, tmp_path):
    assert run("page")["page"].resolve() == tmp_path / "report" / "index.html"


def test_two_seeds_are_compared_on_the_same_walks(run):
    names = run("two_seeds")
    assert (names["one"]["x"].values == names["two"]["x"].values).all()
    assert 0 < float(names["found"]["similarity"]) < 1
    assert set(names["table"]["seed"]) == {0, 1, 2}


def test_a_figure_is_written(run, tmp_path):
    run("figure")
    assert (tmp_path / "figure.pdf").stat().st_size > 10_000


def test_what_is_to_be_cited_is_printed(run, capsys):
    names = run("cite")
    printed = capsys.readouterr().out
    assert names["model"].info["sha256"] in printed and '"walk_seed": 0' in printed


def test_saved_networks_are_loaded_again(run):
    names = run("save_network")
    assert names["again"].config == names["model"].config
    assert type(names["mine"]) is names["MyRNN"]


def test_a_recording_on_disk_is_analysed(run):
    names = run("out_of_memory")
    assert names["small"].sizes["unit"] == 16
    assert type(names["stored"]["activation"].data).__module__.startswith("dask")
    assert bool(names["maps"]["rate"].notnull().any())


def test_a_cluster_maps_a_recording(run):
    assert run("cluster")["maps"]["rate"].ndim == 3
