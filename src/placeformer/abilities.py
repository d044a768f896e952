"""Other abilities to score under a lesion, as functions of the lesioned network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer.branches import count_errors
from placeformer.memory import MEMORIES, world_of
from placeformer.model import NavigationTransformer
from placeformer.recording import record


def novel_working_memory(
    *, n_walks: int = 32, n_steps: int = 256, where: str = "every_step", seed: int = 0
) -> Callable[[NavigationTransformer], NDArray[np.float64]]:
    """Working-memory error on novel maps, an ability that needs nothing of the trained maps.

    Parameters
    ----------
    n_walks, n_steps, seed
        Walks on novel maps.
    where
        Which predictions of places within the attended window are counted, see
        :func:`memory_errors`. At the ends of chunks a short walk may have none, and NaN.

    Returns
    -------
    callable
        From a network to the error of every walk (walk,), 0 to 1: for the `scores` of
        :func:`ablation_curve`, paired over walks.
    """

    def score(model: NavigationTransformer) -> NDArray[np.float64]:
        walk = world_of(model).walk(n_walks, n_steps, seed=seed, familiar=False)
        wrong, n = count_errors(model, walk, seed=seed, where=where)
        which = MEMORIES.index("working")
        counted, missed = n[:, which], wrong[0, :, which]
        return np.divide(missed, counted, out=np.full(counted.shape, np.nan), where=counted > 0)

    return score


def recorded_score(
    analyse: Callable[[xr.Dataset], ArrayLike], **settings: Any
) -> Callable[[NavigationTransformer], ArrayLike]:
    """Score a network by an analysis of its recording, such as decoding its position.

    Parameters
    ----------
    analyse
        From a Recording to a cost (greater is worse): a number, or one for each of the same
        trials, such as walks.
    settings
        Of :func:`record`: `layers`, `n_walks`, `seed`, …

    Returns
    -------
    callable
        For the `scores` of :func:`ablation_curve`; the recording is made under the lesion.
    """
    return lambda model: analyse(record(model, **({"progress": False} | settings)))
