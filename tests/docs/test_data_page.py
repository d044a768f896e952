"""The code of the page on your own data: an animal and a network in one table."""

import pathlib
import re
import textwrap
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import placeformer as pf
from placeformer.evaluation import simulation

pynwb = pytest.importorskip("pynwb")
from pynwb.behavior import Position, SpatialSeries  # noqa: E402

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "data.rst"
RATE, SECONDS = 20.0, 400


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A file session.nwb in the working directory: a place cell, and one that fires anywhere."""
    rng = np.random.default_rng(0)
    place = rng.random((int(RATE * SECONDS), 2))
    y, x = (11 * place.T[::-1]).astype(int)
    file = pynwb.NWBFile("box", "simulated", datetime(2026, 1, 1, tzinfo=UTC))
    for rate in (0.1 + 20 * simulation.bump((3, 7))[y, x], np.full(len(place), 3.0)):
        samples = np.repeat(np.arange(len(place)), rng.poisson(rate / RATE))
        file.add_unit(spike_times=samples / RATE)
    series = SpatialSeries(
        name="tracker", data=place, unit="m", rate=RATE, reference_frame="corner"
    )
    home = file.create_processing_module("behavior", "behaviour")
    home.add(Position(spatial_series=series))
    with pynwb.NWBHDF5IO(tmp_path / "session.nwb", "w") as io:
        io.write(file)
    monkeypatch.chdir(tmp_path)


def test_an_animal_and_a_network_stand_in_one_table(session):
    section = PAGE.read_text("utf-8").split("An animal and a network in one table")[1]
    block = re.search(r"code-block:: python\n\n((?:   .*\n|\n)+)", section)[1]
    quick = SimpleNamespace(
        from_nwb=pf.from_nwb,
        load=pf.load,
        record=partial(
            pf.record, units={"ffn.1": range(24)}, n_walks=16, n_steps=512, progress=False
        ),
        place_cells=partial(pf.place_cells, n_shuffles=199),
    )
    names = {"pf": quick}
    exec(textwrap.dedent(block), names)
    both = names["both"]
    assert both.source.value_counts().to_dict() == {"network": 24, "animal": 2}
    assert both.groupby("source").layer.unique().map(list).to_dict() == {
        "animal": ["CA1"],
        "network": ["ffn.1"],
    }
    animal = both[both.source == "animal"]
    assert animal.reason.tolist() == ["place cell", "not tuned to place"]
    for column in ("eta2", "spatial_information", "stability", "q_place", "field_share"):
        assert both[column].notna().all()
    assert animal.q_beyond.isna().all()
    assert both[both.source == "network"].q_beyond.notna().all()
