import base64
import json
import re
import time
from xml.etree import ElementTree

import numpy as np
import pytest
import xarray as xr
from helpers import networks
from helpers.browser import CHROMIUM, Browser

import placeformer as pf
from placeformer.evaluation import simulation
from placeformer.reporting import figures, measurements, page, unit_table
from placeformer.reporting.measurements import (
    NETWORK_MAPS,
    Settings,
    SubjectReport,
    measure_interventions,
)
from placeformer.spatial.place_cells import PLACE_CELL

N_UNITS, SIDE, SHUFFLES = 1024, 11, 39
KINDS = xr.Variable("map", ["trained 0", "novel 0"])
REASONS = (PLACE_CELL, "unstable", "places scattered")


def made(name, alpha, seed):
    """A network of 1,024 units whose numbers are made up; one place was never visited."""
    rng = np.random.default_rng(seed)
    config = pf.ModelConfig(
        n_letters=5, d_model=8, n_layers=2, n_heads=2, d_head=4, d_inner=4, d_rnn=4, chunk=4,
        memory=4, dropout=0.0, activation="gelu" if alpha is None else "nmda", alpha=alpha,
    )  # fmt: skip
    model = networks.network(config)
    model.info = {"name": name, "results": {}, "definitions": {}}
    rates, units = maps(rng), measures(rng)
    settings = Settings(lesion_walks=2, lesion_steps=8, lesion_repeats=1)
    there = units.isel(map=0, unit=units["index"].values < config.d_inner)
    there["is_place_cell"] = there["reason"] == PLACE_CELL
    interventions = measure_interventions(model, there, settings)
    about = config.activation if alpha is None else f"α = {alpha:g}"
    of_network = {"memory": errors(), "walk": behaviour(), "interventions": interventions}
    return SubjectReport(name, NETWORK_MAPS, rates, units, about=about, model=model, **of_network)


def errors():
    table = xr.Dataset(
        {
            "error": (("maps", "memory"), np.full((2, 2), 0.25)),
            "n": (("maps", "memory"), np.full((2, 2), 9)),
            "interval": (("maps", "memory", "bound"), np.full((2, 2, 2), 0.2)),
        },
        coords={"maps": ["trained", "novel"], "memory": ["working", "reference"]},
    )
    return table.assign_attrs(n_walks=2, n_steps=9, chance=0.8)


def behaviour():
    seen = (("walk", "time"), np.array([[True, False]]))
    return xr.Dataset({"visited": seen, "correct": seen}, coords={"time": [0, 1]})


def maps(rng):
    one = simulation.maps(simulation.units(rng, N_UNITS, 1))
    label = (one["rate"] > one["rate"].max(("y", "x")) * 0.5).astype(np.int16)
    both = xr.concat([one.assign(field_label=label)] * 2, KINDS, data_vars="all")
    both["rate"][1] = rng.normal(size=(N_UNITS, SIDE, SIDE))
    both["rate"][:, :, 3, 5] = np.nan
    both["field_label"][1] = 0
    return both


def measures(rng):
    shape = {"map": 2, "unit": N_UNITS}
    names = [*unit_table.COLUMNS, *(f"p_{test}" for test in unit_table.TESTS.values())]
    table = xr.Dataset({name: (tuple(shape), rng.random((2, N_UNITS))) for name in names})
    table["information_rectify"][0, 3] = np.nan
    table["n_fields"] = (table["n_fields"] * 3).round()
    for null in measurements.NULLS.values():
        table[null] = (("map", "shuffle", "unit"), rng.uniform(-0.2, 0.4, (2, SHUFFLES, N_UNITS)))
    reason = np.array(REASONS)[rng.integers(0, 3, (2, N_UNITS))]
    table["reason"] = (("map", "unit"), reason)
    table["depends_on_memory"] = ("unit", (reason[0] == PLACE_CELL) & (reason[1] != PLACE_CELL))
    layer = np.repeat(["ffn.0", "ffn.1"], N_UNITS // 2)
    index = np.tile(np.arange(N_UNITS // 2), 2)
    limits = {"max_q": 0.05, "min_fields": 1, "min_field_share": 0.5, "min_reliability": 0.5}
    return table.assign_coords(
        map=KINDS, layer=("unit", layer), index=("unit", index)
    ).assign_attrs(**limits, null="walks", caveats="few <shuffles>")


@pytest.fixture(scope="module")
def reports():
    return [made("net-a10", 10.0, 0), made("net-gelu", None, 1)]


@pytest.fixture(scope="module")
def text(reports):
    """The page, without its other figures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("walk", "memory", "unit", "tile", "distribution", "lesions", "washout"):
            empty = figures.Picture('<svg xmlns="http://www.w3.org/2000/svg"/>', "a figure")
            patch.setattr(figures, name, lambda *given, empty=empty: empty)
        patch.setattr(figures, "limits_of", lambda *given: None)
        return page.render(reports, Settings())


@pytest.fixture(scope="module")
def payload(text):
    return json.loads(re.search('id="payload">(.*?)</script>', text).group(1))


def unpacked(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)


def test_every_unit_is_there_with_its_measures(reports, payload):
    assert [n["name"] for n in payload["networks"]] == ["net-a10", "net-gelu"]
    assert [n["about"] for n in payload["networks"]] == ["α = 10", "gelu"]
    for one, packed in zip(reports, payload["networks"], strict=True):
        assert packed["layer"] == one.units["layer"].values.tolist()
        assert packed["index"] == [str(index) for index in one.units["index"].values]
        for key in unit_table.COLUMNS:
            shown = np.array(packed["values"][key], float)
            np.testing.assert_allclose(shown, one.units[key], rtol=5e-4)
        reasons = np.array(packed["reasons"])[packed["reason"]]
        np.testing.assert_array_equal(reasons, one.units["reason"])
        for remembered in packed["remembered"]:
            np.testing.assert_array_equal(remembered, one.units["depends_on_memory"])


def test_maps_and_shuffles_come_back_as_they_were(reports, payload):
    one, packed = reports[0], payload["networks"][0]
    rate = one.rate_maps["rate"].values
    shade = unpacked(packed["rates"], np.uint8).reshape(rate.shape)
    np.testing.assert_array_equal(shade == payload["unvisited"], np.isnan(rate))
    low, high = (np.array(packed[k])[:, None, None] for k in ("low", "high"))
    shown = low + shade / (payload["unvisited"] - 1) * (high - low)
    seen = np.isfinite(rate)
    assert np.abs(shown - rate)[seen].max() < 0.003 * (high - low).max()
    fields = unpacked(packed["fields"], np.uint8).reshape(rate.shape)
    np.testing.assert_array_equal(fields, one.rate_maps["field_label"])
    for key, null in measurements.NULLS.items():
        values = unpacked(packed["nulls"][key], "<i2").reshape(2, N_UNITS, SHUFFLES)
        want = one.units[null].transpose("map", "unit", "shuffle")
        np.testing.assert_allclose(values * payload["fine"], want, atol=payload["fine"])


def test_ticks_are_those_of_the_grid_or_rounded_ends():
    def ticks(edges):
        centres = (np.asarray(edges[:-1]) + edges[1:]) / 2
        coords = {"x": ("x", centres), "x_edges": ("x_edges", edges)}
        return unit_table.packed_axis(xr.Dataset(coords=coords), "x")["ticks"]

    assert ticks(np.arange(5) - 0.5) == [[0.5, "0"], [1.5, "1"], [3.5, "3"]]
    assert ticks(np.linspace(0.000133, 0.9997, 5)) == [[0, "0"], [2, "0.5"], [4, "1"]]
    assert ticks(np.linspace(-173.4, 174.2, 3)) == [[0, "-173"], [1, "0"], [2, "174"]]


def test_what_is_undefined_has_a_number_of_its_own():
    values = xr.DataArray([[[np.nan, 9.0, -0.5]]], dims=("map", "unit", "shuffle"))
    assert unit_table.steps(values).tolist() == [[[-32768, 32767, -5000]]]
    flat = unit_table.shades(np.full((1, 1, 2, 2), np.nan))
    assert (flat[0] == unit_table.UNVISITED).all() and flat[1:] == ([0.0], [0.0])


def test_page_of_two_networks_of_1024_units_is_small(text):
    assert len(text.encode()) < 10e6
    assert "few &lt;shuffles&gt;" in text


def luminance(color):
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(a, b):
    """Contrast of WCAG 2."""
    dark, bright = sorted((luminance(a), luminance(b)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1])
def test_contrast_is_enough_in_light_and_dark(theme):
    block = re.findall(r":root \{(.*?)\}", page.read(page.STYLE), flags=re.DOTALL)[theme]
    color = dict(re.findall(r"--(\w+): (#\w{6})", block))
    for ground in ("page", "card", "chosen"):
        for ink in ("text", "quiet", "accent"):
            assert contrast(color[ink], color[ground]) >= 4.5, (ink, ground)
    for mark in ("edge", "mark"):  # lines and borders
        assert contrast(color[mark], color["card"]) >= 3, mark


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def opened(browser, text, tmp_path):
    """The page as it is when it has loaded."""
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.console.clear()
    browser.open(tmp_path / "index.html")
    yield browser
    assert browser.console == []


COLUMN = """(head => {
  const heads = [...document.querySelectorAll("#heads button")].map(b => b.firstChild.data);
  const rows = [...document.querySelectorAll("#rows tr")];
  return rows.map(row => row.children[heads.indexOf(head)].innerText);
})"""


def column(browser, head):
    return browser.run(f"{COLUMN}({head!r})")


def choose(browser, name, value):
    browser.run(f"at({name!r}).value = {value!r}; at({name!r}).dispatchEvent(new Event('change'))")


def count(browser):
    """Units found, and place cells among them."""
    found = re.findall(r"[\d,]+", browser.run("at('count').textContent"))
    return [int(n.replace(",", "")) for n in (found[0], found[2])]


def click(browser, head):
    heads = "[...document.querySelectorAll('#heads button')]"
    browser.run(f"{heads}.find(b => b.firstChild.data === {head!r}).click()")


@pytest.mark.browser
def test_browser_shows_all_units_the_best_first(reports, opened):
    n = sum(int((one.units["reason"][0] == PLACE_CELL).sum()) for one in reports)
    assert count(opened) == [2 * N_UNITS, n]
    best = np.sort(np.concatenate([one.units["score"].values[0] for one in reports]))[::-1]
    np.testing.assert_allclose([float(v) for v in column(opened, "score")], best[:25], 5e-3)
    assert opened.run("at('page').textContent") == "page 1 of 82"


@pytest.mark.browser
def test_browser_sorts_both_ways_and_turns_pages(reports, opened):
    values = np.concatenate([one.units["stability"].values[0] for one in reports])
    for want in (np.sort(values)[::-1], np.sort(values)):
        click(opened, "stability")
        np.testing.assert_allclose([float(v) for v in column(opened, "stability")], want[:25], 5e-3)
    opened.run("at('on').click()")
    np.testing.assert_allclose([float(v) for v in column(opened, "stability")], want[25:50], 5e-3)
    sorted_by = "document.querySelector('[aria-sort=ascending] button').firstChild.data"
    assert opened.run(sorted_by) == "stability"


@pytest.mark.browser
def test_browser_puts_what_is_undefined_last(opened):
    choose(opened, "network", "net-a10")
    opened.run("at('wide').click()")
    for _ in range(2):
        click(opened, "information, rectified (bits/spike)")
        opened.run("while (!at('on').disabled) at('on').click()")
        assert column(opened, "information, rectified (bits/spike)")[-1] == "–"
        assert column(opened, "unit")[-1] == "ffn.0 unit 3"


@pytest.mark.browser
def test_browser_filters_by_network_layer_map_and_kind(reports, opened):
    choose(opened, "network", "net-gelu")
    assert count(opened)[0] == N_UNITS
    choose(opened, "layer", "ffn.1")
    assert count(opened)[0] == N_UNITS // 2
    assert set(column(opened, "subject")) == {"net-gelu"}
    units = reports[1].of_layer("ffn.1")
    choose(opened, "map", "1")
    place = int((units["reason"][1] == PLACE_CELL).sum())
    assert count(opened) == [N_UNITS // 2, place]
    choose(opened, "kind", "place")
    assert count(opened) == [place, place]
    choose(opened, "kind", "memory")
    assert count(opened)[0] == int(units["depends_on_memory"].sum())
    assert set(column(opened, "memory")) == {"needed"}


@pytest.mark.browser
def test_browser_searches_by_number_layer_and_reason(opened):
    opened.run("at('search').focus()")
    opened.write("17 ffn.1")
    assert column(opened, "unit") == ["ffn.1 unit 17"] * 2
    opened.run("at('search').value = ''")
    opened.write("unstable")
    assert set(column(opened, "reason")) == {"unstable"}
    opened.run("at('search').value = ''")
    opened.write("nothing of the kind")
    assert count(opened) == [0, 0]


@pytest.mark.browser
def test_browser_finds_units_by_conditions(reports, opened):
    opened.run("at('search').focus()")
    opened.write("score > 0.5 fields>=2 net-a10")
    units = reports[0].units.isel(map=0)
    found = (units["score"] > 0.5) & (units["n_fields"] >= 2)
    assert count(opened)[0] == int(found.sum()) > 0
    opened.run("at('search').value = ''")
    opened.write("scor>0.5")
    assert count(opened)[0] == 2 * N_UNITS
    assert "“scor>0.5” is not a condition: write one of score, eta2" in opened.run(
        "at('count').textContent"
    )


@pytest.mark.browser
def test_browser_keeps_the_unit_and_the_filters_in_the_address(opened):
    choose(opened, "layer", "ffn.1")
    opened.run("at('search').focus()")
    opened.write("17")
    opened.run("at('search').dispatchEvent(new Event('change'))")
    opened.run("document.querySelectorAll('#rows tr')[1].children[2].click()")
    name = describe(opened).splitlines()[0]
    address = opened.run("location.hash")
    assert "unit=ffn.1-17" in address and "layer=ffn.1" in address and "search=17" in address
    opened.run("history.replaceState(null, '', '#unit=ffn.0-3&of=net-gelu'); recall()")
    assert describe(opened).startswith("ffn.0 unit 3, net-gelu (gelu)")
    opened.run(f"history.replaceState(null, '', {address!r}); recall()")
    assert describe(opened).splitlines()[0] == name and count(opened)[0] == 2


@pytest.mark.browser
def test_browser_saves_what_is_found_and_the_picture_of_a_unit(reports, opened):
    opened.run("at('search').focus()")
    opened.write("17 ffn.1")
    heads, *lines = opened.run("csv()").strip().split("\r\n")
    names = heads.split(",")
    assert names[:4] == ["subject", "layer", "unit", "map"] and len(lines) == 2
    row = next(dict(zip(names, line.split(","), strict=True)) for line in lines if "a10" in line)
    unit = reports[0].units.isel(map=0, unit=N_UNITS // 2 + 17)
    assert row["reason"] == unit["reason"].item() and row["unit"] == "17"
    for name in names[7:]:
        assert float(row[name]) == pytest.approx(float(unit[name]), rel=5e-4), name
    drawing = ElementTree.fromstring(opened.run("drawing(state.found[0])"))
    assert drawing.tag.endswith("svg") and {"width", "height"} <= set(drawing.attrib)


@pytest.mark.browser
def test_browser_names_a_link_to_a_unit_that_is_not_there(opened):
    opened.run("history.replaceState(null, '', '#unit=ffn.9-1'); recall()")
    assert "“ffn.9-1”, but no unit on this page" in opened.run("at('count').textContent")


def saved(folder, pattern, within=120):
    """The file that a press saves, once it is whole."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        for file in folder.glob(pattern):
            if file.stat().st_size and not list(folder.glob("*.crdownload")):
                return file.read_bytes()
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} was saved within {within} s")


@pytest.mark.slow
@pytest.mark.browser
def test_browser_does_what_a_reader_presses(reports, opened, tmp_path):
    opened.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    opened.run("at('search').focus()")
    opened.write("score>0.5")
    n = count(opened)[0]
    assert n == sum(int((one.units["score"][0] > 0.5).sum()) for one in reports) > 1
    opened.click("#csv")
    assert len(saved(tmp_path, "units.csv").splitlines()) == 1 + n
    opened.click("#rows tr:nth-child(2) td")
    opened.click("#detail .pager button:nth-child(1)")
    assert ElementTree.fromstring(saved(tmp_path, "*.svg")).tag.endswith("svg")
    opened.click("#detail .pager button:nth-child(2)")
    assert saved(tmp_path, "*.png").startswith(b"\x89PNG")
    name, address = describe(opened).splitlines()[0], opened.run("location.href")
    opened.reload()
    assert [describe(opened).splitlines()[0], opened.run("location.href")] == [name, address]
    assert count(opened)[0] == n
    opened.click("#copy")
    until = time.monotonic() + 10  # what it selects follows the answer of the clipboard
    while not (cited := opened.run("getSelection().toString()")) and time.monotonic() < until:
        time.sleep(0.05)
    assert cited.startswith("@software{placeformer")
    opened.run("document.querySelector('.why').focus()")
    opened.press("Enter")
    assert opened.run("at('why').matches(':popover-open')")
    opened.press("Escape")
    assert opened.run("[at('why').matches(':popover-open'), document.activeElement.className]") == [
        False, "why"
    ]  # fmt: skip
    assert 0 < len(re.findall(rb"/Type\s*/Page\b", opened.printed())) <= 10


@pytest.mark.browser
def test_browser_explains_a_number_by_a_press(opened):
    opened.run("document.querySelector('.why').focus()")
    opened.press("Enter")
    assert opened.run("at('why').matches(':popover-open')")
    meaning = opened.run("document.querySelector('.why').dataset.why")
    assert opened.run("at('why').textContent") == meaning != ""


@pytest.mark.browser
def test_browser_shows_maps_and_the_whole_table_on_the_first_screens(browser, text, tmp_path):
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "index.html", width=1280, height=900)
    top = "document.querySelector('.best img').getBoundingClientRect().top"
    assert browser.run(top) < 500
    table = "document.querySelector('[aria-label=\"Table of units\"]')"
    assert browser.run(f"{table}.scrollWidth <= {table}.clientWidth")


@pytest.mark.browser
def test_browser_has_tabs_for_networks_on_a_phone(browser, text, tmp_path):
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "index.html", width=400, height=800)
    shown = """[...document.querySelectorAll('#short .card')]
        .filter(card => card.offsetHeight).map(card => card.dataset.subject)"""
    assert browser.run(shown) == ["net-a10"]
    browser.run("at('tab-1').click()")
    assert browser.run(shown) == ["net-gelu"]


def describe(browser):
    return browser.run("at('detail').innerText")


@pytest.mark.browser
def test_browser_shows_the_unit_that_is_picked(reports, opened):
    opened.run("at('search').focus()")
    opened.write("net-a10 ffn.1 17")
    opened.run("document.querySelector('#rows tr td').click()")
    unit = reports[0].units.isel(unit=N_UNITS // 2 + 17)
    words = describe(opened)
    assert words.startswith("ffn.1 unit 17, net-a10 (α = 10)")
    for kind, reason in zip(measurements.KINDS, unit["reason"].values, strict=True):
        assert f"{kind} map: {reason}" in words
    reached = int((unit["null_place"][0] >= unit["eta2"][0]).sum())
    assert f"{reached or 'none'} of {SHUFFLES} shuffles" in words
    assert opened.run("document.querySelectorAll('#detail [fill=\"url(#hatch)\"]').length") == 2
    assert opened.run("document.querySelectorAll('#detail .outline').length") == 2
    assert opened.run("document.querySelectorAll('#detail .observed').length") == 3
    for label in ("trained map", "novel map", "x (grid steps)", "mean activation (a.u.)"):
        assert label in opened.run("at('detail').querySelector('svg').textContent")


@pytest.mark.browser
def test_browser_needs_no_mouse(opened):
    opened.run("at('layer').focus()")
    for _ in range(60):  # past the heads of the table, to its first unit
        opened.press("Tab")
        if opened.run("document.activeElement.matches('#rows button')"):
            break
    opened.press("ArrowDown")
    name = opened.run("document.activeElement.textContent")
    assert name == column(opened, "unit")[1]
    opened.press("Enter")
    assert describe(opened).startswith(name)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert opened.run(outline) == "solid"
    opened.run("[...document.querySelectorAll('#detail button')].at(-1).focus()")
    opened.press("Enter")
    assert describe(opened).startswith(column(opened, "unit")[2])
    assert opened.run("document.activeElement.textContent") == "Next unit"


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_browser_fits_a_phone(browser, text, tmp_path, dark):
    (tmp_path / "index.html").write_text(text, encoding="utf-8")
    browser.open(tmp_path / "index.html", width=420, height=800, dark=dark)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(18, 24, 29)") == dark
    browser.run("document.querySelector('#rows button').click()")
    top = browser.run("at('detail').getBoundingClientRect().top")
    assert -5 < top < 400


@pytest.mark.browser
def test_browser_runs_no_other_script(browser, text, tmp_path):
    browser.console.clear()
    planted = text.replace("</body>", "<script>document.title = 'x'</script></body>")
    (tmp_path / "index.html").write_text(planted, encoding="utf-8")
    browser.open(tmp_path / "index.html")
    assert browser.run("document.title") != "x"
    assert any("Content Security Policy" in said for said in browser.console)
