"""The null in which places of a map that show the same letter trade their rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer import _blocks, nulls, schema
from placeformer.places import Places, letters_of, unit_sums
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
    counts = _blocks.counts(places.index, places.size)
    letters = _within_maps(letters_of(recording, places), places)
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


def _within_maps(letters: NDArray[np.intp], places: Places) -> NDArray[np.intp]:
    """Number of the map and letter of every place; -1 where unvisited."""
    of_map = np.arange(places.size) // places.grid.size
    return np.where(letters < 0, -1, of_map * (letters.max() + 1) + letters)


def _trade(letters: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Permutation of places that keeps every place's number of map and letter."""
    order = np.arange(len(letters))
    old = np.argsort(letters, kind="stable")
    new = np.lexsort((rng.random(len(letters)), letters))
    order[old] = new
    return np.where(letters < 0, np.arange(len(letters)), order)
