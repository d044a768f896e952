"""Measure whether Mg²⁺ washout impairs reference memory specifically, beside control perturbations.

``python zoo/specificity.py`` measures the three seeds of the network nmda-a10 (three minutes on one
CPU core), writes zoo/results/specificity.nc, and prints the table and the verdict. The page of the
documentation is made from that file. The rules of the verdict were fixed before it was measured.
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
from claims import MODELS, RESULTS, write

import placeformer as pf

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
    "levels": (0.1, 0.25), "where": "every_step", "n_walks": 32, "n_steps": 384,
    "decoded_walks": 24, "decoded_steps": 256, "n_resamples": 500, "seed": 0,
}  # fmt: skip
LEVEL, MEASURE = 0.25, "working"
"""What the verdict is about: the cost of working memory on trained maps, at equal cost of reference
memory."""


def measure(
    names: Sequence[str] = NETWORKS, models: Path = MODELS, results: Path = RESULTS, **settings: Any
) -> xr.Dataset:
    """Measure the networks, and write the file."""
    networks = [pf.load(models / name) for name in names]
    result = pf.specificity(networks, PERTURBATIONS, **(SETTINGS | settings))
    write(result, results / FILE)
    return result


def decision(result: xr.Dataset, measure: str = MEASURE, level: float = LEVEL) -> str:
    """Verdict on the claim that washout impairs reference memory specifically.

    "shown" if, at an equal cost of reference memory, washout costs less of the measure than every
    control does (each whole 95 % interval over seeds below 0, which needs no correction, as all
    controls must agree); "opposite" if it costs more than one control and less than none; otherwise
    "not shown". "not tested" if a control has no interval.
    """
    verdicts = set(result["verdict"].sel(measure=measure, level=level).values.tolist())
    if "not tested" in verdicts:
        return "not tested"
    if verdicts == {"shown"}:
        return "shown"
    return "opposite" if "opposite" in verdicts and "shown" not in verdicts else "not shown"


def table(result: xr.Dataset, level: float = LEVEL) -> pd.DataFrame:
    """Cost of every measure at the matched dose, with its interval over seeds."""
    at = result.sel(level=level)
    rows = {}
    for name in result["perturbation"].values:
        mean, ends = (at[key].sel(perturbation=name) for key in ("mean_cost", "mean_interval"))
        rows[str(name)] = {"dose": doses(at["matched_dose"].sel(perturbation=name).values)} | {
            str(m): interval(mean.sel(measure=m).item(), ends.sel(measure=m).values)
            for m in result["measure"].values
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def differences(result: xr.Dataset, level: float = LEVEL) -> pd.DataFrame:
    """Cost of washout minus that of every control, with its interval over seeds and the verdict."""
    at = result.sel(level=level)
    rows = {}
    for name in result["control"].values:
        one = at.sel(control=name)
        rows[str(name)] = {
            str(m): interval(
                one["difference"].sel(measure=m).item(),
                one["difference_interval"].sel(measure=m).values,
            ) + ", " + one["verdict"].sel(measure=m).item()
            for m in result["measure"].values if m != result.attrs["match"]
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index")


def interval(value: float, ends: np.ndarray) -> str:
    """Text for a value and its interval."""
    if np.isnan(value):
        return "n/a"
    return f"{value:.3f}" if np.isnan(ends).any() else f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


def doses(values: np.ndarray) -> str:
    """Text for the matched doses of the networks."""
    return " ".join("n/a" if np.isnan(value) else f"{value:.2g}" for value in values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the tables and the verdict."""
    parser = argparse.ArgumentParser(description="Is the loss of reference memory specific?")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the networks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is measured")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    result = measure(models=options.models, results=options.results)
    for level in result["level"].values:
        print(f"cost at a cost of reference memory of {level:g}\n{table(result, level)}\n")
        print(f"washout minus control\n{differences(result, level)}\n")
    print(f"verdict: {decision(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
