"""What was decoded, beside what is true: columns, labels and settings of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer._blocks import Numbers
from placeformer.chance import Columns, distance, mean, median, same
from placeformer.learners import Learner

SAMPLE = (schema.WALK, schema.TIME)


def of_position(
    position: NDArray[Any],
    decoded: NDArray[np.float64],
    fold: Numbers,
    units: str,
) -> Columns:
    """Columns of decoded positions."""
    error = distance(decoded, position)
    r2 = [_r2(position[..., k], decoded[..., k], fold >= 0) for k in range(position.shape[-1])]
    length = {"units": units}
    return {
        "decoded": ((*SAMPLE, "axis"), decoded, length | {"long_name": "decoded position"}),
        "error": (SAMPLE, error, length | {"long_name": "distance of decoded and true position"}),
        "median_error": ((), median(error), length | {"long_name": "median distance"}),
        "mean_error": ((), mean(error), length | {"long_name": "mean distance"}),
        "r2": ("axis", r2, {"units": "1", "long_name": "variance of position decoded"}),
    }


def _r2(truth: NDArray[Any], decoded: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """1 less the squared error over the variance of known values; NaN without variance."""
    values = truth[known].astype(float)
    left = np.square(decoded[known] - values).sum()
    spread = np.square(values - values.mean()).sum()
    return float(1 - left / spread) if spread > 0 else np.nan


def of_map(
    maps: NDArray[Any],
    truth: NDArray[np.intp],
    decoded: NDArray[np.float64],
    fold: Numbers,
) -> Columns:
    """Columns of decoded maps."""
    known = fold >= 0
    pairs = np.zeros((maps.size, maps.size))
    np.add.at(pairs, (truth[known], decoded[known].astype(np.intp)), 1)
    share = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    named = np.full(fold.shape, np.nan)
    named[known] = maps[decoded[known].astype(np.intp)]
    about = {"units": "1", "long_name": "share of a map's samples decoded as each map"}
    return {
        "decoded": (SAMPLE, named, {"units": "1", "long_name": "decoded map"}),
        "accuracy": ((), mean(same(decoded, truth)), {"units": "1", "long_name": "share right"}),
        "confusion": ((schema.MAP, "decoded_map"), share, about),
    }


def labelled(columns: Columns, recording: xr.Dataset, fold: Numbers, **coords: Any) -> xr.Dataset:
    """Dataset of columns with the recording's coordinates of samples."""
    kept = {
        name: values
        for name, values in recording.coords.items()
        if set(values.dims) <= set(SAMPLE) and name not in coords
    }
    about = {"units": "1", "long_name": "fold that the sample was tested in; -1: left out"}
    found = xr.Dataset(columns, coords=kept | coords | {"bound": ["lower", "upper"]})
    return found.assign_coords(test_fold=(SAMPLE, fold, about))


def text(cv: Any) -> Any:
    """Folds as an attribute: a number or a text."""
    return cv if cv is None or isinstance(cv, int) else repr(cv)


def signed(
    result: xr.Dataset, recording: xr.Dataset, step: str, learner: Learner, **settings: Any
) -> xr.Dataset:
    """The result with its settings in its attributes."""
    settings = {"method": learner.name, "seed": learner.seed, **settings, **learner.options}
    if learner.max_samples is not None:
        settings["max_samples"] = learner.max_samples
    result.attrs.update({k: v for k, v in settings.items() if isinstance(v, str | int | float)})
    result.attrs["n_units"] = recording.sizes[schema.UNIT]
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, step, **settings)
    return result
