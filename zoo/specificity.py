"""Measure whether Mg²⁺ washout impairs reference memory specifically, compared with controls.

``python zoo/specificity.py`` measures the three seeds of the network nmda-a10 (a minute or two on
one CPU core), writes zoo/results/specificity.nc, and prints the tables and the verdict. The page of
the documentation is generated from that file. The rules of the verdict were fixed before the
measurement.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import xarray as xr
from claims import MODELS, RESULTS, write

import placeformer as pf
from placeformer.evaluation.specificity import specificity_verdict

FILE = "specificity.nc"
NETWORKS = ("nmda-a10", "nmda-a10-s1", "nmda-a10-s2")
TESTED = "Mg²⁺ washout"
PERTURBATIONS: dict[str, dict[str, Any]] = {
    TESTED: {"parameter": "nmda", "doses": [5, 2.5, 1.25, 0.6, 0.3]},
    "gain": {"parameter": "gain", "units": "ffn.*", "doses": [0.8, 0.65, 0.5, 0.35]},
    "noise": {"parameter": "noise", "units": "ffn.*", "doses": [0.05, 0.1, 0.2, 0.3]},
    "random units": {"parameter": "random_units", "units": "ffn.*", "doses": [0.05, 0.1, 0.2, 0.3]},
    "attention gain": {"parameter": "gain", "units": "attention.*", "doses": [0.9, 0.8, 0.7, 0.55]},
}
SETTINGS: dict[str, Any] = {
    "levels": (0.1, 0.25), "where": "every_step", "n_walks": 16, "n_steps": 320,
    "n_resamples": 500, "seed": 0,
}  # fmt: skip
LEVEL, MEASURE = 0.25, "working"
"""The verdict rests on the cost in working memory on trained maps, at an equal cost in reference
memory."""


def measure(
    names: Sequence[str] = NETWORKS, models: Path = MODELS, results: Path = RESULTS, **settings: Any
) -> xr.Dataset:
    """Measure the networks, and write the file."""
    networks = [pf.load(models / name) for name in names]
    result = pf.specificity(networks, PERTURBATIONS, **(SETTINGS | settings))
    write(result, results / FILE)
    return result


def tables(result: xr.Dataset, level: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Costs at the matched doses, and those of washout minus those of every control."""
    at = result.sel(level=level)
    costs = at["mean_cost"].to_pandas()
    costs.insert(0, "dose", at["matched_dose"].mean("model").to_pandas())
    one = at.sel(measure=[name for name in at["measure"].values if name != result.attrs["match"]])
    rows = [
        {"control": control, "measure": measure, "difference": float(cell["difference"]),
         "lower": float(cell["difference_interval"][0]),
         "upper": float(cell["difference_interval"][1]), "verdict": str(cell["verdict"].item())}
        for control in one["control"].values for measure in one["measure"].values
        for cell in [one.sel(control=control, measure=measure)]
    ]  # fmt: skip
    return costs, pd.DataFrame(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables and the verdict."""
    parser = argparse.ArgumentParser(description="Is the loss of reference memory specific?")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the networks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = measure(models=options.models, results=options.results)
    for level in result["level"].values:
        costs, differences = tables(result, level)
        print(f"at a cost of reference memory of {level:g}\n{costs.round(3).to_string()}\n")
        print(f"washout minus control\n{differences.round(3).to_string(index=False)}\n")
    print(f"verdict: {specificity_verdict(result, measure=MEASURE, level=LEVEL)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
