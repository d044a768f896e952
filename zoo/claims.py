"""Measure comparable networks and test the paper's claims on them.

``python zoo/claims.py`` measures the networks in zoo/models of each of the SETS and prints the
tables of claims. This takes half a minute per network on one CPU core, and minutes for those of the
paper's size. The results are stored in zoo/results: a network is measured again only if its weights
or the settings have changed.
``python zoo/claims.py lesions`` measures washout and lesions of one network, and lesions of the
place cells of single maps in several networks, which takes half an hour. The pages of the
documentation are generated from these files at every build.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from tqdm.auto import tqdm

import placeformer as pf
from placeformer._atomic import atomic_file
from placeformer.training.recipe import read_recipes
from placeformer.zoo import folder as hub
from placeformer.zoo.config import CONFIG
from placeformer.zoo.files import HISTORY
from placeformer.zoo.registry import natural, seed_of

ZOO = Path(__file__).resolve().parent
MODELS, RESULTS = ZOO / "models", ZOO / "results"
SETS = {
    "mini": [ZOO / "families" / "mini.toml"],
    "muon": [ZOO / "families" / "consolidation.toml"],
    "nmda": [ZOO / "families" / "nmda.toml"],
    "paper": sorted((ZOO / "recipes" / "gpu").glob("*.toml")),
}
"""Recipes of networks that differ only in activation, α and seed, by the name of their results."""
LESIONED = "nmda-a10"
SETTINGS: dict[str, Any] = {
    "n_walks": 64, "n_steps": 1024, "recorded_walks": 16, "recorded_steps": 512,
    "washout": 0.0, "n_shuffles": "auto", "seed": 0,
}  # fmt: skip
DOSES = (0, 0.1, 0.3, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50)
WALKS: dict[str, Any] = {"n_walks": 24, "n_steps": 2048, "where": "chunk_end"}
CURVE: dict[str, Any] = {"fractions": (0, 0.1, 0.2, 1), "repeats": 20, **WALKS}
CHOSEN = ["nmda-a10", "nmda-a10-s1", "nmda-a10-s2"]
CHOSEN_LAYERS, CHOSEN_MAPS = ("ffn.1",), (1, 2)
CHOSEN_WALKS: dict[str, Any] = {"n_walks": 128, "n_steps": 2048, "repeats": 39, "seed": 0}


def measure(
    recipes: Sequence[Path], file: Path, models: Path = MODELS, **settings: Any
) -> xr.Dataset:
    """Measure the networks of recipes that exist and are missing in the file; write the file."""
    settings = SETTINGS | settings
    names = [name for recipe in recipes for name in read_recipes(recipe)]
    names = [name for name in names if (models / name / CONFIG).is_file()]
    rows = stored_rows(file, {name: sha256(models / name) for name in names}, settings)
    missing = [name for name in names if name not in rows]
    for name in tqdm(missing, desc=file.stem, unit="network"):
        profile = pf.profile_networks(models / name, **settings, progress=False)
        rows[name] = profile.merge(history(models / name / HISTORY), combine_attrs="override")
        together = [rows[key] for key in sorted(rows, key=natural)]
        write(xr.concat(together, "model", join="outer", combine_attrs="override"), file)
    if missing or not rows:
        return xr.load_dataset(file)
    return xr.concat([rows[name] for name in sorted(rows, key=natural)], "model")


def stored_rows(
    file: Path, wanted: dict[str, str], settings: dict[str, Any]
) -> dict[str, xr.Dataset]:
    """Results in the file for the wanted networks (name → sha256) and these settings."""
    if not file.is_file():
        return {}
    stored = xr.load_dataset(file)
    if any(stored.attrs.get(key) != value for key, value in settings.items()):
        return {}
    each = {str(name): stored.isel(model=[i]) for i, name in enumerate(stored["name"].values)}
    return {n: row for n, row in each.items() if wanted.get(n) == str(row["sha256"].values[0])}


def sha256(folder: Path) -> str:
    """Sha256 of the weights of a network, from its configuration (checked on loading)."""
    return hub.read_description(folder).sha256


def history(file: Path) -> xr.Dataset:
    """Errors during training, over ``model``, ``step``, ``maps`` and ``memory``."""
    table = pd.read_csv(file)
    kinds, memories = ("trained", "novel"), ("working", "reference")
    values = [[table[f"{memory}_error_{kind}"] for memory in memories] for kind in kinds]
    about = {"units": "1", "long_name": "error during training"}
    course = np.moveaxis(np.array(values, float), -1, 0)[None]
    return xr.Dataset(
        {"history": (("model", "step", "maps", "memory"), course, about)},
        {"step": table["step"].values, "maps": list(kinds), "memory": list(memories)},
    )


def write(data: xr.Dataset, file: Path) -> None:
    """Write a compressed netCDF file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = [str(n) for n, v in data.data_vars.items() if v.dtype.kind in "fi" and v.size > 1]
    encoding = {name: {"zlib": True, "complevel": 9} for name in numbers}
    with atomic_file(file) as temporary:
        # Without the encoding of the file that was read, which would cut longer names of new rows.
        data.drop_encoding().to_netcdf(temporary, encoding=encoding)


def lesions(
    source: str | Path = LESIONED, results: Path = RESULTS, **settings: Any
) -> tuple[xr.Dataset, xr.Dataset]:
    """Washout and lesions of one network, scored on memory and on two other abilities."""
    model = pf.load(source)
    name = str(model.info["name"])
    washout = pf.dose_response(model, alphas=DOSES, **WALKS)
    write(washout.drop_vars(["wrong", "n"]), results / f"{name}-washout.nc")
    scores = {
        "decoding": pf.recorded_score(decoding_error, n_walks=16, n_steps=256, layers="ffn.1"),
        "working memory, novel maps": pf.novel_working_memory(n_walks=16, n_steps=256),
    }
    curve = pf.ablation_curve(model, scores=scores, **(CURVE | settings))
    write(curve.drop_vars(["wrong", "n"]), results / f"{name}-lesions.nc")
    return washout, curve


def chosen(
    names: Sequence[str] = CHOSEN, results: Path = RESULTS, models: Path = MODELS, **settings: Any
) -> xr.Dataset:
    """Lesion the place cells of one map in several networks; score other walks of that map."""
    models_by_name = {name: pf.load(models / name) for name in names}
    cases = [(n, layer, m) for n in models_by_name for layer in CHOSEN_LAYERS for m in CHOSEN_MAPS]
    rows = []
    for name, layer, m in tqdm(cases, desc="lesions", unit="lesion"):
        model = models_by_name[name]
        row = lesion_place_cells(model, layer, m, **(CHOSEN_WALKS | settings)).expand_dims("lesion")
        facts = {"name": name, "seed": seed_of(models / name), "alpha": model.config.alpha,
                 "layer": layer, "map": m}  # fmt: skip
        rows.append(row.assign_coords({key: ("lesion", [value]) for key, value in facts.items()}))
        result = xr.concat(rows, "lesion", combine_attrs="drop_conflicts")
        write(result, results / "place-cell-lesions.nc")
    return result


def lesion_place_cells(
    model: pf.NavigationTransformer, layer: str, map_index: int, **walks: Any
) -> xr.Dataset:
    """Errors after lesions of the place cells of a layer on a map, and of control units."""
    where: dict[str, Any] = {"layers": layer, "maps": [map_index], "progress": False}
    recording = pf.record(model, n_walks=64, n_steps=1536, seed=walks["seed"] + 100, **where)
    cells = pf.place_cells(recording, cell_types=False)["is_place_cell"]
    curve = pf.ablation_curve(model, cells, **where, **walks)
    last = curve.isel(fraction=-1).sel(maps="trained")
    names = ["difference", "difference_interval", "p_sets", "p_pairs", "logit_change", "overlap"]
    return (
        last[names]
        .assign(
            intact=curve["error"]
            .sel(maps="trained", fraction=0, selection="ordered")
            .mean("repeat"),
            error=last["error"],
            n_place_cells=cells.sum(),
        )
        .assign_coords(layer=layer, map=map_index)
    )


def decoding_error(recording: xr.Dataset) -> xr.DataArray:
    """Mean distance of the decoded position from the true one, for every walk."""
    return pf.decode_position(recording, method="bayes", n_shuffles=0)["error"].mean("time")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing and print the results."""
    parser = argparse.ArgumentParser(description="Measure networks and test the paper's claims.")
    parser.add_argument("what", nargs="?", choices=["networks", "lesions"], default="networks")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the networks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.what == "lesions":
        lesions(results=options.results)
        chosen(results=options.results)
        return 0
    for name, recipes in SETS.items():
        networks = measure(recipes, options.results / f"{name}.nc", options.models)
        print(f"{name}: {networks.sizes['model']} networks, seeds {np.unique(networks['seed'])}")
        claims = pf.paper_claims(networks)
        shown = ["claim", "part", "value", "lower", "upper", "over", "p", "n_networks", "verdict"]
        print(claims[shown].to_string(index=False, float_format="{:.3f}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
