"""The command line: ``placeformer list``, ``info``, ``report``, ``train``, ``push`` and others."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
STATUS = """Exit status: 0 on success; 2 for bad input; 130 when interrupted (Ctrl-C), which leaves
nothing half-written; 1 for any other error."""
SHORT = {
    "working_error_trained": "working",
    "reference_error_trained": "reference",
    "working_error_novel": "working_novel",
    "reference_error_novel": "reference_novel",
    "place_cell_fraction_trained": "place_cells",
    "place_cell_fraction_novel": "place_cells_novel",
}
"""Columns of measured results, and the shorter headers that the command line prints for them."""

Command = Callable[..., Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        Arguments of the command line; by default those of the process.

    Returns
    -------
    int
        0 on success; 2 for bad input; 130 when interrupted; 1 for any other error. An error is
        one message on standard error; ``--debug`` shows its traceback.
    """
    # Let threads sleep while they wait for each other, so that other programs do not slow them
    # down. This applies to libraries that are imported after this line.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    state = {"debug": False}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escape what the stream cannot encode
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(arguments, "placeformer", standalone_mode=False, obj=state)
        return int(status or 0)
    except click.Abort:  # click turns Ctrl-C into it
        return fail("interrupted", INTERRUPTED)
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        return fail(error.format_message(), BAD_INPUT)
    except Exception as error:
        if state["debug"]:
            raise
        files = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
        if isinstance(error, (ValueError, *files)):
            return fail(str(error) or type(error).__name__, BAD_INPUT)
        return fail(f"{type(error).__name__}: {error} (--debug shows where)", FAILED)


def fail(message: str, status: int) -> int:
    """Print an error message and return the exit status."""
    click.echo(f"placeformer: {message}", err=True)
    return status


def debug_option(command: Command) -> Command:
    """Add the option ``--debug``, which may come before or after the name of the command."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(dict)["debug"] = True

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error.",
    )(command)


def print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the version and exit; it is looked up only here."""
    if value:
        from placeformer import __version__

        click.echo(f"placeformer {__version__}")
        context.exit()


def exclusive(**options: object) -> None:
    """Raise if more than one of these options is given."""
    given = [f"--{name}" for name, value in options.items() if value not in (None, False)]
    if len(given) > 1:
        raise click.UsageError(
            f"{' and '.join(given)} exclude each other: give only one of them",
            click.get_current_context(),
        )


@click.group(
    no_args_is_help=False,
    epilog=f"\b\nExample: placeformer report nmda-a10 --out report\n\n{STATUS}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version and exit.",
)
@debug_option
def cli() -> None:
    """Place cells and memory consolidation in Transformers."""


def add_command(example: str) -> Callable[[Command], click.Command]:
    """Register a function as a command, with ``--debug`` and an example below its help."""

    def register(function: Command) -> click.Command:
        name = example.partition(" ")[0]
        epilog = f"\b\nExample: placeformer {example}"
        return cli.command(name, epilog=epilog)(debug_option(function))

    return register


device_option = click.option(
    "--device", default="cpu", show_default=True, help="Device to train on: cpu, cuda, ..."
)
import_option = click.option(
    "--import",
    "modules",
    metavar="MODULE",
    multiple=True,
    help="Your module that registers the class of the network (pf.register). It is imported first, "
    "from the current folder too.",
)
minutes_option = click.option(
    "--minutes",
    type=float,
    metavar="M",
    help="Stop training after M minutes; run the same command again to continue.",
)


@add_command('list "nmda-*"')
@click.argument("pattern", default="*")
@click.option("--names", is_flag=True, help="Print only the names, one per line.")
@click.option("--json", "as_json", is_flag=True, help="Print every column of the table as JSON.")
def list_networks(pattern: str, names: bool, as_json: bool) -> None:
    """List the networks of the zoo.

    PATTERN is a shell pattern of names (default: all).
    """
    from placeformer.zoo import registry

    exclusive(names=names, json=as_json)
    table = registry.zoo_table(pattern)
    if table.empty:
        click.echo(f"no network of the zoo has a name like {pattern!r}", err=True)
    if as_json:
        click.echo(table.to_json(orient="records", indent=2))
    elif names:
        for name in table["name"]:
            click.echo(name)
    elif len(table):
        table["activation"] += [f" (also {alias})" if alias else "" for alias in table.pop("alias")]
        table["sha256"] = table["sha256"].str[:8]
        formats = dict.fromkeys(SHORT.values(), "{:.4f}") | {"alpha": "{:g}", "mg_mM": "{:.3g}"}
        print_table(table.rename(columns=SHORT), formats)


@add_command("info nmda-a10")
@click.argument("name")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything as JSON, with the definition of every number.",
)
@import_option
def info(name: str, as_json: bool, modules: Sequence[str]) -> None:
    """Describe a network and the results stored with it.

    NAME is a network of the zoo, a folder, or a repository of the model hub.
    """
    from placeformer.models.transformer import NavigationTransformer
    from placeformer.zoo import registry

    import_modules(modules)
    model = registry.load(name)
    other = not isinstance(model, NavigationTransformer)
    facts = registered_facts(model) if other else model.summary()
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    elif other:
        results = facts.pop("results")
        click.echo(f"{type(model).__name__} {facts.pop('name')}")
        for key in ("class", "config", "parameters"):
            click.echo(f"  {key}: {facts[key]}")
        for key, value in results.items():
            click.echo(f"  {key.replace('_', ' ')}: {value:.4g}")
    else:
        click.echo(repr(model))


def registered_facts(model: Any) -> dict[str, Any]:
    """Facts about a network of a registered class, in types that JSON has."""
    from placeformer.zoo.classes import config_of

    return {**model.info, "config": config_of(model, [])}


@add_command("report nmda-a10 --out report")
@click.argument("subjects", nargs=-1, required=True, metavar="SUBJECT...")
@click.option("--out", default="report", show_default=True, help="Folder to write.")
@click.option(
    "--control", metavar="FILE", help="Recording of the same units on novel maps (.nc or .zarr)."
)
@click.option(
    "--beside",
    metavar="NAME",
    help="Subject to compare a single network with, or none (default: the network of the zoo that "
    "differs from it only in that its α is 0, if there is one).",
)
@click.option(
    "--behaviour",
    metavar="FILE",
    help="Walks for a network of your own class (.nc or .zarr, dims walk and time).",
)
@click.option(
    "--inputs",
    metavar="NAMES",
    help="Variables of the behaviour that the network is called with: a,b.",
)
@click.option(
    "--layers", metavar="NAMES", help="Layers of the network to record: names or patterns, a,b."
)
@import_option
@click.option("--by", metavar="AXES", help="Position axes of recordings, such as y,x or x.")
@click.option("--bins", type=click.IntRange(min=1), help="Number of bins on each axis.")
@click.option(
    "--smooth",
    type=float,
    metavar="BINS",
    help="Standard deviation of the Gaussian that smooths maps.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed of walks and shuffles.",
)
def report(
    subjects: Sequence[str],
    out: str,
    control: str | None,
    beside: str | None,
    behaviour: str | None,
    inputs: str | None,
    layers: str | None,
    modules: Sequence[str],
    by: str | None,
    bins: int | None,
    smooth: float | None,
    seed: int,
) -> None:
    """Write an HTML report on networks and recordings.

    All numbers are measured; the report is one page and the netCDF files behind it. SUBJECT is a
    network of the zoo, a folder, a repository of the model hub, or the file of a Recording (.nc or
    .zarr); several are shown side by side. A network of your own class needs --import,
    --behaviour and --inputs. --by, --bins and --smooth are for recordings.
    """
    from placeformer.reporting import write

    import_modules(modules)
    walks, arguments = behaviour_and_inputs(behaviour, split(inputs))
    page = write.report(
        subjects[0] if len(subjects) == 1 else list(subjects),
        control,
        out,
        beside="auto" if beside is None else beside,
        behaviour=walks,
        inputs=arguments,
        layers=split(layers),
        by=split(by),
        bins=bins,
        smooth=smooth,
        seed=seed,
    )
    click.echo(page.resolve())


def split(names: str | None) -> list[str] | None:
    """Split a list of names at its commas; None stays None."""
    return None if names is None else [name.strip() for name in names.split(",")]


def behaviour_and_inputs(
    file: str | None, names: Sequence[str] | None
) -> tuple[xr.Dataset | None, dict[str, xr.DataArray] | None]:
    """Read walks from a file, and take the inputs of a network out of them."""
    import xarray as xr

    from placeformer.reporting.subjects import opened

    if file is None:
        if names is not None:
            raise ValueError("--inputs names variables of the walks: add --behaviour FILE")
        return None, None
    walks = opened(file, "behaviour")
    if not isinstance(walks, xr.Dataset):
        raise ValueError(f"--behaviour must be a file of walks (.nc or .zarr), got {file}")
    unknown = [name for name in names or () if name not in walks.variables]
    if unknown:
        there = ", ".join(map(str, walks.variables))
        raise ValueError(f"--inputs must name variables of {file} ({there}), got {unknown[0]!r}")
    if names is None:
        return walks, None
    return walks.drop_vars(names), {name: walks[name] for name in names}


@add_command("train zoo/recipes/nmda-a10.toml --out my-network")
@click.argument("recipe", metavar="RECIPE.toml")
@click.option(
    "--out",
    metavar="FOLDER",
    help="New folder for the network (default: the name in the recipe). Checkpoints are written "
    "to FOLDER.training.",
)
@click.option(
    "--init",
    metavar="NAME",
    help="Fine-tune: start from the weights of this network (of the zoo, a folder, or a "
    "repository) instead of random ones.",
)
@device_option
@minutes_option
@click.option(
    "--publish",
    is_flag=True,
    help="With --minutes: write the network even if training stops before the last step; its card "
    "then says so.",
)
def train(
    recipe: str,
    out: str | None,
    init: str | None,
    device: str,
    minutes: float | None,
    publish: bool,
) -> None:
    """Train a network, or resume a run that was stopped.

    The trained network is measured and saved with its card as a folder that `placeformer info`,
    `placeformer push` and `pf.load` read.
    """
    from placeformer.training import model_card, trainer
    from placeformer.training.recipe import Recipe

    what = Recipe.read(recipe)
    folder = Path(out or what.name).expanduser().resolve()
    if folder.is_mount():
        raise ValueError(
            "--out must not be a mount point, since checkpoints are kept next to it, got "
            f"{folder}; choose {folder / what.name}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out must be a new or empty folder, got {folder}")
    checkpoints = folder.with_name(folder.name + ".training")
    run = trainer.train(what, checkpoints, init=init, device=device, minutes=minutes)
    if run.step < what.training.steps:
        click.echo(stopped(run.step, what.training.steps, run.seconds, checkpoints), err=True)
        if not publish:
            return
    model_card.publish(run, folder, recipe=recipe)
    click.echo(folder.resolve())


def stopped(step: int, steps: int, seconds: float, checkpoints: Path) -> str:
    """Say that a run has stopped, how long it still takes, and how to continue it."""
    left = (steps - step) * seconds / step / 60
    return (
        f"stopped at step {step:,} of {steps:,}; about {left:,.0f} more minutes are needed. The "
        f"checkpoint is in {checkpoints}: run the same command again to go on, without --minutes "
        "to finish, or with --publish to write the network as it is now"
    )


@add_command("sweep zoo/families/mini.toml --out mini")
@click.argument("files", nargs=-1, required=True, metavar="FILE.toml...")
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    help="Folder for the networks, each in FOLDER/NAME. Checkpoints are written to "
    "FOLDER.training.",
)
@click.option(
    "--workers", type=int, metavar="N", help="Number of processes (default: one per core)."
)
@click.option(
    "--scheduler",
    metavar="tcp://HOST:PORT",
    help="Run on this dask cluster, whose workers have one thread each and can write to FOLDER.",
)
@click.option(
    "--ensemble",
    is_flag=True,
    help="Train all networks at once in this process, the best use of one large GPU; they may "
    "differ only in seed, maps, activation and alpha.",
)
@minutes_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def sweep(
    files: Sequence[str],
    out: str,
    workers: int | None,
    scheduler: str | None,
    ensemble: bool,
    minutes: float | None,
    device: str,
    as_json: bool,
) -> int:
    """Train the missing networks of recipes or families of recipes.

    By default there is one process per core.
    """
    from datetime import timedelta

    from placeformer.training import sweep as sweeps

    exclusive(workers=workers, scheduler=scheduler, ensemble=ensemble)
    if ensemble:
        table = sweeps.run_ensemble(files, out, device=device, minutes=minutes)
    elif minutes is not None:
        raise ValueError(f"--minutes needs --ensemble, got --minutes {minutes:g} without it")
    else:
        table = sweeps.run_sweep(files, out, workers=workers, scheduler=scheduler, device=device)
    if as_json:
        click.echo(table.to_json(orient="records", indent=2))
    else:
        time = [str(timedelta(seconds=round(seconds))) for seconds in table["seconds"]]
        shown = table.drop(columns="seconds").rename(columns=SHORT)
        shown.insert(3, "time", time)
        print_table(shown, dict.fromkeys(SHORT.values(), "{:.4f}"))
    failed = int(table["state"].str.startswith("failed").sum())
    return fail(f"{failed} of {len(table)} runs failed", FAILED) if failed else 0


@add_command("evaluate nmda-a10 --walks 256")
@click.argument("name")
@click.option(
    "--walks",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Number of walks on each kind of map.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="Number of steps per walk.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed of the walks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@import_option
def evaluate(
    name: str, walks: int, steps: int, seed: int, as_json: bool, modules: Sequence[str]
) -> None:
    """Measure the memory errors of a network.

    These are the errors of working and reference memory on trained and on novel maps.
    NAME is a network of the zoo or a folder.
    """
    from placeformer.models.transformer import NavigationTransformer
    from placeformer.training import model_card
    from placeformer.zoo import registry

    import_modules(modules)
    model = registry.load(name)
    if not isinstance(model, NavigationTransformer):
        raise ValueError(
            f"NAME must be a navigation Transformer, which predicts letters, got {name}, a "
            f"{type(model).__name__}; `placeformer report` measures the units of any network"
        )
    errors = model_card.measure(model, n_walks=walks, n_steps=steps, seed=seed, progress=True)
    table = errors[["error", "n"]].to_dataframe().reset_index()
    for end, bound in enumerate(("low", "high")):
        table[bound] = errors["interval"].isel(bound=end).values.ravel()
    table["chance"] = errors.attrs["chance"]
    if as_json:
        click.echo(table.to_json(orient="records", indent=2))
    else:
        intervals = [f"{low:.4f} to {high:.4f}" for low, high in table[["low", "high"]].values]
        shown = table[["maps", "memory", "error"]].assign(
            **{"95 % interval": intervals, "n": table["n"]}
        )
        print_table(shown, {"error": "{:.4f}"})
        click.echo(f"chance    {errors.attrs['chance']:.4f}")


@add_command("push my-network org/my-network --private")
@click.argument("name")
@click.argument("repo")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option(
    "--revision", metavar="BRANCH", help="Branch, created if it does not exist (default: main)."
)
@click.option("--message", metavar="TEXT", help="Message of the commit.")
@click.option("--license", metavar="NAME", help="Licence that the card states, such as cc-by-4.0.")
@click.option(
    "--create-pr", is_flag=True, help="Open a pull request instead of changing the branch."
)
@import_option
def push(
    name: str,
    repo: str,
    private: bool,
    revision: str | None,
    message: str | None,
    license: str | None,
    create_pr: bool,
    modules: Sequence[str],
) -> None:
    """Push a network to a model hub as one commit.

    The URL of the commit is printed. NAME is a network of the zoo, a folder, or a repository.
    REPO is org/name, or the name of one of your own repositories; it is created if it does not
    exist.
    """
    from placeformer.zoo import hub, registry

    import_modules(modules)
    model = registry.load(name)
    url = hub.push(
        model,
        repo,
        private=private,
        revision=revision,
        commit_message=message,
        license=license,
        create_pr=create_pr,
    )
    click.echo(url)


def import_modules(names: Sequence[str]) -> None:
    """Import modules that the user names, from the current folder too, as ``python -m`` does."""
    from importlib import import_module

    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")) or name.endswith(".py"):
            raise ValueError(
                "--import must be the name of a module, such as my_networks or my.networks, "
                f"without a folder and without .py, got {name!r}"
            )
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise  # a module that this one imports is missing
            raise ValueError(
                f"--import must name a module that can be imported, installed or in {os.getcwd()}, "
                f"got {name!r}: {error}"
            ) from error


@add_command("pull org/my-network@main copy")
@click.argument("repo")
@click.argument("folder")
@click.option("--force-download", is_flag=True, help="Download again files that are in the cache.")
def pull(repo: str, folder: str, force_download: bool) -> None:
    """Copy a network from a model hub to a new folder.

    Its card, recipe and history are copied with it. REPO is org/name or org/name@revision, where
    the revision is a branch, a tag or a commit.
    FOLDER must be new or empty.
    """
    from placeformer.zoo import hub

    click.echo(hub.pull(repo, folder, force_download=force_download).info["folder"])


def print_table(table: pd.DataFrame, formats: Mapping[str, str]) -> None:
    """Print a table, with a dash where a value is missing."""
    columns = []
    for name in table:
        shown = table[name].astype(object).map(formats.get(name, "{}").format, na_action="ignore")
        cells = [name, *shown.where(table[name].notna(), "–")]
        width = max(map(len, cells))
        columns.append([cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        click.echo("  ".join(line).rstrip())


if __name__ == "__main__":
    sys.exit(main())
