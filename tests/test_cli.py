import io
import json
import signal
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from huggingface_hub import ModelCard

import placeformer as pf
from placeformer import cli
from placeformer.reporting import write as report
from placeformer.training import model_card as card
from placeformer.zoo import registry as zoo

CONFIG = {
    "n_letters": 5, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_head": 4, "d_inner": 4,
    "d_rnn": 4, "chunk": 4, "memory": 4, "dropout": 0.0, "activation": "nmda", "alpha": 10.0,
}  # fmt: skip
SHIPPED = Path(__file__).parents[1] / "zoo" / "recipes" / "nmda-a10.toml"


def tiny_recipe():
    """The text of a shipped recipe, made small: three steps, its schedules without their rises."""
    entries = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    lists = {k: v for k, v in entries["training"].items() if isinstance(v, list)}
    training = {k: v[:1] if v and isinstance(v[0], list) else v for k, v in lists.items()}
    small = {"steps": 3, "walks": 2, "warmup": 1, "evaluate_every": 3, "checkpoint_every": 1}
    small["restarts"] = []
    entries |= {"name": "tiny", "network": CONFIG}
    entries["world"] |= {"side": 4, "n_letters": 5, "n_maps": 2}
    entries["training"] |= training | small
    tables = {k: v for k, v in entries.items() if isinstance(v, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in entries.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    return "\n".join(lines)


@pytest.fixture
def zoo_of_two(tmp_path, monkeypatch):
    """A zoo with two networks."""
    folder = tmp_path / "zoo"
    for alpha in (10.0, 0.5):
        model = pf.NavigationTransformer(
            pf.ModelConfig(**CONFIG | {"alpha": alpha}), pf.GridWorld(4, 5, 2, 0)
        )
        results = {"reference_error_trained": {"value": 0.25, "definition": "share wrong"}}
        pf.save(model.init_weights(0), folder / f"net-a{alpha:g}", results=results)
    monkeypatch.setattr(zoo, "zoo_folder", lambda: folder)
    monkeypatch.setattr(zoo, "pin_of", lambda name: None)
    monkeypatch.setattr(zoo, "PINS", tmp_path / "pins.json")
    for name in ("pins.json", zoo.TABLE):
        (tmp_path / name).write_text("{}")
    return folder


def test_list_shows_the_table_of_the_zoo(zoo_of_two, capsys):
    assert cli.main(["list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:5] == ["name", "activation", "alpha", "mg_mM", "n_maps"]
    first, second = (line.split() for line in lines)
    assert first[:5] == ["net-a0.5", "nmda", "0.5", "1.78", "2"]
    assert second[:6] == ["net-a10", "nmda", "10", "35.7", "2", "0"]
    assert second[6] == "–" and second[8:14] == ["–", "0.2500", "–", "–", "–", "–"]
    assert second[14] == pf.load("net-a10").info["sha256"][:8]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_letters_that_a_file_or_terminal_lacks_are_no_error(zoo_of_two, monkeypatch, encoding):
    for arguments in (["list"], ["info", "net-a10"], ["report", "--help"]):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(arguments) == 0
        stream.flush()
        assert stream.buffer.getvalue()


def test_list_gives_scripts_names_or_everything(zoo_of_two, capsys):
    assert cli.main(["list", "--names"]) == 0
    assert capsys.readouterr().out == "net-a0.5\nnet-a10\n"
    assert cli.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["net-a0.5", "net-a10"]
    assert rows[1]["reference_error_trained"] == 0.25
    assert rows[1]["working_error_novel"] is None
    assert rows[1]["sha256"] == pf.load("net-a10").info["sha256"]


def test_list_takes_a_pattern(zoo_of_two, capsys):
    assert cli.main(["list", "*a10", "--names"]) == 0
    assert cli.main(["list", "gelu*"]) == 0
    out, err = capsys.readouterr()
    assert out == "net-a10\n"
    assert "no network of the zoo has a name like 'gelu*'" in err


def test_list_says_that_silu_is_nmda_1(zoo_of_two, capsys):
    (zoo_of_two / "net-a10").rename(zoo_of_two / "nmda-a1")
    assert cli.main(["list", "silu"]) == 0
    assert "nmda (also silu)" in capsys.readouterr().out.splitlines()[1]


def test_evaluate_prints_the_memory_errors(zoo_of_two, capsys):
    arguments = ["evaluate", "net-a10", "--walks", "3", "--steps", "40", "--seed", "5"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    model = pf.load("net-a10")
    for line, (kind, which) in zip(
        out[1:5], [(k, w) for k in ("trained", "novel") for w in ("working", "reference")],
        strict=True,
    ):  # fmt: skip
        errors = pf.memory_errors(
            model, n_walks=3, n_steps=40, seed=5, familiar=kind == "trained"
        ).sel(memory=which)
        assert line.split()[:3] == [kind, which, f"{float(errors['error']):.4f}"]
        assert line.split()[-1] == str(int(errors["n"]))
    assert out[5].split() == ["chance", "0.8000"]


def test_info_says_what_a_network_is(zoo_of_two, capsys):
    assert cli.main(["info", "net-a10"]) == 0
    assert capsys.readouterr().out == f"{pf.load('net-a10')!r}\n"
    assert cli.main(["info", "net-a10", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "net-a10" and said["alpha"] == 10 and said["world"]["n_maps"] == 2
    assert said["results"] == {"reference_error_trained": 0.25}
    assert said["definitions"] == {"reference_error_trained": "share wrong"}


def test_evaluate_gives_machines_its_table(zoo_of_two, capsys):
    assert cli.main(["evaluate", "net-a10", "--walks", "3", "--steps", "40", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    errors = card.measure(pf.load("net-a10"), n_walks=3, n_steps=40)
    assert [(row["maps"], row["memory"]) for row in rows][1] == ("trained", "reference")
    for row in rows:
        one = errors.sel(maps=row["maps"], memory=row["memory"])
        bounds = [row["low"], row["high"]]
        np.testing.assert_allclose([row["error"], *bounds], [one["error"], *one["interval"]])
        assert row["n"] == int(one["n"]) and row["chance"] == 0.8


def test_report_passes_its_options_on(monkeypatch, tmp_path, capsys):
    asked = {}

    def write(subject, control, out, **options):
        asked.clear()
        asked.update(subject=subject, control=control, out=out, **options)
        return Path(out) / "index.html"

    monkeypatch.setattr(report, "report", write)
    out = str(tmp_path / "here")
    given = ["--out", out, "--beside", "b", "--seed", "3", "--control", "c.nc"]
    of_maps = ["--by", "y,x", "--bins", "20", "--smooth", "1.5"]
    assert cli.main(["report", "a", *given, *of_maps]) == 0
    options = {"beside": "b", "seed": 3, "by": ["y", "x"], "bins": 20, "smooth": 1.5}
    of_modules = dict.fromkeys(("behaviour", "inputs", "layers"))
    options |= of_modules
    assert asked == {"subject": "a", "control": "c.nc", "out": out, **options}
    assert capsys.readouterr().out.strip() == str(tmp_path / "here" / "index.html")
    assert cli.main(["report", "a", "b.zarr"]) == 0
    default = dict.fromkeys(("by", "bins", "smooth")) | {"beside": "auto", "seed": 0} | of_modules
    assert asked == {"subject": ["a", "b.zarr"], "control": None, "out": "report", **default}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe of three steps, whose network is measured on two short walks."""
    (tmp_path / "tiny.toml").write_text(tiny_recipe())
    monkeypatch.setattr(card, "publish", partial(card.publish, n_walks=2, n_steps=40))
    return tmp_path / "tiny.toml"


def test_train_saves_a_network_that_load_reads(recipe, tmp_path, capsys):
    out = tmp_path / "net"
    assert cli.main(["train", str(recipe), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    model = pf.load(out)
    assert model.config.alpha == 10.0
    assert "reference_error_trained" in model.info["results"]
    assert (out / "recipe.toml").read_text() == recipe.read_text()
    assert (out / "history.csv").read_text().splitlines()[1].startswith("3,")
    assert (tmp_path / "net.training" / "checkpoint.safetensors").is_file()


def test_train_goes_on_where_it_stopped(recipe, tmp_path):
    pf.train(recipe, tmp_path / "b.training", stop_at=2, progress=False)
    for name in ("a", "b"):
        assert cli.main(["train", str(recipe), "--out", str(tmp_path / name)]) == 0
    a, b = (pf.load(tmp_path / name).state_dict() for name in ("a", "b"))
    for name in a:
        np.testing.assert_array_equal(a[name].numpy(), b[name].numpy())


def test_a_training_out_of_time_says_how_to_go_on(recipe, tmp_path, capsys):
    out = tmp_path / "net"
    arguments = ["train", str(recipe), "--out", str(out), "--minutes", "0"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and not out.exists()
    assert "stopped at step 1 of 3; about" in captured.err
    assert f"checkpoint is in {out}.training: run the same command again to go on" in captured.err
    assert cli.main([*arguments, "--publish"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert "Stopped at step 2 of the 3" in (out / "README.md").read_text()
    pf.load(out)
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "x"), "--minutes", "nan"]) == 2
    assert "minutes must be a number of at least 0, got nan" in capsys.readouterr().err


def test_init_fine_tunes(recipe, tmp_path, capsys):
    first, tuned = tmp_path / "first", tmp_path / "tuned"
    pf.save(pf.NavigationTransformer(pf.ModelConfig(**CONFIG)).init_weights(5), first)
    arguments = ["train", str(recipe), "--out", str(tuned)]
    assert cli.main([*arguments, "--init", "mini-nmda-a10"]) == 2
    assert "init must have the sizes of the recipe's network" in capsys.readouterr().err
    assert cli.main([*arguments, "--init", str(first)]) == 0
    assert "started from the weights of `first`" in (tuned / "README.md").read_text()
    assert (tuned / "recipe.toml").read_text().startswith(recipe.read_text())


@pytest.mark.parametrize("options", [[], ["--ensemble"]])
def test_sweep_refuses_a_file_before_it_trains(recipe, tmp_path, monkeypatch, capsys, options):
    monkeypatch.setattr("placeformer.training.sweep.connect", never)
    monkeypatch.setattr("placeformer.training.sweep.train_ensemble", never)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "net.training").write_text("mine")
    for out in ("file", "file/net", "net"):
        assert cli.main(["sweep", str(recipe), "--out", str(tmp_path / out), *options]) == 2
        assert f"{tmp_path}/{'net.training' if out == 'net' else 'file'} is a file" in (
            capsys.readouterr().err
        )
    assert (tmp_path / "file").read_text() == "mine"


MINE = """
import placeformer as pf
from torch import nn
@pf.register("of-the-cli")
class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.config = {"n": n}
        self.layer = nn.Linear(n, 1)
    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture
def folder_of_mine(tmp_path, monkeypatch):
    """A network in ./net, the module mine_of_the_cli, which registers its class, and broken."""
    from importlib import import_module

    from placeformer.zoo.classes import CLASSES

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "mine_of_the_cli.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("import no_such_package")
    model = import_module("mine_of_the_cli").Net(2)
    error = {"value": 0.25, "definition": "share of wrong answers"}
    pf.save(model, "net", results={"decoding_error": error})
    del CLASSES["of-the-cli"], sys.modules["mine_of_the_cli"]
    sys.path.remove(str(tmp_path))
    yield model
    CLASSES.pop("of-the-cli", None)
    sys.modules.pop("mine_of_the_cli", None)


IMPORT = ["--import", "mine_of_the_cli"]


def test_push_takes_a_licence_a_pull_request_and_modules(folder_of_mine, local_hub, capsys):
    assert cli.main(["push", "./net", "alice/net"]) == 2
    assert "(on the command line: --import mine_of_the_cli)" in capsys.readouterr().err
    assert cli.main(["push", "./net", "alice/net", *IMPORT, "--license", "cc-by-4.0"]) == 0
    assert capsys.readouterr().out.startswith(f"{local_hub.url}/alice/net/commit/")
    assert ModelCard.load("alice/net").data.license == "cc-by-4.0"
    assert cli.main(["push", "./net", "alice/net", "--create-pr"]) == 0
    assert capsys.readouterr().out.strip() == f"{local_hub.url}/alice/net/discussions/1"


def test_info_describes_a_network_of_a_class_of_ones_own(folder_of_mine, capsys):
    assert cli.main(["info", "./net"]) == 2
    assert "write `from mine_of_the_cli import Net` before" in capsys.readouterr().err
    assert cli.main(["info", "./net", *IMPORT]) == 0
    lines = ["Net net", "class: of-the-cli", "config: {'n': 2}", "parameters: 3"]
    assert list(map(str.strip, capsys.readouterr().out.splitlines())) == [
        *lines,
        "decoding error: 0.25",
    ]
    assert cli.main(["info", "./net", *IMPORT, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["config"] == {"n": 2} and said["parameters"] == 3
    assert said["definitions"] == {"decoding_error": "share of wrong answers"}


@pytest.mark.parametrize(
    ("module", "status", "message"),
    [
        ("no_such_module", 2, "--import must name a module that can be imported, installed or in"),
        ("mine_of_the_cli.py", 2, "without a folder and without .py, got 'mine_of_the_cli.py'"),
        ("./mine_of_the_cli", 2, "without a folder and without .py, got './mine_of_the_cli'"),
        ("json", 2, "expected a registered class, got 'of-the-cli'; it was mine_of_the_cli.Net"),
        ("broken", 1, "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
@pytest.mark.parametrize("command", ["info", "report", "evaluate"])
def test_modules_that_cannot_be_imported_or_register_nothing(
    folder_of_mine, capsys, command, module, status, message
):
    assert cli.main([command, "./net", "--import", module]) == status
    assert message in capsys.readouterr().err


def test_evaluate_refuses_a_network_that_predicts_no_letters(folder_of_mine, capsys):
    assert cli.main(["evaluate", "./net", *IMPORT]) == 2
    assert "NAME must be a navigation Transformer" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["behaviour", "control", "beside"])
def test_report_names_the_option_of_what_it_cannot_open(option, tmp_path, capsys):
    arguments = ["report", "mini-nmda-a10", f"--{option}", "nope", "--out", str(tmp_path / "page")]
    assert cli.main(arguments) == 2
    assert f"{option}: source must be a network of the zoo" in capsys.readouterr().err


def test_report_of_a_network_of_a_class_of_ones_own(folder_of_mine, capsys):
    rng = np.random.default_rng(0)
    dims = ("walk", "time")
    velocity = rng.normal(size=(4, 100, 2)).astype(np.float32)
    x, y = rng.integers(0, 4, (2, 4, 100))
    walks = xr.Dataset({"x": (dims, x), "y": (dims, y), "velocity": ((*dims, "axis"), velocity)})
    walks.to_netcdf("walks.nc")
    run = ["report", "./net", *IMPORT, "--layers", "layer"]
    for options, message in (
        ([], "behaviour must be the walks along which net is recorded"),
        (["--inputs", "velocity"], "add --behaviour FILE"),
        (["--behaviour", "./net"], "--behaviour must be a file of walks (.nc or .zarr), got ./net"),
        (["--behaviour", "walks.nc"], "forward or inputs must say how the network is run"),
        (["--behaviour", "walks.nc", "--inputs", "speed"], "(x, y, velocity), got 'speed'"),
    ):
        assert cli.main([*run, *options]) == 2
        assert message in capsys.readouterr().err
    assert cli.main([*run, "--behaviour", "walks.nc", "--inputs", "velocity"]) == 0
    assert capsys.readouterr().out.strip().endswith("report/index.html")
    with torch.no_grad():
        expected = folder_of_mine.layer(torch.from_numpy(velocity))[..., 0].numpy()
    here = (x == 1) & (y == 2)
    rate = xr.load_dataset("report/net.rate_maps.nc")["rate"].squeeze().sel(x=1, y=2)
    np.testing.assert_allclose(rate, expected[here].mean(), rtol=1e-5)


def test_train_refuses_a_folder_in_use_before_it_trains(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("placeformer.training.trainer.train", never)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "notes.txt").write_text("mine")
    assert cli.main(["train", str(recipe), "--out", str(tmp_path / "net")]) == 2
    assert "--out must be a new or empty folder" in capsys.readouterr().err


def never(*args, **options):
    raise AssertionError("must not be called")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["report", "./nowhere"], 2, "nowhere"),
        (["report", "nmda-a1O"], 2, "source must be a network of the zoo or a folder"),
        (["report", "org/name", "--beside", "none"], 2, "the hub has no such repository"),
        (["push", "net-a10", "org/name@v1"], 2, "repo_id must be"),
        (["push", "net-a10", "bob/net"], 2, "the token may not write there"),
        (["pull", "bob/net", "copy"], 2, "the hub has no such repository"),
        (["report", "x", "--seed", "-1"], 2, "'--seed': -1 is not in the range x>=0"),
        (["evaluate", "./nowhere"], 2, "nowhere"),
        (["evaluate", "net-a10", "--walks", "0"], 2, "'--walks': 0 is not in the range x>=1"),
        (["evaluate", "net-a10", "--steps", "5"], 2, "n_steps"),
        (["train", "missing.toml"], 2, "missing.toml"),
    ],
)
def test_errors_are_one_message(
    zoo_of_two, local_hub, tmp_path, monkeypatch, capsys, arguments, status, message
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == status
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("placeformer: ") and message in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*report*"))


def test_push_and_pull_carry_a_network_there_and_back(
    zoo_of_two, local_hub, tmp_path, capsys, monkeypatch
):
    arguments = ["push", "net-a10", "alice/net", "--private", "--revision", "dev", "--message", "x"]
    assert cli.main(arguments) == 0
    repository = local_hub.repositories["alice/net"]
    assert repository.private and repository.history("dev") == ["x", "initial commit"]
    assert capsys.readouterr().out.strip().endswith(repository.branches["dev"])
    assert cli.main(["pull", "alice/net@dev", str(tmp_path / "copy")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "copy")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.main(["pull", "alice/net@dev", "~/at-home"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "at-home")
    for name in ("config.json", "model.safetensors"):
        copied = (tmp_path / "copy" / name).read_bytes()
        assert copied == (zoo_of_two / "net-a10" / name).read_bytes()


def test_unforeseen_errors_have_another_status(monkeypatch, capsys):
    monkeypatch.setattr(report, "report", lambda *a, **k: 1 / 0)
    assert cli.main(["report", "a"]) == 1
    assert "ZeroDivisionError: division by zero (--debug shows where)" in capsys.readouterr().err
    for arguments in (["--debug", "report", "a"], ["report", "a", "--debug"]):
        with pytest.raises(ZeroDivisionError):
            cli.main(arguments)


def test_interrupt_is_130(monkeypatch, capsys):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "report", interrupt)
    assert cli.main(["report", "a"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_interrupt_in_the_middle_leaves_nothing_behind(zoo_of_two, tmp_path):
    arguments = ["report", str(zoo_of_two / "net-a10"), "--beside", "none", "--out", "there/report"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background job ignores it
    with subprocess.Popen(
        [sys.executable, "-m", "placeformer", *arguments],
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=heed,
    ) as running:  # fmt: skip
        said = ""
        while "memory errors" not in said:  # the folder is there, and the work has begun
            said = running.stderr.readline()
            assert said
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=120)[1]
    assert running.returncode == 130
    assert said.endswith("placeformer: interrupted\n") and "Traceback" not in said
    assert not (tmp_path / "there").exists()


def test_help_says_what_the_exit_status_means(capsys):
    assert cli.main(["--help"]) == 0
    assert "130 when interrupted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["reprot"], "No such command 'reprot'"),
        (["report"], "Missing argument 'SUBJECT...'"),
        (["report", "a", "--sed", "1"], "'--seed'"),
        (["report", "a", "--seed", "x"], "Invalid value for '--seed': 'x'"),
        (["list", "--names", "--json"], "--names and --json exclude each other"),
        (["sweep", "a", "--out", "b", "--workers", "2", "--ensemble"], "--workers and --ensemble"),
    ],
)
def test_wrong_usage_is_2(arguments, message, capsys):
    assert cli.main(arguments) == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("Usage: placeformer")
    assert error.startswith("placeformer: ") and message in error


@pytest.mark.parametrize(
    "command",
    [[], ["list"], ["info"], ["report"], ["train"], ["sweep"], ["evaluate"], ["push"], ["pull"]],
)
def test_help_has_an_example(command, capsys):
    assert cli.main([*command, "--help"]) == 0
    assert f"Example: placeformer {' '.join(command)}" in capsys.readouterr().out


def test_command_line_is_light_and_knows_its_version():
    code = (
        "import sys, json, placeformer.cli as cli\n"
        "print(json.dumps([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules]))\n"
        "cli.main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, version = done.stdout.splitlines()
    assert json.loads(loaded) == []
    assert version == f"placeformer {pf.__version__}"
