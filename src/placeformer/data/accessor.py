"""The accessor ``dataset.pf``: public functions as methods of a Dataset.

It is registered when a public name of placeformer is first used. To use it on Datasets read from
files before that, ``import placeformer.data``.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import xarray as xr

import placeformer

NAMES = (
    "autocorrelogram",
    "border_score",
    "coherence",
    "decode_map",
    "decode_position",
    "dimensionality",
    "equivalent_curve",
    "field_rates",
    "field_table",
    "grid_modules",
    "grid_properties",
    "grid_score",
    "half_maps",
    "head_direction",
    "laps",
    "linearize",
    "mean_vector_length",
    "memory_comparison",
    "mutual_information",
    "paper_claims",
    "place_cell_score",
    "place_cells",
    "place_fields",
    "population_vector_correlation",
    "position_variance_explained",
    "predictivity",
    "rate_maps",
    "remapping",
    "report",
    "running_direction",
    "selectivity",
    "shuffle_test",
    "similarity",
    "sparsity",
    "spatial_information",
    "speed_score",
    "stability",
    "to_nwb",
    "to_pynapple",
    "variance_partition",
    "write_score_card",
)
"""The public functions whose first argument is a Dataset."""


@xr.register_dataset_accessor("pf")
class Accessor:
    """Public functions of placeformer with this Dataset as their first argument.

    ``recording.pf.rate_maps(bins=20)`` is ``placeformer.rate_maps(recording, bins=20)``.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        """Bind a public function to the Dataset."""
        if name not in NAMES:
            raise AttributeError(f"dataset.pf has no {name!r}; it has {', '.join(NAMES)}")
        return MethodType(getattr(placeformer, name), self._dataset)

    def __dir__(self) -> list[str]:
        """List the functions."""
        return sorted(NAMES)
