"""What the commands of the command line do, each with the options it was given."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
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
    from placeformer import zoo

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
    from placeformer import glance, zoo

    model = zoo.load(options.name)
    if options.json:
        print(json.dumps(glance.summary(model), indent=2, ensure_ascii=False))
    else:
        print(repr(model))


def run_report(options: argparse.Namespace) -> None:
    """Write the report and print where it is."""
    from placeformer.report import write_report
    from placeformer.settings import Settings

    settings = Settings(seed=at_least(options.seed, 0, "--seed"))
    page = write_report(options.name, options.out, beside=options.beside, settings=settings)
    print(page.resolve())


def run_train(options: argparse.Namespace) -> None:
    """Train, measure what was trained, and save it as a folder that ``load`` reads."""
    from placeformer import card, training
    from placeformer.recipe import Recipe

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

    from placeformer import sweep

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
    from placeformer import card, zoo

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
    from placeformer import remote, zoo

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
    from placeformer import remote

    remote.pull(options.repo, options.folder, force_download=options.force_download)
    print(Path(options.folder).resolve())


def at_least(value: int, least: int, option: str) -> int:
    """Return an option's number, or say that it is too small."""
    if value < least:
        raise ValueError(f"{option} must be at least {least}, got {value}")
    return value
