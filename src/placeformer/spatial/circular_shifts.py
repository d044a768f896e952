"""Random circular shifts of walks in time, which keep the temporal statistics of both series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_shift(n_steps: int, min_shift: int | None, hint: str = "") -> int:
    """Minimum shift in steps: the one given, or a tenth of the walk.

    Raises
    ------
    ValueError
        It is below 1 or above half the walk; `hint` is appended to the message.
    """
    low = max(1, n_steps // 10) if min_shift is None else int(min_shift)
    if low < 1 or 2 * low > n_steps:
        raise ValueError(
            f"min_shift must be at least 1 and at most half a walk of {n_steps} steps, got "
            f"{low}{hint}"
        )
    return low


def circular_shifts(
    shape: tuple[int, ...], n_shuffles: int, low: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Shifts (shuffle, walk) of walks of a shape (walk, time), at least `low` from both ends."""
    n_walks, n_steps = shape
    return rng.integers(low, n_steps - low + 1, (n_shuffles, n_walks))
