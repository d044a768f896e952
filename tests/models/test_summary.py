import json
from html.parser import HTMLParser

import pytest
import torch
from helpers import networks

import placeformer as pf


def network(alpha=10.0):
    config = pf.ModelConfig(
        n_letters=5, d_model=8, n_layers=2, n_heads=2, d_head=4, d_inner=6, d_rnn=4, chunk=4,
        memory=4, dropout=0.0, activation="gelu" if alpha is None else "nmda", alpha=alpha,
    )  # fmt: skip
    return networks.network(config)


@pytest.fixture
def loaded(tmp_path):
    results = {"working_error_trained": {"value": 0.125, "definition": "share <wrong> & why"}}
    (tmp_path / "recipe.toml").write_text("seed = 0\n")
    pf.save(network(), tmp_path / "net", results=results, recipe=tmp_path / "recipe.toml")
    return pf.load(tmp_path / "net")


def test_repr_says_what_was_loaded(loaded, tmp_path):
    n = sum(weight.numel() for weight in loaded.parameters())
    assert repr(loaded).splitlines() == [
        "NavigationTransformer net",
        "  activation: NMDA_α, α = 10 ([Mg²⁺] = 35.7 mM)",
        f"  size: 2 layers of width 8, 2 heads, 6 feed-forward units each; {n:,} parameters",
        "  maps: 3 trained and 3 novel, 4 × 4 places, 5 letters (seed 0)",
        "  working error trained: 0.125",
        f"  recipe: {tmp_path / 'net' / 'recipe.toml'}",
    ]


def test_results_of_another_network_are_not_shown(loaded):
    said = repr(loaded)
    for change in (pf.magnesium(loaded, alpha=0.1), pf.ablate(loaded, {"ffn.1": [0]}, "zero")):
        with change:
            assert "working error" not in repr(loaded)
            assert repr(loaded).endswith("\n  changed: since it was loaded; no stored results")
            assert loaded.summary()["sha256"] is None and loaded.summary()["changed"]
    assert repr(loaded) == said and not loaded.summary()["changed"]
    with torch.no_grad():
        loaded.read_out.bias += 1
    assert "working error" not in repr(loaded) and not loaded.summary()["results"]


def test_repr_of_a_new_network_without_a_world():
    model = network(alpha=None)
    model.world = None
    said = repr(model)
    assert said.startswith("NavigationTransformer (not loaded)\n  activation: gelu\n")
    assert "  maps: none: the network has no world" in said and "  recipe: none" in said


def test_modules_are_still_to_be_had(loaded):
    assert "(path): PathIntegrator" in torch.nn.Module.__repr__(loaded)


class Cells(HTMLParser):
    """Text of every cell of a table."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag in ("td", "th"):
            self.cells.append("")
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.cells:
            self.cells[-1] += text


def test_html_is_a_table_with_definitions(loaded):
    reader = Cells(loaded._repr_html_())
    assert reader.open == []
    assert reader.cells[:4] == ["name", "net", "activation", "NMDA_α, α = 10 ([Mg²⁺] = 35.7 mM)"]
    at = reader.cells.index("working error trained")
    assert reader.cells[at + 1] == "0.125share <wrong> & why"


def test_summary_is_json(loaded):
    said = json.loads(json.dumps(loaded.summary()))
    assert said == loaded.summary()
    assert said["mg_mM"] == pytest.approx(pf.alpha_to_mg(10.0))
    assert said["sha256"] == loaded.info["sha256"] and said["units"] == 6
