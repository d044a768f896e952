"""Record the activations of any network into the Dataset of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import xarray as xr
from torch import nn

from placeformer.models.memory import world_of
from placeformer.models.transformer import NavigationTransformer
from placeformer.recording.hooks import Layers, Units, by_layer
from placeformer.recording.navigation import navigation_job
from placeformer.recording.network_state import original
from placeformer.recording.output_axes import Dims
from placeformer.recording.runner import run_recording
from placeformer.recording.torch_modules import Forward, module_job


def record(
    network: nn.Module,
    walks: xr.Dataset | Mapping[str, Any] | None = None,
    *,
    layers: Layers | None = None,
    units: Units | None = None,
    forward: Forward | None = None,
    inputs: Mapping[str, Any] | None = None,
    dims: Dims | Mapping[str, Dims] | None = None,
    position_units: str | None = None,
    n_walks: int = 64,
    n_steps: int = 1536,
    seed: int = 0,
    familiar: bool = True,
    maps: Sequence[int] = (0,),
    burn_in: int | None = None,
    batch: int | None = None,
    chunk: int | None = None,
    dtype: str = "float32",
    store: str | PathLike[str] | None = None,
    check_finite: bool = True,
    progress: bool = True,
) -> xr.Dataset:
    """Record activations of a network along walks.

    Parameters
    ----------
    network
        A navigation Transformer or any ``torch.nn.Module``, which runs in eval mode. It comes back
        as it was: modes, hooks, attributes, parameters, buffers, gradients, and the random state.
        Inside ``torch.compile`` and (Distributed)DataParallel the original is recorded.
    walks
        What the network is run along. For a navigation Transformer, what :meth:`GridWorld.walk`
        returned; by default `n_walks` new ones of `burn_in` + `n_steps` steps on `maps`. For any
        other network, its behaviour: a Dataset with dims (walk, time), or (time,) of one walk, or
        a mapping of such arrays. Variables without other dims are carried into the Recording.
    layers
        Names or patterns. Of a navigation Transformer: "ffn.*" (feed-forward units, the default),
        "attention.*" (weights, head × lag), "position" (place embedding), each of the query
        stream, whose step is the place just moved to; "content.ffn.*" and so on for the letter
        stream; one stream at a time. Of any other network: dotted names of its modules,
        patterns of them ("encoder.*.relu"), or the modules; which of several outputs is meant
        follows in brackets, "lstm[0]" or "block[hidden][1]", unless one alone has a time axis.
        Layers that a pattern matches and that are never called are left out.
    units
        Record only these: a mapping of layers to indices, a sequence of labels such as
        ``["ffn.1/37"]``, or a Dataset or DataArray of units, such as a selection of a Recording.
    forward
        How a network that is no navigation Transformer is run:
        ``forward(module, batch)``, `batch` being a Dataset of some whole walks of `walks` and
        `inputs`; or ``forward(module, batch, state)``, which returns the next `state` and is
        called for `chunk` steps at a time, with None at the beginning of walks. By default
        ``module(*inputs)``, floats in the network's precision, integers as int64, on its device.
    inputs
        Mapping of arrays (walk, time, ...) that the network needs and the Recording does not; or
        of a DataArray (walk, ...) such as the walks' starts.
    dims
        Names of the axes of the layers' outputs, for all or as a mapping of layers: "walk",
        "time", or "sample" for both in one (all steps of the first walk first); all others are
        units. An output without time is of a layer called once a step. By default told by their
        lengths, walk being first or right after time, and refused where that can be read in two
        ways.
    position_units
        Units of `x` and `y`, for example "m"; by default those that `walks` names, or grid steps.
    n_walks, n_steps, familiar, maps
        Of the new walks: number, recorded steps in each, trained or novel maps, and map indices.
        One map by default, since a rate map is a map of one place.
    seed
        Of the new walks and of e₀; of the random numbers drawn by a network that draws any.
    burn_in
        First steps that are run and not recorded. By default ``memory + chunk`` of a navigation
        Transformer, after which every chunk has its full memory, and 0 of any other network.
    batch, chunk
        Walks, and steps of them, that are run at once; they bound the memory. By default 128 walks
        and the network's own chunk, or about 16,384 samples and, with `state`, 1,024 steps.
    dtype
        "float32" or "float16".
    store
        Folder of a new Zarr store that the recording is written to as it goes: memory does not
        grow with its length. The same call goes on with one that was interrupted, and opens one
        that is finished. It needs ``pip install 'placeformer[zarr]'``.
    check_finite
        Refuse activations that are NaN or infinite.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        A Recording (dims ``walk``, ``time``, ``unit``): `activation`, signed, in arbitrary units;
        `layer`, `component`, `index` of every unit, and its label "layer/index" as the coordinate
        `unit`: ``recording.sel(unit="ffn.1/37")``. Of a navigation Transformer `x`, `y`, `map`,
        `familiar`, `window`; `action` and `observation`, the letter at `x`, `y`: for the query
        stream `action` led to the place, and `prediction`, `correct` and `visited` are of it; for
        the letter stream `action` is the one taken there, and ``time`` counts from the walk's
        first step. With `store` its variables are dask arrays.

    Raises
    ------
    ValueError
        Unknown layers (the nearest names are shown), layers that are never called, outputs whose
        axes do not fit or fit in several ways, lengths that differ, values that are not finite, a
        store that holds another recording (what differs is shown).
    OSError
        The store cannot be written; what was stored stays readable, and how much is said.
    BlockingIOError
        Another process is recording into the store; it may be read meanwhile.

    Examples
    --------
    >>> import torch, numpy as np, placeformer as pf
    >>> lstm = torch.nn.LSTM(2, 16, batch_first=True)
    >>> place = np.random.default_rng(0).random((2, 4, 100))
    >>> velocity = np.gradient(place, axis=2).transpose(1, 2, 0)
    >>> recording = pf.record(
    ...     lstm,
    ...     {"x": place[0], "y": place[1]},
    ...     layers="LSTM",
    ...     inputs={"velocity": velocity},
    ...     progress=False,
    ... )
    >>> dict(recording.sizes)
    {'walk': 4, 'time': 100, 'unit': 16}
    """
    if dtype not in ("float32", "float16"):
        raise ValueError(f'dtype must be "float32" or "float16", got {dtype!r}')
    network = original(network)
    common: dict[str, Any] = {
        "layers": layers, "units": by_layer(units), "seed": seed, "batch": batch, "dtype": dtype,
        "check_finite": check_finite,
    }  # fmt: skip
    if isinstance(network, NavigationTransformer) and forward is None and inputs is None:
        if walks is not None and not isinstance(walks, xr.Dataset):
            raise TypeError(
                "walks of a navigation Transformer must be what GridWorld.walk returned"
            )
        if any(option is not None for option in (dims, position_units, chunk)):
            raise ValueError(
                "dims, position_units and chunk of a navigation Transformer are its own; leave them"
            )
        if burn_in is None:
            burn_in = network.config.memory + network.config.chunk
        if walks is None:
            steps = burn_in + n_steps
            walks = world_of(network).walk(n_walks, steps, seed=seed, familiar=familiar, maps=maps)
        job = navigation_job(network, walks, burn_in=burn_in, **common)
    else:
        job = module_job(
            network,
            walks,
            forward=forward,
            inputs={} if inputs is None else inputs,
            dims=dims,
            position_units=position_units,
            burn_in=burn_in or 0,
            chunk=chunk,
            **common,
        )
    return run_recording(job, store_path(store), progress=progress)


def store_path(store: str | PathLike[str] | None) -> Path | None:
    """Folder of a store; only local ones can be written whole or not at all."""
    if store is None:
        return None
    if "://" in fspath(store):
        raise ValueError(f"store must be a folder on this machine, got {store!r}; copy it there")
    return Path(store).expanduser()
