"""Measure networks over their training, and the effects of further maps and of windows of α.

``python zoo/consolidation.py`` measures every network of zoo/families/consolidation.toml that has
snapshots and is missing in zoo/results/consolidation.nc, at the STEPS (:func:`consolidation`,
about a minute per network on one CPU core), and prints the answers
(``placeformer.evaluation.consolidation_rules``). Memory is tested on the two maps that are used
from the first step, and units are recorded on the first of them.

``python zoo/consolidation.py amnesia`` trains three of them on further maps, with and without
rehearsal (zoo/recipes/further-maps.toml, three minutes each on an idle core), and tests old and new
maps in the intact networks, at another α and under lesions (:func:`amnesia_curve`). The results are
in zoo/results/amnesia.nc. The α is the one of DOSES at which the three networks, before the further
training, lose closest to half of their memory of the old maps. Three sets of units are lesioned:
the place cells, after the further training, of the first old map and of the first new map, and
random units.

``python zoo/consolidation.py windows`` trains the networks of zoo/families/windows.toml, whose α
differs in a window of their training, tests them at the end and writes zoo/results/windows.nc (six
minutes on an idle core; with ``--minutes 4`` it stops earlier, and the same command resumes).
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from claims import MODELS, RESULTS, ZOO, history, sha256, write
from tqdm.auto import tqdm

import placeformer as pf
from placeformer.evaluation.consolidation_rules import amnesia_answers, consolidation_answers
from placeformer.stats.overlap import overlap
from placeformer.training.ensemble import train_ensemble
from placeformer.training.recipe import Recipe, read_recipes
from placeformer.zoo.config import CONFIG
from placeformer.zoo.files import HISTORY
from placeformer.zoo.registry import natural, seed_of

FAMILY = ZOO / "families" / "consolidation.toml"
WINDOWS = ZOO / "families" / "windows.toml"
FURTHER = ZOO / "recipes" / "further-maps.toml"
STEPS = (0, 100, 400, 600, 800, 1300, 2200, 3000)
SETTINGS: dict[str, Any] = {
    "maps": [0, 1], "recorded_map": 0, "n_walks": 32, "n_steps": 1024, "recorded_walks": 16,
    "recorded_steps": 512, "n_shuffles": "auto", "seed": 0,
}  # fmt: skip
TESTS: dict[str, Any] = {"n_walks": 16, "n_steps": 512, "where": "every_step"}
DOSES = (7.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.2)
OLD = [f"consolidation-nmda-a10{seed}" for seed in ("", "-s1", "-s2")]
REHEARSAL = {"none": 0.0, "two fifths": 0.4}
SETS = {"old": range(8), "new": range(8, 12)}
CONDITIONS = {
    "lesion": "lesion, cells of an old map", "cells of new": "lesion, cells of a new map",
}  # fmt: skip


def facts(name: str, models: Path) -> dict[str, Any]:
    """Coordinates of one network along ``model``."""
    model = pf.load(models / name)
    alpha = model.config.alpha
    values = {
        "name": name,
        "network": model.config.activation if alpha is None else f"α = {alpha:g}",
        "trained_alpha": np.nan if alpha is None else alpha,
        "seed": seed_of(models / name),
        "weights_sha256": sha256(models / name),
    }
    return {key: ("model", [value]) for key, value in values.items()}


def courses(file: Path = RESULTS / "consolidation.nc", models: Path = MODELS) -> xr.Dataset:
    """Measure what is missing in the file; write the file."""
    names = [name for name in read_recipes(FAMILY) if (models / name / CONFIG).is_file()]
    names = [name for name in names if pf.list_steps(name)]
    stored = xr.load_dataset(file).drop_encoding() if file.is_file() else None
    rows = {}
    for i, name in enumerate([] if stored is None else stored["name"].values.tolist()):
        if name in names and stored["weights_sha256"].values[i] == sha256(models / name):
            rows[name] = stored.isel(model=[i])
    for name in tqdm([name for name in names if name not in rows], unit="network"):
        course = pf.consolidation(name, STEPS, progress=False, **SETTINGS).expand_dims("model")
        course = course.assign_coords({k: course[k].expand_dims("model") for k in ("alpha",)})
        units = [k for k, v in course.data_vars.items() if "unit" in v.dims and v.dtype.kind == "f"]
        course = course.assign({k: course[k].astype(np.float32) for k in units})
        course = course.assign_coords(facts(name, models))
        rows[name] = course.merge(history(models / name / HISTORY).rename(step="history_step"))
        together = [rows[key] for key in sorted(rows, key=natural)]
        write(xr.concat(together, "model", join="exact", combine_attrs="drop_conflicts"), file)
    return xr.load_dataset(file)


def half_dose(names: Sequence[str]) -> float:
    """The α at which the networks lose closest to half of their memory of their maps."""
    alphas = [pf.load(names[0]).config.alpha, *DOSES]
    lost = []
    for name in names:
        response = pf.dose_response(pf.load(name), alphas=alphas, progress=False, **TESTS)
        error = response["error"].sel(maps="trained", memory="reference").values
        lost.append((error[1:] - error[0]) / (response.attrs["chance"] - error[0]))
    share = np.mean(lost, axis=0)
    print("fraction of reference memory lost at α:", dict(zip(DOSES, share.round(3), strict=True)))
    return DOSES[int(np.argmin(abs(share - 0.5)))]


def cells_of(model: pf.NavigationTransformer, index: int) -> xr.DataArray:
    """Which feed-forward units are place cells on one trained map."""
    recording = pf.record(model, n_walks=16, n_steps=512, maps=(index,), progress=False)
    return pf.place_cells(recording, cell_types=False, progress=False)["is_place_cell"]


def amnesia(file: Path = RESULTS / "amnesia.nc", names: Sequence[str] = OLD) -> xr.Dataset:
    """Train on further maps with and without rehearsal, and test what is missing in the file."""
    rows: dict[tuple[str, str], xr.Dataset] = {}
    recipe = tomllib.loads(FURTHER.read_text())  # comments do not count
    stored = xr.load_dataset(file).drop_encoding() if file.is_file() else None
    if stored is not None and tomllib.loads(stored.attrs["recipe"]) != recipe:
        stored = None
    for i, name in enumerate([] if stored is None else stored["name"].values.tolist()):
        if stored["weights_sha256"].values[i] == sha256(MODELS / name):
            rows[name, stored["rehearsal"].values[i]] = stored.isel(model=[i])
    cases = [(name, words) for words in reversed(REHEARSAL) for name in names]
    alpha = half_dose(names) if stored is None else float(stored.attrs["alpha"])
    for case in tqdm([case for case in cases if case not in rows], unit="training"):
        rows[case] = further_course(*case, alpha)
        together = [rows[known] for known in cases if known in rows]
        write(xr.concat(together, "model", join="exact", combine_attrs="drop_conflicts"), file)
    return xr.load_dataset(file)


def further_course(name: str, words: str, alpha: float) -> xr.Dataset:
    """Train one network on further maps, and test its memory during this training."""
    recipe = Recipe.read(FURTHER)
    training = replace(recipe.training, rehearsal=((0, REHEARSAL[words]),))
    further = replace(
        recipe, world=dict(recipe.world, seed=pf.load(name).world.seed), training=training
    )
    before = cells_of(pf.load(name), SETS["old"][0])
    with TemporaryDirectory() as run:
        trainer = pf.train(further, run, init=name, progress=False)
        old, new = (cells_of(trainer.model, maps[0]) for maps in SETS.values())
        last = old["layer"].values == old["layer"].values[-1]
        curve = pf.amnesia_curve(
            run, SETS, alpha=alpha, units=old & last, repeats=2, progress=False,
            conditions={"cells of new": lambda model: pf.ablate(model, new & last)}, **TESTS,
        )  # fmt: skip
    curve = curve.assign_coords(condition=[CONDITIONS.get(c, c) for c in curve["condition"].values])
    survival = overlap(before.values, old.values, old["layer"].values)
    curve = curve.assign(kept=survival.kept, kept_excess=survival.excess, kept_p=survival.p)
    counts = {"n_old_cells": int((old & last).sum()), "n_new_cells": int((new & last).sum())}
    about = facts(name, MODELS) | {"rehearsal": ("model", [words])}
    about |= {key: ("model", [n]) for key, n in counts.items()}
    kept = {k: v for k, v in curve.attrs.items() if k not in ("source", "provenance")}
    curve = curve.expand_dims("model").assign_coords(about)
    return curve.drop_attrs(deep=False).assign_attrs(kept, recipe=FURTHER.read_text())


def windows(
    run: Path, file: Path = RESULTS / "windows.nc", minutes: float | None = None
) -> xr.Dataset | None:
    """Train networks with windows of another α together, and test them at the end at both α."""
    recipes = [Recipe.from_dict(tomllib.loads(text)) for text in read_recipes(WINDOWS).values()]
    rows = []
    for trainer in train_ensemble(recipes, run, minutes=minutes, progress=False):
        recipe = trainer.recipe
        if trainer.step < recipe.training.steps:
            print(f"stopped at step {trainer.step}")
            return None
        errors = pf.dose_response(
            trainer.model, alphas=[10, 0.1], n_walks=64, n_steps=512, progress=False
        )
        row = errors.drop_vars(["wrong", "n", "name", "seed"]).swap_dims(model="alpha")
        course = pd.DataFrame(trainer.history).set_index("step")["reference_error_trained"]
        row = row.assign(history=("history_step", course.values)).expand_dims("model")
        about = {"window": recipe.name.split("-")[1], "seed": recipe.seed}
        row = row.assign_coords({k: ("model", [v]) for k, v in about.items()})
        rows.append(row.assign_coords(history_step=course.index.values))
    together = xr.concat(rows, "model", join="exact", combine_attrs="drop_conflicts")
    write(together, file)
    return together


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the answers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", choices=["course", "amnesia", "windows"], default="course"
    )
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the networks")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/windows"), help="folder for checkpoints"
    )
    parser.add_argument(
        "--minutes", type=float, help="stop the training of windows after this time"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.what == "amnesia":
        print(amnesia_answers(amnesia()).to_string(index=False, float_format="{:.3f}".format))
    elif options.what == "windows":
        found = windows(options.run, minutes=options.minutes)
        if found is not None:
            error = found["error"].sel(maps="trained", memory="reference")
            print(error.groupby("window").mean().to_series().to_string())
    else:
        answers = consolidation_answers(courses(models=options.models))
        print(answers.to_string(index=False, float_format="{:.3f}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
