"""Timing of function calls."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds(
    function: Callable[[], object], clock: Callable[[], float] = time.process_time
) -> float:
    """Time of a call: CPU time of all threads, unless another clock is given."""
    start = clock()
    function()
    return clock() - start


def least(
    function: Callable[[], object],
    repeats: int = 3,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Minimum time over several calls."""
    return min(seconds(function, clock) for _ in range(repeats))
