"""Place, grid and border units of other networks: one row per layer.

Run with ``python benchmarks/foreign.py``; it needs the extra ``twins``. The networks are those of
``benchmarks/other_networks``. Tuned units have q < .05 against circular shifts. Grid and border
units exceed the usual limits, 0.37 and 0.5, and have q < .05 against such shifts.
"""

from __future__ import annotations

import argparse
import time
import warnings

import pandas as pd
import xarray as xr
from other_networks import language, recurrent, visual

import placeformer as pf


def above(recording: xr.Dataset, statistic: str, limit: float, n: int, bins: int | None) -> int:
    """Number of units whose score exceeds a limit and is significant against shuffles."""
    policy = {"negatives": "shift"} if statistic == "border_score" else {}
    test = pf.shuffle_test(recording, statistic, n_shuffles=n, bins=bins, **policy)
    return int(((test["observed"] > limit) & (test["q"] < 0.05)).sum())


def row(name: str, recording: xr.Dataset, n: int, bins: int | None = 8) -> dict[str, object]:
    """Results for one layer."""
    cells = pf.place_cells(recording, n_shuffles=n, bins=bins, negatives="shift")
    decoded = pf.decode_position(recording, n_shuffles=99)
    return {
        "network": name,
        "layer": str(recording["layer"].values[0]),
        "units": recording.sizes["unit"],
        "eta2": float(cells["eta2"].median()),
        "bits/spike": float(cells["spatial_information"].median()),
        "tuned": int((cells["q_place"] < 0.05).sum()),
        "place": int(cells["is_place_cell"].sum()),
        "grid": above(recording, "grid_score", 0.37, n, bins),
        "border": above(recording, "border_score", 0.5, n, bins),
        "error / chance": float(decoded["median_error"] / decoded["chance_error"]),
    }


def rows(name: str, recording: xr.Dataset, n: int, bins: int | None = 8) -> list[dict[str, object]]:
    """Results for every layer."""
    layers = dict.fromkeys(recording["layer"].values)
    parts = [recording.isel(unit=(recording["layer"] == layer).values) for layer in layers]
    return [row(name, part, n, bins) for part in parts]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=199, help="shuffles of each test")
    n = parser.parse_args().n
    warnings.simplefilter("ignore")  # few samples per bin, few shuffles
    start, found = time.process_time(), []
    paths = recurrent.run_about()
    for kind in ("LSTM", "GRU"):
        pair = map(recurrent.hidden, recurrent.before_and_after(kind, paths))
        for state, recording in zip(("untrained", "trained"), pair, strict=True):
            found += rows(f"{kind}, {state}", recording, n)
    walks = language.WORLD.walk(64, language.N_STEPS, seed=0)
    for family, network in (("GPT2", language.gpt2()), ("Llama", language.llama())):
        recording = language.run(network, walks, layers=language.ACTIVATIONS[family])
        found += rows(f"{family}, random", recording, n, None)
    for state, network in (("random", visual.network()), ("trained", visual.taught())):
        found += rows(f"views, {state}", visual.recorded(network, layers=["3", "6"]), n)
    print(pd.DataFrame(found).round(2).to_string(index=False))
    print(f"{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
