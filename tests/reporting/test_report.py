import base64
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import xarray as xr
from helpers.browser import CHROMIUM, Browser

import placeformer as pf
from placeformer.data import schema
from placeformer.reporting import figures, lesion_section, measurements, page, subjects, write
from placeformer.reporting.measurements import (
    NETWORK_MAPS,
    InterventionResults,
    Settings,
    SubjectReport,
)
from placeformer.zoo import registry as zoo

FINDINGS = page.TEMPLATES.get_template("findings.html.jinja").module
SETTINGS = Settings(
    seed=3, memory_walks=4, memory_steps=40, walks=3, steps=120, shown_steps=20,
    lesion_walks=4, lesion_steps=40, lesion_repeats=2,
)  # fmt: skip
KINDS = ("memory", "rate_maps", "units", "walk")
HARMED = ("lesions", "washout", "equivalents")
MEASURES = ("information_rectify", "information_shift", "eta2", "eta2_beyond")


def save(folder, alpha, seed=0, world=True):
    """Save a network of 2 x 4 units on a world of 4 x 4 places."""
    config = pf.ModelConfig(
        n_letters=5, d_model=16, n_layers=2, n_heads=2, d_head=8, d_inner=4, d_rnn=8,
        chunk=4, memory=4, dropout=0.0, activation="gelu" if alpha is None else "nmda",
        alpha=alpha,
    )  # fmt: skip
    model = pf.NavigationTransformer(config, pf.GridWorld(4, 5, 2, 1) if world else None)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.empty_like(weight).normal_(0, 0.5, generator=generator))
    results = {"reference_error": {"value": 0.25, "definition": "share <wrong>"}}
    pf.save(model, folder, results=results)
    return str(folder)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return [save(folder / "net-a10", 10.0), save(folder / "net-a0", 0.0, seed=1)]


@pytest.fixture(scope="module")
def out(networks, tmp_path_factory):
    """A report of two networks."""
    folder = tmp_path_factory.mktemp("out") / "report"
    found = pf.report(
        networks[0], out=folder, beside=networks[1], settings=SETTINGS, progress=False
    )
    assert found == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def text(out):
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def made(networks, out):
    """The networks of the report, read back from its files; nobody writes into them."""
    return [read(name, out) for name in networks]


def read(folder, out):
    model = pf.load(folder)
    name = model.info["name"]
    parts, harmed = ([dataset(out, name, kind) for kind in kinds] for kinds in (KINDS, HARMED))
    of_network = dict(zip(KINDS, parts, strict=True)) | {"model": model}
    results = InterventionResults(*harmed)
    return SubjectReport(name, NETWORK_MAPS, interventions=results, **of_network)


def dataset(out, name, kind):
    with xr.open_dataset(out / f"{name}.{kind}.nc", engine="netcdf4") as opened:
        return opened.load()


def written(macro, *networks):
    """What a macro of the findings writes, on one line."""
    return " ".join(getattr(FINDINGS, macro)(*networks).split())


class Reader(HTMLParser):
    """Elements of a page that refer to something, and its numbers by key."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.numbers, self.headings = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        elif tag == "data":
            self.numbers.setdefault(found["data-key"], set()).add(float(found["value"]))
        elif re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.links += [found[key] for key in ("src", "href", "srcset", "action") if key in found]


def test_the_shuffles_are_as_many_as_the_decisions_need_and_named_on_the_page(text, out):
    assert "of as many shuffles as the decisions need" in text
    assert "The shuffles shown are the first 50 of each test." in text
    units = dataset(out, "net-a10", "units")
    assert units.attrs["n_shuffles"] == "auto" and units["null_place"].sizes["shuffle"] == 50


def test_files_are_the_page_and_seven_datasets_a_network(out):
    expected = {f"net-{a}.{kind}.nc" for a in ("a10", "a0") for kind in KINDS + HARMED}
    assert {file.name for file in out.iterdir()} == expected | {"index.html"}
    assert [file.name for file in out.parent.iterdir()] == ["report"]


@pytest.mark.parametrize("kind", measurements.KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # few samples
def test_datasets_agree_with_measuring_again(networks, out, kind):
    model, familiar = pf.load(networks[0]), kind == "trained"
    recording = pf.record(
        model, n_walks=3, n_steps=120, seed=3, familiar=familiar, maps=(0,), progress=False
    )
    again = pf.rate_maps(recording)
    maps = dataset(out, "net-a10", "rate_maps").sel(map=f"{kind} 0")
    units = dataset(out, "net-a10", "units").sel(map=f"{kind} 0")
    np.testing.assert_array_equal(maps["rate"], again["rate"])
    np.testing.assert_array_equal(maps["occupancy"], again["occupancy"])
    np.testing.assert_array_equal(maps["field_label"], pf.place_fields(again)["label"])
    for policy in ("rectify", "shift"):
        information = pf.spatial_information(again, negatives=policy)
        np.testing.assert_array_equal(units[f"information_{policy}"], information)
        score = pf.place_cell_score(again, negatives=policy)
        np.testing.assert_array_equal(units[f"score_{policy}"], score)
        assert units[f"score_{policy}"].attrs["long_name"] == score.attrs["long_name"]
    lesser = np.minimum(units["score_rectify"], units["score_shift"])
    np.testing.assert_array_equal(units["score"], lesser)
    beyond = pf.position_variance_explained(recording, given="observation")
    np.testing.assert_array_equal(units["eta2_beyond"], beyond)
    np.testing.assert_array_equal(units["eta2"], pf.position_variance_explained(recording))
    table = pf.place_cells(recording, seed=3, cell_types=False, keep_null=True)
    for name in set(table.data_vars) - {"spatial_information", "place_cell_score"}:
        np.testing.assert_array_equal(units[name], table[name], err_msg=name)
    errors = pf.memory_errors(model, n_walks=4, n_steps=40, seed=3, familiar=familiar)
    found = dataset(out, "net-a10", "memory").sel(maps=kind)
    for name in ("error", "n", "interval"):
        np.testing.assert_array_equal(found[name], errors[name])


@pytest.mark.filterwarnings("ignore::UserWarning")  # few samples
def test_memory_is_that_of_a_control_on_the_novel_map(networks, out):
    options = {"n_walks": 3, "n_steps": 120, "seed": 3, "maps": (0,), "progress": False}
    model, units = pf.load(networks[0]), dataset(out, "net-a10", "units")
    recordings = [pf.record(model, familiar=familiar, **options) for familiar in (True, False)]
    table = pf.place_cells(recordings[0], control=recordings[1], seed=3)
    for name in ("p_memory", "q_memory", "depends_on_memory"):
        np.testing.assert_array_equal(units[name], table[name], err_msg=name)


def test_analyses_take_the_files(out):
    maps, units = dataset(out, "net-a0", "rate_maps"), dataset(out, "net-a0", "units")
    schema.check_rate_maps(maps)
    np.testing.assert_array_equal(pf.spatial_information(maps), units["information_rectify"])
    assert maps["familiar"].values.tolist() == [True, False]
    np.testing.assert_array_equal(
        maps["letter"].values.reshape(2, -1),
        [pf.GridWorld(4, 5, 2, 1).maps[0], pf.GridWorld(4, 5, 2, 1).novel_maps[0]],
    )


def test_every_variable_has_units_and_a_definition(out):
    for file in out.glob("*.nc"):
        with xr.open_dataset(file, engine="netcdf4") as opened:
            for name, values in opened.data_vars.items():
                assert {"units", "long_name"} <= set(values.attrs), (file.name, name)


def test_files_know_where_they_come_from(networks, out):
    for kind in ("memory", "rate_maps", "units"):
        found = schema.read_provenance(dataset(out, "net-a10", kind))
        assert found["steps"][0]["network"]["alpha"] == 10.0
        assert found["steps"][-1]["settings"]["seed"] == 3
        assert found["steps"][-1]["file_sha256"] == pf.load(networks[0]).info["sha256"]


def test_walk_is_the_beginning_of_the_recording(networks, out):
    recording = pf.record(pf.load(networks[0]), n_walks=3, n_steps=120, seed=3, progress=False)
    walk = dataset(out, "net-a10", "walk")
    for name in ("x", "y", "observation", "prediction", "correct", "visited", "window"):
        expected = recording[name].isel(time=slice(20))
        expected = expected if name == "window" else expected.isel(walk=[0])
        np.testing.assert_array_equal(walk[name], expected)
    assert "activation" not in walk


def median(values):
    known = values.values[np.isfinite(values.values)]
    return float(np.median(known)) if known.size else np.nan


def test_numbers_of_the_page_are_those_of_the_files(made, text):
    numbers = Reader(text).numbers
    assert all(len({repr(v) for v in values}) == 1 for values in numbers.values())
    value = {key: values.pop() for key, values in numbers.items()}
    for one in made:
        for kind in measurements.KINDS:
            for memory in ("working", "reference"):
                error = float(one.memory["error"].sel(maps=kind, memory=memory))
                assert value[f"{one.name}/memory/{kind}/{memory}"] == error
        for layer in ("ffn.0", "ffn.1"):
            units = one.units.isel(unit=one.units["layer"].values == layer)
            for i, kind in enumerate(measurements.KINDS):
                on = units.isel(map=i)
                for key in MEASURES:
                    found = value[f"{one.name}/{layer}/{key}/{kind} map"]
                    np.testing.assert_equal(found, median(on[key]))
                fields = int((on["n_fields"] > 0).sum())
                assert value[f"{one.name}/{layer}/with_field/{kind} map"] == fields
                compact = int((on["score"] > 0.5).sum())
                assert value[f"{one.name}/{layer}/compact/{kind} map"] == compact
                for reason, n in zip(*np.unique(on["reason"], return_counts=True), strict=True):
                    assert value[f"{one.name}/{layer}/{reason}/{kind} map"] == n
            for key, null in measurements.NULLS.items():
                assert value[f"{one.name}/{layer}/{key}/null"] == median(units[null].isel(map=0))
            kept = int(units["depends_on_memory"].sum())
            assert value[f"{one.name}/{layer}/depends_on_memory"] == kept
        results = one.interventions
        mean = results.lesions["error"].mean("repeat", skipna=False)
        for selection, fraction in itertools.product(mean["selection"], mean["fraction"]):
            at = {"selection": selection, "fraction": fraction}
            key = f"{one.name}/lesions/trained/reference/{selection.item()}/{fraction.item():g}"
            shown = mean.sel(at | {"maps": "trained", "memory": "reference"})
            np.testing.assert_equal(value[key], float(shown))
            found = float(results.equivalents["alpha"].sel(at))
            if selection == "ordered" and np.isfinite(found):
                assert value[f"{one.name}/equivalents/{fraction.item():g}"] == found
        at = {"maps": "trained", "memory": "reference", "control": "random"}
        at["fraction"] = lesion_section.described_fraction(one)
        gap = results.lesions["difference"].sel(at)
        assert value[f"{one.name}/lesions/random/difference"] == float(gap)
        assert value[f"{one.name}/mg_mM"] == pf.alpha_to_mg(one.model.config.alpha)
        seen = one.walk["visited"].values
        right = int((one.walk["correct"].values & ~seen).sum())
        assert value[f"{one.name}/walk/reference"] == right


def test_every_figure_is_there_and_described(made, text):
    reader = Reader(text)
    alts = [image["alt"] for image in reader.images]
    assert all(alts)
    for one in made:
        for i in range(8):
            layer, index = f"ffn.{i // 4}", i % 4
            assert f"Rate maps of {layer} unit {index} on a trained map and on a novel map." in alts
            value = reader.numbers[f"{one.name}/{layer} unit {index}/score/novel map"]
            assert value == {float(one.units["score"].values[1, i])}
    measures = (
        "spatial information",
        "place-cell score",
        "variance explained",
        "spatial coherence",
    )
    distributions = [f"Distribution of the {measure}" for measure in measures]
    harmed = [
        f"Wrong predictions of reference and working memory against {x}"
        for x in ("α", "the fraction")
    ]
    for begin in ("Path of 20 steps", "Fraction of wrong", *harmed, *distributions):
        assert any(alt.startswith(begin) for alt in alts)
    assert len(alts) == 2 * (page.HERO + 1 + 1 + 8 + 2 + len(page.DRAWN))


def test_images_are_whole_and_follow_the_colours_of_the_page(text):
    for image in Reader(text).images:
        head, data = image["src"].split(",", 1)
        assert head == "data:image/svg+xml;base64"
        svg = base64.b64decode(data).decode()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "currentColor" in svg and "prefers-color-scheme:dark" in svg
        assert figures.INK not in svg


def test_page_refers_to_nothing_outside_its_folder(out, text):
    reader = Reader(text)
    files = {link for link in reader.links if not link.startswith(("data:", "#"))}
    assert files == {f"./{file.name}" for file in out.glob("*.nc")}
    outside = re.sub('"data:[^"]*"', "", text).replace("http-equiv", "")
    assert outside.count("http") == outside.count('"http://www.w3.org/2000/svg"') == 1
    assert text.count("url(") == text.count('"url(#hatch)"') and "@import" not in text
    assert "eval(" not in text and "innerHTML" not in text


def test_page_says_what_it_is_about(made, text):
    for one in made:
        assert one.model.info["sha256"] in text
    for part in ("3 walks of 120 steps", "360 samples", "Seed 3", f"placeformer {pf.__version__}"):
        assert part in text
    assert "share &lt;wrong&gt;" in text
    headings = Reader(text).headings
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    written = re.sub("<script.*?</script>", "", text, flags=re.DOTALL)
    assert "$" not in written and str(Path.cwd()) not in text
    assert not re.search("<(?![a-zA-Z/!])", written)  # every < opens a tag
    assert len(text) < 10e6


def with_errors(one, error, half_width=0.01):
    """The same network with other errors on trained maps."""
    memory = one.memory.copy(deep=True)
    memory["error"].loc[{"maps": "trained"}] = error
    memory["interval"].loc[{"maps": "trained", "bound": "lower"}] = error - half_width
    memory["interval"].loc[{"maps": "trained", "bound": "upper"}] = error + half_width
    return replace(one, memory=memory)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (0.2, 0.6, ("makes 40.0 percentage points fewer", "do not overlap")),
        (0.6, 0.2, ("makes 40.0 percentage points more", "do not overlap")),
        (0.30, 0.31, ("makes 1.0 percentage points fewer", "intervals overlap")),
        (0.3, 0.3, ("makes as many reference-memory errors as", "intervals overlap")),
    ],
)
def test_difference_follows_from_the_errors(made, a, b, words):
    sentence = written("difference", with_errors(made[0], a), with_errors(made[1], b))
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ((0.79, 0.81), "is at chance"),
        ((0.70, 0.75), "is better than chance"),
        ((0.82, 0.86), "is worse than chance"),
        ((np.nan, np.nan), "was not tested"),
    ],
)
def test_control_follows_from_the_interval(made, bounds, words):
    memory = made[0].memory.copy(deep=True)
    memory["interval"].loc[{"maps": "novel", "memory": "reference"}] = list(bounds)
    assert words in written("control", replace(made[0], memory=memory))


def scaled(one, **factors):
    return replace(one, units=one.units.assign({k: one.units[k] * f for k, f in factors.items()}))


def test_policies_agree_or_not(made):
    one = made[0]
    more = scaled(one, information_rectify=2.0, information_shift=2.0)
    mixed = scaled(one, information_rectify=2.0, information_shift=0.5)
    assert "Both policies give the same order" in written("policies", one, more)
    assert "order depends on the policy" in written("policies", one, mixed)


def test_what_needs_memory_follows_from_the_medians(made):
    beyond = made[0].units["eta2_beyond"]

    def told(trained, novel):
        values = xr.ones_like(beyond) * xr.DataArray([trained, novel], dims="map")
        return written("letters", replace(made[0], units=made[0].units.assign(eta2_beyond=values)))

    assert "place still explains 25 % as much" in told(0.4, 0.1)
    assert "none of this requires memory" in told(0.1, 0.4)
    assert "explains nothing beyond the letter" in told(-0.1, 0.4)


def test_best_units_go_by_score_then_by_what_place_explains(made):
    units = made[0].units.copy(deep=True)
    units["score"][0] = [0, 0, 0.9, 0, 0.1, 0, 0, np.nan]
    units["eta2_beyond"][0] = [0.1, 0.3, 0.0, 0.2, 0, 0, 0.5, 0.7]
    one = replace(made[0], units=units)
    assert measurements.best_units(one, "ffn.0", 3) == [2, 1, 3]
    assert measurements.best_units(one, "ffn.1", 9) == [4, 7, 6, 5]


def test_one_network_alone_and_another_activation(tmp_path, undrawn):
    name = save(tmp_path / "gelu", None)
    settings = replace(SETTINGS, memory_steps=12, steps=60)
    found = pf.report(name, out=tmp_path / "out", beside="none", settings=settings, progress=False)
    text = found.read_text(encoding="utf-8")
    assert "<h1>gelu</h1>" in text and "<td>gelu</td>" in text
    assert "Mg²⁺] =" not in text and "give the same order" not in text
    assert "no α to change at test time" in text and "equivalent α with" not in text
    assert not list((tmp_path / "out").glob("*washout*"))


def no_work(*args, **options):
    raise AssertionError("no work may begin")


@pytest.fixture
def idle(monkeypatch):
    """Fail if anything is loaded or measured."""
    for name in ("record", "memory_errors"):
        monkeypatch.setattr(subjects, name, no_work)
    monkeypatch.setattr(zoo, "load", no_work)


def test_folder_below_a_file_is_refused_before_any_work(networks, tmp_path, idle):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out must be where files can be written"):
        pf.report(networks[0], out=tmp_path / "file" / "report")
    with pytest.raises(ValueError, match="out must be a folder, got the file"):
        pf.report(networks[0], out=tmp_path / "file")


def test_folder_without_leave_is_refused_before_any_work(networks, tmp_path, idle, monkeypatch):
    monkeypatch.setattr(write.os, "access", lambda folder, mode: False)
    with pytest.raises(ValueError, match="out must be where files can be written"):
        pf.report(networks[0], out=tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_refused_before_any_work(
    networks, tmp_path, idle, monkeypatch
):
    def mkdir(self, *args, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(ValueError, match="out must be where files can be written.*denied"):
        pf.report(networks[0], out=tmp_path / "report")


def test_page_of_another_kind_is_left_alone(networks, tmp_path, idle):
    (tmp_path / "index.html").write_text("<html>mine</html>")
    with pytest.raises(ValueError, match="out must not contain another page"):
        pf.report(networks[0], out=tmp_path)
    assert (tmp_path / "index.html").read_text() == "<html>mine</html>"


def test_data_that_are_not_of_a_report_are_left_alone(networks, tmp_path, idle):
    (tmp_path / "A.units.nc").write_text("mine")
    with pytest.raises(ValueError, match=r"out must be new or contain.*A.units.nc but no index"):
        pf.report(networks[0], out=tmp_path)
    assert (tmp_path / "A.units.nc").read_text() == "mine"


def test_earlier_report_is_replaced_and_other_files_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for content in ("first", "second"):
        with write.workspace(tmp_path) as folder:
            (folder / "index.html").write_text(f"{write.MARK} {content}")
            if content == "first":  # the subject of the earlier report
                (folder / "A.rate_maps.nc").write_text("")
    assert (tmp_path / "index.html").read_text().endswith("second")
    assert {file.name for file in tmp_path.iterdir()} == {"index.html", "notes.txt"}


@pytest.mark.parametrize("there", [True, False])
def test_a_failure_leaves_nothing_behind(networks, tmp_path, monkeypatch, there):
    out = tmp_path / "report"
    if there:
        out.mkdir()
    monkeypatch.setattr(subjects, "record", no_work)
    with pytest.raises(AssertionError, match="no work"):
        pf.report(
            networks[0], out=out, beside="none", settings=replace(SETTINGS, memory_steps=12),
            progress=False,
        )  # fmt: skip
    assert [file.name for file in tmp_path.rglob("*")] == ["report"] * there


def test_a_network_is_compared_with_the_linear_one_of_its_family():
    def others(subject, beside="auto"):
        return write.compared_with(pf.load(subject), beside)

    assert others("mini-nmda-a10") == ["mini-nmda-a0"]
    assert others("nmda-a10") == ["nmda-a0"]
    assert others("nmda-a10-s1") == ["nmda-a0-s1"]  # the same maps as nmda-a0
    assert others("mini-nmda-a0") == others("mini-gelu") == []  # α = 0 itself, and no α
    assert others("mini-nmda-a10", "none") == others("mini-nmda-a10", None) == []
    assert others("mini-nmda-a10", "b") == ["b"]


def test_two_networks_of_one_name_are_refused(networks, tmp_path):
    other = save(tmp_path / "net-a10", 1.0)
    for options in ({"beside": other}, {}):
        subject = networks[0] if options else [networks[0], other]
        with pytest.raises(ValueError, match="must have different names, got 'net-a10' twice"):
            pf.report(subject, out=tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


def test_network_without_a_world_is_refused(tmp_path):
    name = save(tmp_path / "net", 1.0, world=False)
    with pytest.raises(ValueError, match="must be a GridWorld"):
        pf.report(name, out=tmp_path / "out", beside="none", progress=False)


def test_progress_is_told(networks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "render", lambda *given: write.MARK)
    settings = replace(SETTINGS, memory_steps=12, steps=40)
    pf.report(networks[0], out=tmp_path / "out", beside="none", settings=settings)
    err = capsys.readouterr().err
    told = [f"[{i}/7] net-a10: " for i in range(1, 8)]
    assert all(part in err for part in told) and "[8/" not in err
    assert all(f"{bar}:" in err for bar in ("record", "predict", "shuffles", "lesions", "doses"))


IMAGES = "[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length"


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_browser_shows_every_image_and_sees_one_that_is_broken(out, text, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(out / "index.html", width=400)
        assert browser.run("document.images.length") == len(Reader(text).images)
        assert browser.run(IMAGES) == 0
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
        assert browser.run("document.querySelectorAll('#rows tr').length") == 16
        assert browser.console == []
        broken = text.replace("data:image/svg+xml;base64,", "data:image/svg+xml;base64,!", 1)
        foreign = broken.replace("<main>", '<main><img src="https://example.org/a.png" alt="a">')
        (tmp_path / "page.html").write_text(foreign, encoding="utf-8")
        browser.open(tmp_path / "page.html")
        assert browser.run(IMAGES) == 2
        assert browser.console
