"""The command line: list, info, report, train, sweep, evaluate, push and pull."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from placeformer import commands as do

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
        return BAD_INPUT if is_bad_input(error) else do.FAILED


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
    command.set_defaults(run=do.run_list)


def add_info(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command ``info``."""
    command = add_command(
        commands, "info", "say what a network is and what was measured of it", "info nmda-a10"
    )
    command.add_argument("name", help="network of the zoo, folder, or repository")
    add_json(command, "everything, with the definition of every number")
    command.set_defaults(run=do.run_info)


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
    command.set_defaults(run=do.run_report)


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
    command.set_defaults(run=do.run_train)


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
    command.set_defaults(run=do.run_sweep)


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
    command.set_defaults(run=do.run_evaluate)


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
    command.set_defaults(run=do.run_push)


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
    command.set_defaults(run=do.run_pull)


if __name__ == "__main__":
    sys.exit(main())
