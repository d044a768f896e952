"""What was decoded, beside what is true: columns, labels and settings of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import schema
from placeformer.chance import Columns, distance, mean, median, same
from placeformer.learners import Learner

SAMPLE = (schema.WALK, schema.TIME)


def of_position(
    position: NDArray[np.float64],
    decoded: NDArray[np.float64],
    fold: NDArray[np.intp],
    units: str,
) -> Columns:
    """Columns of decoded positions."""
    known = fold >= 0
    truth, error = position[known], distance(decoded, position)
    left = np.square(decoded[known] - truth).sum(axis=0)
    spread = np.square(truth - truth.mean(axis=0)).sum(axis=0)
    r2 = 1 - np.divide(left, spread, out=np.full(left.shape, np.nan), where=spread > 0)
    length = {"units": units}
    return {
        "decoded": ((*SAMPLE, "axis"), decoded, length | {"long_name": "decoded position"}),
        "error": (SAMPLE, error, length | {"long_name": "distance of decoded and true position"}),
        "median_error": ((), median(error), length | {"long_name": "median distance"}),
        "mean_error": ((), mean(error), length | {"long_name": "mean distance"}),
        "r2": ("axis", r2, {"units": "1", "long_name": "variance of position decoded"}),
    }


def of_map(
    maps: NDArray[Any],
    truth: NDArray[np.intp],
    decoded: NDArray[np.float64],
    fold: NDArray[np.intp],
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


def labelled(
    columns: Columns, recording: xr.Dataset, fold: NDArray[np.intp], **coords: Any
) -> xr.Dataset:
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
