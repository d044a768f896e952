"""Random circular shifts of walks along time, for nulls that keep the statistics of both series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from placeformer.spatial.binned_sums import Shifted


@dataclass(frozen=True)
class CircularShifts:
    """Shifts of walks, each within its own length and at least some steps from both its ends."""

    lengths: NDArray[np.intp]
    """Steps of every walk."""
    n_steps: int
    """Steps of the recording, the NaN that end shorter walks among them."""
    least: NDArray[np.intp]
    """Minimum shift of every walk."""

    @classmethod
    def of(
        cls, lengths: NDArray[np.intp], n_steps: int, min_shift: int | None, hint: str = ""
    ) -> CircularShifts:
        """Shifts of at least ``min_shift`` steps, by default a tenth of each walk.

        Raises
        ------
        ValueError
            The minimum is below 1 or above half a walk; ``hint`` says what else can be done.
        """
        least = np.maximum(1, lengths // 10)
        if min_shift is not None:
            least[:] = int(min_shift)
        least[lengths == 0] = 0
        wrong = ((least < 1) | (2 * least > lengths)) & (lengths > 0)
        if wrong.any():
            walk = np.flatnonzero(wrong)[lengths[wrong].argmin()]
            if (lengths != n_steps).any():
                hint = (
                    f" for walk {walk}; load the walks as one with join=True, or leave the short "
                    "ones out with recording.isel(walk=...)"
                )
            raise ValueError(
                f"min_shift must be at least 1 and at most half a walk of {lengths[walk]} steps, "
                f"got {least[walk]}{hint}"
            )
        return cls(lengths, n_steps, least)

    @property
    def equal(self) -> bool:
        """Whether all walks are as long as the recording."""
        return bool((self.lengths == self.n_steps).all())

    def draw(self, n_shuffles: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Random shifts (shuffle, walk)."""
        shape = (n_shuffles, len(self.lengths))
        if self.equal:
            low = int(self.least[0])
            return rng.integers(low, self.n_steps - low + 1, shape)
        return rng.integers(self.least, self.lengths - self.least + 1, shape)

    def moved(self, index: NDArray[np.integer], amounts: NDArray[np.integer], size: int) -> Shifted:
        """Bins (shift, walk, time) of walks rolled by shifts (shift, walk)."""
        return Shifted(index, amounts, size, None if self.equal else self.lengths)


def refuse_hidden(sums: NDArray[np.float64]) -> None:
    """Refuse sums of values that the data leave out, as they have no place, and a shift brings in.

    Raises
    ------
    ValueError
        A sum (bin, unit) is not finite.
    """
    units = np.flatnonzero(~np.isfinite(sums).all(axis=0))
    if units.size:
        raise ValueError(
            "activation must be finite at every step of a walk for circular shifts, also where the "
            f"place is NaN: {units.size} units are not (first: number {units[0]}). Walks may end "
            "in NaN but not hold them between other values: load the recording with join=True, "
            "which leaves out what lies between the epochs, or drop those steps"
        )
