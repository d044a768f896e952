"""Cross-validation: folds of walks, or of blocks of time within walks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from tqdm.auto import tqdm

from placeformer._options import check_whole
from placeformer.data import blocks as _blocks
from placeformer.data import schema
from placeformer.data.blocks import Numbers, integers
from placeformer.population.vectors import thinned

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Groups:
    """Walks, or blocks of time of each walk, which are trained on or tested as whole groups."""

    n_walks: int
    n_steps: int
    blocks: int
    gap: int

    @property
    def n(self) -> int:
        """Number of groups."""
        return self.n_walks * self.blocks

    @property
    def length(self) -> int:
        """Number of steps in a group, including its gaps."""
        return self.n_steps // self.blocks

    @property
    def index(self) -> Numbers:
        """Group of every sample (walk, time); -1 in the gaps and after the last block."""
        return self.spread(np.arange(self.n))

    def spread(self, of_group: NDArray[np.intp]) -> Numbers:
        """Spread numbers (group,) over samples (walk, time); -1 for samples in no group."""
        step = np.arange(self.n_steps)
        block, within = step // self.length, step % self.length
        inside = (block < self.blocks) & (within >= self.gap) & (within < self.length - self.gap)
        number = of_group.astype(integers(int(of_group.max()) + 1)).reshape(self.n_walks, -1)
        return np.where(
            inside, number[:, np.minimum(block, self.blocks - 1)], number.dtype.type(-1)
        )

    def split(self, values: NDArray[Any]) -> NDArray[Any]:
        """Rearrange values (walk, time, ...) as (group, step, ...)."""
        whole = values[:, : self.blocks * self.length]
        return whole.reshape(self.n, self.length, *values.shape[2:])

    def as_walks(self, recording: xr.Dataset, every: int = 1) -> xr.Dataset:
        """A Recording in memory whose walks are the groups, with every n-th step."""
        steps = [name for name, v in recording.variables.items() if v.dims == (schema.TIME,)]
        recording = recording.drop_vars(steps)
        starts = range(0, self.blocks * self.length, self.length)
        parts = []
        for start in starts:
            block = recording.isel(time=slice(start, start + self.length))
            part = block.isel(time=slice(None, None, every))
            values = block[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS)
            few = values.isel(time=slice(None, None, every)).variable
            part[schema.ACTIVATION] = few.copy(data=thinned(values.data, every))
            parts.append(part.load())
        if len(parts) == 1:
            return parts[0]
        joined = xr.concat(parts, schema.WALK, coords="minimal", compat="override")
        order = np.arange(self.n).reshape(self.blocks, self.n_walks).T.ravel()
        return joined.isel(walk=order)

    @classmethod
    def of(cls, recording: xr.Dataset, blocks: int | None = None, gap: int | None = None) -> Groups:
        """Groups of a recording: its walks, or ``blocks`` blocks of time of each walk."""
        n_walks, n_steps = recording.sizes[schema.WALK], recording.sizes[schema.TIME]
        if blocks is None:
            if gap is not None:
                raise ValueError(
                    f"gap must be None without blocks of time, got {gap}; pass blocks as well"
                )
            return cls(n_walks, n_steps, 1, 0)
        check_whole("blocks", blocks)
        if blocks > n_steps:
            raise ValueError(f"blocks must be 1 to {n_steps} (the steps of a walk), got {blocks}")
        length = n_steps // blocks
        gap = length // 10 if gap is None else gap
        check_whole("gap", gap, 0)
        if not 2 * gap < length:
            raise ValueError(
                f"gap must be at least 0 and less than half a block of {length} steps, got {gap}"
            )
        return cls(n_walks, n_steps, blocks, gap)


def folds(
    groups: Groups, cv: Any = None, label: NDArray[Any] | None = None, *, seed: int = 0
) -> NDArray[np.intp]:
    """Number of the fold that tests each group, shape (group,).

    Parameters
    ----------
    groups
        At least two groups.
    cv
        Number of folds, or a scikit-learn splitter, which receives the groups (never their samples)
        and must test each group once. By default five folds, or one per group if there are fewer
        than five groups.
    label
        Label of each group to stratify by: the groups of every label are dealt to the folds in
        turn, so that labels with the same number of groups are equally frequent in each fold.
        Otherwise a decoder that has learnt nothing would predict the label that is rarer among the
        tested groups.
    seed
        Random seed of the stratified folds.

    Raises
    ------
    ValueError
        There is a single group, there are more folds than groups, or the splitter does not test
        each group once.
    """
    if groups.n < 2:
        raise ValueError(
            "recording must have at least 2 walks, because a decoder is tested on other walks than "
            "it was trained on, got 1; record more walks, or cut the walk into blocks of time with "
            "decode_position(..., blocks=10), which leaves gaps between the blocks"
        )
    if cv is None or isinstance(cv, int | np.integer):
        n_folds = None if cv is None else int(cv)
        if label is not None:
            return _dealt(np.asarray(label), n_folds, seed)
        n_folds = min(DEFAULT_FOLDS, groups.n) if n_folds is None else n_folds
        _check_n_folds(n_folds, groups.n, "walks or blocks")
        cv = GroupKFold(n_folds)
    elif isinstance(cv, str) or not hasattr(cv, "split"):
        raise ValueError(
            f"cv must be a whole number of folds or a splitter of scikit-learn, got {cv!r}"
        )
    number = np.arange(groups.n)
    fold_of_group = np.full(groups.n, -1, np.intp)
    tested = np.zeros(groups.n, int)
    with warnings.catch_warnings():  # some splitters warn that they ignore groups
        warnings.filterwarnings("ignore", "The groups parameter is ignored")
        try:
            splits = list(cv.split(np.zeros((groups.n, 1)), label, number))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"cv must split {groups.n} walks or blocks{'' if label is None else ' by label'}, "
                f"but {cv!r} says: {error}; use a number of folds, GroupKFold or LeaveOneGroupOut"
            ) from error
    for fold, (_, test) in enumerate(splits):
        fold_of_group[test] = fold
        tested[test] += 1
    if (tested != 1).any():
        raise ValueError(
            f"cv must test every walk once, got {tested.min()} to {tested.max()} times with "
            f"{cv!r}; use a number of folds, GroupKFold or LeaveOneGroupOut"
        )
    return fold_of_group


def _dealt(label: NDArray[Any], n_folds: int | None, seed: int) -> NDArray[np.intp]:
    """Folds (group,) to which the groups of every label are dealt in turn, in random order."""
    names, counts = np.unique(label, return_counts=True)
    most = int(counts.min())
    if most < 2:
        raise ValueError(
            "recording must have at least 2 walks on every map, got 1 on map "
            f"{names[counts.argmin()]}; record more walks"
        )
    n_folds = min(DEFAULT_FOLDS, most) if n_folds is None else n_folds
    _check_n_folds(n_folds, most, "walks of a map")
    rng = np.random.default_rng(seed)
    fold_of_group = np.empty(len(label), np.intp)
    for name in names:
        own = rng.permutation(np.flatnonzero(label == name))
        fold_of_group[own] = np.arange(own.size) % n_folds
    return fold_of_group


def _check_n_folds(n_folds: int, most: int, of: str) -> None:
    if not 2 <= n_folds <= most:
        raise ValueError(f"cv must be 2 to {most} folds (the number of {of}), got {n_folds}")


Decode = Callable[[int, NDArray[Any], NDArray[Any] | None], NDArray[Any]]
"""Outputs (sample, output) of a fold's decoder for samples (sample, unit) and their seconds."""


def by_fold(
    decode: Decode,
    values: Any,
    fold: Numbers,
    n_outputs: int,
    dtype: np.dtype[Any],
    seconds: NDArray[np.float64] | None = None,
    progress: bool = False,
) -> NDArray[Any]:
    """Outputs (walk, time, output) of every sample from the decoder of its fold; 0 without a fold.

    Activations (walk, time, unit) are read block by block, dask arrays chunk by chunk.
    """
    of_block = partial(_of_block, decode, n_outputs, dtype)
    of_samples = [fold] if seconds is None else [fold, seconds]
    if hasattr(values, "dask"):
        import dask.array as da

        values = values.rechunk({2: -1})
        walks_and_steps = values.chunks[:2]
        lazy = [da.from_array(a[..., None], chunks=(*walks_and_steps, 1)) for a in of_samples]
        chunks = (*walks_and_steps, (n_outputs,))
        outputs = da.map_blocks(of_block, values, *lazy, chunks=chunks, dtype=dtype)
        return np.asarray(outputs.compute())
    result = np.zeros((*fold.shape, n_outputs), dtype)
    for where in tqdm(list(_blocks.blocks(values.shape)), desc="blocks", disable=not progress):
        result[where] = of_block(values[where], *(a[where][..., None] for a in of_samples))
    return result


def _of_block(
    decode: Decode,
    n_outputs: int,
    dtype: np.dtype[Any],
    block: NDArray[Any],
    fold: Numbers,
    seconds: NDArray[np.float64] | None = None,
) -> NDArray[Any]:
    """Outputs of a block (walk, time, unit) with folds and seconds (walk, time, 1)."""
    fold = fold[..., 0]
    outputs = np.zeros((*fold.shape, n_outputs), dtype)
    for k in np.unique(fold[fold >= 0]):
        here = fold == k
        own = None if seconds is None else seconds[..., 0][here]
        samples = block.reshape(-1, block.shape[2]) if here.all() else block[here]
        outputs[here] = decode(int(k), samples, own)
    return outputs
