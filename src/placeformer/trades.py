"""The null in which places of a map that show the same letter trade their rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import _kernels, nulls, schema
from placeformer.binning import samples
from placeformer.places import Places, unit_sums
from placeformer.ratemaps import assemble


def relabelled_maps(
    recording: xr.Dataset,
    layout: nulls.Layout,
    n: int,
    rng: np.random.Generator,
    measure: nulls.Measure,
) -> nulls.Null:
    """A measure of rate maps whose places trade their rates within map and letter."""
    has_maps = schema.MAP in recording.variables
    places = layout.places(recording, per_map=has_maps or layout.per_map)
    sums, _ = unit_sums(recording, places.index, places.size, skipna=False)
    counts = _kernels.bin_counts(places.index, places.size)
    letters = _letters(recording, places)
    out = places if layout.per_map else replace(places, maps=None)

    def pooled(values: NDArray[Any]) -> NDArray[Any]:
        """Sum over maps, where they are pooled, of (shuffle, place, ...)."""
        return values.reshape(len(values), -1, out.size, *values.shape[2:]).sum(axis=1)

    maps = assemble(recording, out, pooled(sums[None])[0], pooled(counts[None])[0])

    def draws() -> Iterator[NDArray[np.float64]]:
        for group in nulls.groups(n, sums.size):
            order = np.stack([_trade(letters, rng) for _ in range(group)])
            each = nulls.shuffled(maps, out, pooled(sums[order]), pooled(counts[order]))
            yield measure.of_shuffles(each)

    return measure.function(maps), draws()


def _letters(recording: xr.Dataset, places: Places) -> NDArray[np.intp]:
    """Number of the map and letter of every place of the places; -1 where unvisited.

    Raises
    ------
    ValueError
        A place of a map shows more than one letter.
    """
    schema.check_recording(recording, need=("observation",))
    here = places.index >= 0
    place = places.index[here]
    seen = np.broadcast_to(samples(recording, "observation"), here.shape)[here]
    letter = np.unique(seen, return_inverse=True)[1]
    n_letters = int(letter.max(initial=0)) + 1
    pairs = np.unique(place * n_letters + letter)
    found = pairs // n_letters
    if np.unique(found).size < found.size:
        raise ValueError(
            "null='within_observation' needs one observation a place of a map, found "
            f"{found.size} pairs for {np.unique(found).size} places; keep maps apart with the "
            "coordinate 'map', use null='circular', or leave the observation out with "
            "recording.drop_vars('observation')"
        )
    number: NDArray[np.intp] = np.full(places.size, -1, np.intp)
    number[found] = found // places.grid.size * n_letters + pairs % n_letters
    return number


def _trade(letters: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Permutation of places that keeps every place's number of map and letter."""
    order = np.arange(len(letters))
    old = np.argsort(letters, kind="stable")
    new = np.lexsort((rng.random(len(letters)), letters))
    order[old] = new
    return np.where(letters < 0, np.arange(len(letters)), order)
