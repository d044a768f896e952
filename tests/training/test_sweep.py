"""Sweeps: what is missing is trained, what is lost is trained on, what fails stops nothing."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import pytest
from helpers.recipes import FAMILY, RECIPE, assert_bit_equal, toml

from placeformer import cli
from placeformer._state_files import load_state
from placeformer.training import model_card as card
from placeformer.training import sweep
from placeformer.training import sweep as cluster
from placeformer.training.recipe import Recipe
from placeformer.training.trainer import CHECKPOINT, train
from placeformer.zoo import folder as hub
from placeformer.zoo.config import WEIGHTS

distributed = pytest.importorskip("distributed")


def recipe(name, **training):
    steps = {"evaluate_every": 24, "checkpoint_every": 7}
    return RECIPE | {"name": name, "training": RECIPE["training"] | steps | training}


def write(folder, entries):
    file = folder / f"{entries['name']}.toml"
    file.write_text(toml(entries))
    return file


def halves(model):
    """Weights as they are stored."""
    return {name: weight.half().float() for name, weight in model.state_dict().items()}


@pytest.fixture
def quick(monkeypatch):
    """Networks are measured on a few short walks."""
    monkeypatch.setattr(card, "publish", partial(card.publish, n_walks=8, n_steps=32))


@pytest.fixture
def worker(monkeypatch):
    """The worker that a task finds itself on, and all it was told."""
    told = []
    fake = SimpleNamespace(
        state=SimpleNamespace(nthreads=1), log_event=lambda topic, news: told.append(news)
    )
    monkeypatch.setattr(distributed, "get_worker", lambda: fake)
    fake.told = told
    return fake


@pytest.fixture
def no_cluster(monkeypatch):
    def never(*arguments):
        raise AssertionError("no cluster is needed")

    monkeypatch.setattr(sweep, "connect", never)


def test_where_nothing_is_missing_no_cluster_is_started(
    tmp_path, quick, worker, no_cluster, capsys
):
    file, out = write(tmp_path, recipe("tiny")), tmp_path / "out"
    sweep.train_one(file.read_text(), out, "cpu", "topic")
    before = (out / "tiny" / WEIGHTS).stat().st_mtime_ns
    (row,) = sweep.run_sweep([file], out).to_dict("records")
    results = hub.read(out / "tiny").info["results"]
    assert (row["name"], row["state"], row["steps"]) == ("tiny", "found", 24)
    assert row["seconds"] > 0
    assert {key: row[key] for key in sweep.ERRORS} == {key: results[key] for key in sweep.ERRORS}
    assert cli.main(["sweep", str(file), "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["tiny", "found", "24"]
    assert (out / "tiny" / WEIGHTS).stat().st_mtime_ns == before
    sweep.train_one(file.read_text(), out, "cpu", "topic")  # as after a lost connection
    assert (out / "tiny" / WEIGHTS).stat().st_mtime_ns == before


def test_a_task_goes_on_from_the_checkpoint_and_ends_bit_equal(tmp_path, quick, worker):
    text = toml(recipe("tiny"))
    entries = Recipe.from_dict(recipe("tiny"))
    solo = train(entries, tmp_path / "solo", progress=False)
    train(entries, tmp_path / "out.training" / "tiny", stop_at=7, progress=False)
    sweep.train_one(text, tmp_path / "out", "cpu", "topic")
    stored = hub.read(tmp_path / "out" / "tiny")
    assert_bit_equal(stored.state_dict(), halves(solo.model))
    (name, step, said, first), *_, last = worker.told
    assert (name, step, first) == ("tiny", 8, True)
    assert "loss" in said and "reference error" in said
    assert last == ["tiny", 24, "measuring", False]
    assert (tmp_path / "out" / "tiny" / "recipe.toml").read_text() == text


def test_workers_with_more_threads_are_refused(tmp_path, worker):
    worker.state.nthreads = 2
    with pytest.raises(ValueError, match=r"must have one thread each .*got 2"):
        sweep.train_one(toml(recipe("tiny")), tmp_path / "out", "cpu", "topic")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of distributed's own sockets
def test_workers_keep_the_memory_they_will_need_again(monkeypatch):
    """Else every step maps its arrays anew, and takes more than twice as long."""
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with cluster.connect(None, 1, 1) as client:
        assert client.submit(os.environ.get, "MALLOC_TRIM_THRESHOLD_").result() is None


def test_a_run_that_fails_does_not_stop_the_others(tmp_path, quick, capsys):
    too_many = recipe("bad", maps=[[0, 8]])
    files = [write(tmp_path, entries) for entries in (too_many, recipe("good"))]
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    with distributed.LocalCluster(**options, dashboard_address=":0") as local:
        arguments = [*map(str, files), "--out", str(tmp_path / "out")]
        assert cli.main(["sweep", *arguments, "--scheduler", local.scheduler_address]) == 1
    out, err = capsys.readouterr()
    bad, good = out.splitlines()[1:]
    assert bad.startswith("bad   failed: ValueError: training.maps must stay within world.n_maps")
    assert bad.split()[-4:] == ["–"] * 4
    assert good.split()[:3] == ["good", "trained", "24"]
    assert "1 of 2 runs failed" in err and "good: starts" in err and "good: trained" in err
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["good"]


def test_what_is_in_the_way_is_refused_before_anything_is_trained(tmp_path, worker, no_cluster):
    file, out = write(tmp_path, recipe("tiny")), tmp_path / "out"
    (out / "tiny").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"out/tiny must be new, or made by this recipe"):
        sweep.run_sweep([file], out)
    (out / "tiny" / "recipe.toml").write_text(toml(recipe("tiny", steps=25)))
    with pytest.raises(ValueError, match=r"out/tiny was made with another recipe"):
        sweep.run_sweep([file], out)


def test_two_recipes_of_one_name_are_refused(tmp_path, no_cluster):
    (tmp_path / "b").mkdir()
    files = [write(folder, recipe("tiny")) for folder in (tmp_path, tmp_path / "b")]
    with pytest.raises(ValueError, match=r"got 'tiny' in \S+tiny\.toml and in \S+tiny\.toml"):
        sweep.run_sweep(files, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, and None with a scheduler, got 0"),
        ({"workers": 2, "scheduler": "tcp://x:1"}, "None with a scheduler, got 2"),
        ({"scheduler": "nowhere://x"}, "scheduler must be the address of a dask scheduler"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        sweep.run_sweep([write(tmp_path, recipe("tiny"))], tmp_path / "out", **options)


def test_without_dask_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'placeformer\[sweep\]'"):
        sweep.run_sweep([write(tmp_path, recipe("tiny"))], tmp_path / "out")


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (distributed.KilledWorker("t", SimpleNamespace(address=""), 4), "died several times"),
        (KeyError("x"), "failed: KeyError: 'x'"),
        (None, "failed: the scheduler was lost"),
    ],
)
def test_every_ending_is_told(error, how):
    task = SimpleNamespace(status="error", exception=lambda: error)
    assert how in sweep.ending(task)


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_sweep_lose_nothing(tmp_path):
    """Two processes: one worker is killed, then the sweep itself, then it is run to its end."""
    psutil = pytest.importorskip("psutil")
    file, out = tmp_path / "family.toml", tmp_path / "out"
    steps = {"steps": 200, "evaluate_every": 200, "checkpoint_every": 1}
    two = {"alphas": [10], "activations": ["relu"], "seeds": [0]}
    file.write_text(
        family_toml(
            FAMILY["family"] | two,
            FAMILY | {"network": FAMILY["network"] | {"chunk": 32, "memory": 32}},
            FAMILY["training"] | steps,
        )
    )
    command = [sys.executable, "-m", "placeformer.cli", "sweep", str(file), "--out", str(out)]
    command += ["--workers", "2"]
    runs = [tmp_path / "out.training" / f"mini-{unit}" for unit in ("nmda-a10", "relu")]

    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
        await_steps(runs, process)
        workers = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if any("spawn_main" in part for part in child.cmdline())
        ]
        assert len(workers) == 2
        workers[0].send_signal(signal.SIGKILL)
        await_text(tmp_path / "log", "(its worker was lost)", process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        psutil.wait_procs(workers, timeout=60)
    steps = [load_state(run / CHECKPOINT)["step"] for run in runs]
    assert not any((out / run.name).exists() for run in runs)

    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for run, step in zip(runs, steps, strict=True):
        assert 1 < step <= 200
        assert f"{run.name}: resumes at step" in done.stderr or step == 200
        recipe = Recipe.read(out / run.name / "recipe.toml")
        solo = train(recipe, tmp_path / "solo" / run.name, progress=False)
        assert_bit_equal(hub.read(out / run.name).state_dict(), halves(solo.model))


def family_toml(family, entries, training):
    """Text of a family file."""
    text = toml(entries | {"name": "", "seed": 0, "training": training})
    lines = [f"{k} = {v!r}".replace("'", '"') for k, v in family.items()]
    return "\n".join(["[family]", *lines, text[text.index("[world]") :]])


def await_steps(runs, process, timeout=600):
    """Wait until every run has a checkpoint."""
    deadline = time.monotonic() + timeout
    while not all((run / CHECKPOINT).is_file() for run in runs):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def await_text(file, text, process, timeout=600):
    """Wait until a log says something."""
    deadline = time.monotonic() + timeout
    while text not in file.read_text():
        assert process.poll() is None and time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)
