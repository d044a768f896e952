"""The command line: ``placeformer list``, ``info``, ``report``, ``train``, ``push`` and others."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FAILED = 1  # exit status of what went wrong through no fault of the input
SHORT = {
    "working_error_trained": "working",
    "reference_error_trained": "reference",
    "working_error_novel": "working_novel",
    "reference_error_novel": "reference_novel",
    "place_cell_fraction_trained": "place_cells",
    "place_cell_fraction_novel": "place_cells_novel",
}
"""Columns of measured figures, and what the command line prints above them."""


def run_list(options: argparse.Namespace) -> None:
    """Print the table of the zoo."""
    from placeformer.zoo import registry as zoo

    table = zoo.zoo_table(options.pattern)
    if table.empty:
        print(f"no network of the zoo is named like {options.pattern!r}", file=sys.stderr)
    if options.json:
        print(table.to_json(orient="records", indent=2))
    elif options.names:
        print(*table["name"], sep="\n", end="\n" if len(table) else "")
    elif len(table):
        table["activation"] += [f" (also {alias})" if alias else "" for alias in table.pop("alias")]
        table["sha256"] = table["sha256"].str[:8]
        formats = dict.fromkeys(SHORT.values(), "{:.4f}") | {"alpha": "{:g}", "mg_mM": "{:.3g}"}
        print_table(table.rename(columns=SHORT), formats)


def print_table(table: pd.DataFrame, formats: Mapping[str, str]) -> None:
    """Print a table, a dash where a value is missing."""
    columns = []
    for name in table:
        shown = table[name].astype(object).map(formats.get(name, "{}").format, na_action="ignore")
        cells = [name, *shown.where(table[name].notna(), "–")]
        width = max(map(len, cells))
        columns.append([cell.ljust(width) for cell in cells])
    for line in zip(*columns, strict=True):
        print("  ".join(line).rstrip())


def run_info(options: argparse.Namespace) -> None:
    """Print what a network is."""
    from placeformer.models import summary as glance
    from placeformer.zoo import registry as zoo

    model = zoo.load(options.name)
    if options.json:
        print(json.dumps(glance.summary(model), indent=2, ensure_ascii=False))
    else:
        print(repr(model))


def run_report(options: argparse.Namespace) -> None:
    """Write the report and print where it is."""
    from placeformer.report.measurements import Settings
    from placeformer.report.write import write_report

    settings = Settings(seed=at_least(options.seed, 0, "--seed"))
    page = write_report(options.name, options.out, beside=options.beside, settings=settings)
    print(page.resolve())


def run_train(options: argparse.Namespace) -> None:
    """Train, measure what was trained, and save it as a folder that ``load`` reads."""
    from placeformer.training import model_card as card
    from placeformer.training import trainer as training
    from placeformer.training.recipe import Recipe

    recipe = Recipe.read(options.recipe)
    folder = Path(options.out or recipe.name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"--out must be a new or empty folder, got {folder}")
    checkpoints = folder.with_name(folder.name + ".training")
    trainer = training.train(recipe, checkpoints, device=options.device, minutes=options.minutes)
    if trainer.step < recipe.training.steps:
        print(f"stopped at step {trainer.step} of {recipe.training.steps}", file=sys.stderr)
        return
    card.publish(trainer, folder, recipe=options.recipe)
    print(folder.resolve())


def run_sweep(options: argparse.Namespace) -> int:
    """Train what is missing, print what there is now, and tell whether all of it is."""
    from datetime import timedelta

    from placeformer.training import sweep

    if options.ensemble:
        table = sweep.run_ensemble(
            options.files, options.out, device=options.device, minutes=options.minutes
        )
    elif options.minutes is not None:
        raise ValueError(f"--minutes stops an ensemble: add --ensemble, got {options.minutes:g}")
    else:
        table = sweep.run_sweep(
            options.files,
            options.out,
            workers=options.workers,
            scheduler=options.scheduler,
            device=options.device,
        )
    if options.json:
        print(table.to_json(orient="records", indent=2))
    else:
        time = [str(timedelta(seconds=round(seconds))) for seconds in table["seconds"]]
        shown = table.drop(columns="seconds").rename(columns=SHORT)
        shown.insert(3, "time", time)
        print_table(shown, dict.fromkeys(SHORT.values(), "{:.4f}"))
    failed = int(table["state"].str.startswith("failed").sum())
    if failed:
        print(f"placeformer: {failed} of {len(table)} runs failed", file=sys.stderr)
    return FAILED if failed else 0


def run_evaluate(options: argparse.Namespace) -> None:
    """Print the memory errors of a network."""
    from placeformer.training import model_card as card
    from placeformer.zoo import registry as zoo

    walks, steps = (at_least(getattr(options, k), 1, f"--{k}") for k in ("walks", "steps"))
    seed, model = at_least(options.seed, 0, "--seed"), zoo.load(options.name)
    errors = card.measure(model, n_walks=walks, n_steps=steps, seed=seed, progress=True)
    table = errors[["error", "n"]].to_dataframe().reset_index()
    for end, bound in enumerate(("low", "high")):
        table[bound] = errors["interval"].isel(bound=end).values.ravel()
    table["chance"] = errors.attrs["chance"]
    if options.json:
        print(table.to_json(orient="records", indent=2))
    else:
        between = [f"{low:.4f} to {high:.4f}" for low, high in table[["low", "high"]].values]
        shown = table[["maps", "memory", "error"]].assign(
            **{"95 % interval": between, "n": table["n"]}
        )
        print_table(shown, {"error": "{:.4f}"})
        print(f"chance    {errors.attrs['chance']:.4f}")


def run_push(options: argparse.Namespace) -> None:
    """Push a network and print the URL of the commit."""
    from placeformer.zoo import hub as remote
    from placeformer.zoo import registry as zoo

    url = remote.push(
        zoo.load(options.name),
        options.repo,
        private=options.private,
        revision=options.revision,
        commit_message=options.message,
    )
    print(url)


def run_pull(options: argparse.Namespace) -> None:
    """Copy a network of the hub and print where it is."""
    from placeformer.zoo import hub as remote

    remote.pull(options.repo, options.folder, force_download=options.force_download)
    print(Path(options.folder).resolve())


def at_least(value: int, least: int, option: str) -> int:
    """Return an option's number, or say that it is too small."""
    if value < least:
        raise ValueError(f"{option} must be at least {least}, got {value}")
    return value


BAD_INPUT, INTERRUPTED = 2, 130
STATUS = """Exit status: 0 if all went well; 2 for bad input; 130 when interrupted (Ctrl-C), with
nothing half-written; 1 for anything else."""
DEBUG = "show where an error arose"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        By default those of the process.

    Returns
    -------
    int
        0; 2 for bad input; 130 when interrupted; 1 for anything else. An error is one message
        on standard error; ``--debug`` shows where it arose.
    """
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("\nplaceformer: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if options.debug:
            raise
        print(f"placeformer: {describe(error)}", file=sys.stderr)
        return BAD_INPUT if is_bad_input(error) else FAILED


def is_bad_input(error: Exception) -> bool:
    """Tell whether what was asked for is at fault."""
    files = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
    return isinstance(error, (ValueError, *files))


def describe(error: Exception) -> str:
    """Put an error into one message."""
    text = str(error) or type(error).__name__
    return text if is_bad_input(error) else f"{type(error).__name__}: {text} (--debug shows where)"


def parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="placeformer",
        description="Place cells and memory consolidation in Transformers.",
        epilog=f"Example: placeformer report nmda-a10 --out report\n\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    top.add_argument("--debug", action="store_true", help=DEBUG)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        add_list,
        add_info,
        add_report,
        add_train,
        add_sweep,
        add_evaluate,
        add_push,
        add_pull,
    ):
        add(commands)
    return top


class Version(argparse.Action):
    """Show the version; it is read only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version and leave."""
        from placeformer import __version__

        print(f"placeformer {__version__}")
        parser.exit()


Commands = argparse._SubParsersAction  # the class has no public name


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, about: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with its description and an example."""
    command = commands.add_parser(
        name, help=about, description=about + ".", epilog=f"Example: placeformer {example}"
    )
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG)
    return command


def add_json(command: argparse.ArgumentParser, about: str) -> None:
    """Add the option ``--json``."""
    command.add_argument("--json", action="store_true", help=f"{about}, as JSON")


def add_list(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``list``."""
    command = add_command(commands, "list", "list the networks of the zoo", 'list "nmda-*"')
    command.add_argument("pattern", nargs="?", default="*", help="shell pattern of names")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--names", action="store_true", help="names alone, one a line")
    form.add_argument("--json", action="store_true", help="every column of the table, as JSON")
    command.set_defaults(run=run_list)


def add_info(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``info``."""
    command = add_command(
        commands, "info", "say what a network is and what was measured of it", "info nmda-a10"
    )
    command.add_argument("name", help="network of the zoo, folder, or repository")
    add_json(command, "everything, with the definition of every number")
    command.set_defaults(run=run_info)


def add_report(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``report``."""
    command = add_command(
        commands,
        "report",
        "record and analyse a network, and write one HTML page and the netCDF files behind it",
        "report nmda-a10 --beside nmda-a0 --out report",
    )
    command.add_argument("name", help="network of the zoo, or folder")
    command.add_argument("--out", default="report", help="folder to write (default: %(default)s)")
    command.add_argument(
        "--beside",
        metavar="NAME",
        help="network to compare it with, or none (default: nmda-a0, where the zoo has it)",
    )
    command.add_argument("--seed", type=int, default=0, help="of walks and shuffles (default: 0)")
    command.set_defaults(run=run_report)


def add_train(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``train``."""
    command = add_command(
        commands,
        "train",
        "train a network, or go on with a training that was stopped",
        "train zoo/recipes/nmda-a10.toml --out my-network",
    )
    command.add_argument("recipe", metavar="RECIPE.toml", help="what to train")
    command.add_argument(
        "--out",
        metavar="FOLDER",
        help="new folder for the network (default: the name in the recipe); checkpoints go to "
        "FOLDER.training",
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    add_minutes(command)
    command.set_defaults(run=run_train)


def add_minutes(command: argparse.ArgumentParser) -> None:
    """Add the option ``--minutes``."""
    command.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="stop training after this time; the same command goes on from there",
    )


def add_sweep(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``sweep``."""
    command = add_command(
        commands,
        "sweep",
        "train what is missing among the networks of some recipes, one process a core",
        "sweep zoo/families/mini.toml --out mini",
    )
    command.add_argument("files", nargs="+", metavar="FILE.toml", help="recipe, or family of them")
    command.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="folder for the networks, FOLDER/NAME each; checkpoints go to FOLDER.training",
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    where.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="run on this dask cluster, whose workers have one thread each and see FOLDER",
    )
    where.add_argument(
        "--ensemble",
        action="store_true",
        help="train all at once in this process, as one large GPU is best used; they differ in "
        "seed, maps, activation and alpha alone",
    )
    add_minutes(command)
    command.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    add_json(command, "the table")
    command.set_defaults(run=run_sweep)


def add_evaluate(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``evaluate``."""
    command = add_command(
        commands,
        "evaluate",
        "measure the errors of working and reference memory on trained and novel maps",
        "evaluate nmda-a10 --walks 256",
    )
    command.add_argument("name", help="network of the zoo, or folder")
    command.add_argument("--walks", type=int, default=256, help="walks (default: %(default)s)")
    command.add_argument("--steps", type=int, default=2048, help="steps of a walk (default: 2048)")
    command.add_argument("--seed", type=int, default=0, help="of the walks (default: 0)")
    add_json(command, "the table")
    command.set_defaults(run=run_evaluate)


def add_push(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``push``."""
    command = add_command(
        commands,
        "push",
        "push a network to a model hub as one commit, and print the URL of the commit",
        "push my-network org/my-network --private",
    )
    command.add_argument("name", help="network of the zoo, folder, or repository")
    command.add_argument("repo", help="org/name, or the name of one of your own; made if absent")
    command.add_argument("--private", action="store_true", help="only you can see it")
    command.add_argument("--revision", metavar="BRANCH", help="made if absent (default: main)")
    command.add_argument("--message", metavar="TEXT", help="of the commit")
    command.set_defaults(run=run_push)


def add_pull(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``pull``."""
    command = add_command(
        commands,
        "pull",
        "copy a network from a model hub, with its card, recipe and history, to a new folder",
        "pull org/my-network@main copy",
    )
    command.add_argument("repo", help="org/name, or org/name@revision: a branch, tag or commit")
    command.add_argument("folder", help="new or empty folder")
    command.add_argument(
        "--force-download", action="store_true", help="fetch again what is in the cache"
    )
    command.set_defaults(run=run_pull)


if __name__ == "__main__":
    sys.exit(main())
