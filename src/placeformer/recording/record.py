"""Record the activations of any network into a Recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import xarray as xr
from torch import nn

from placeformer._options import check_whole
from placeformer.models.memory import checked_walks, world_of
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
        A navigation Transformer or any ``torch.nn.Module``. It runs in eval mode, and its modes,
        hooks, attributes, parameters, buffers and gradients are restored afterwards, as is the
        random state. ``torch.compile`` and (Distributed)DataParallel are unwrapped.
    walks
        Walks that the network runs along. For a navigation Transformer, walks from
        :meth:`GridWorld.walk`; by default `n_walks` new walks of `burn_in` + `n_steps` steps on
        `maps`. For any other network, its behaviour: a Dataset with dims (walk, time), or (time,)
        for one walk, or a mapping of such arrays. Variables without other dims are copied to the
        Recording.
    layers
        Names or patterns of layers. Of a navigation Transformer: "ffn.*" (feed-forward units, the
        default), "attention.*" (weights, head × lag), "residual.*" (the stream after each layer) or
        "position" (place embedding) of the query stream, whose steps belong to the next place;
        "content.ffn.*" and so on for the letter stream; only one stream per call. Of any other
        network: dotted names of its modules, patterns of them ("encoder.*.relu"), or the modules.
        If several outputs of a layer have a time axis, one is selected in brackets: "lstm[0]" or
        "block[hidden][1]". Layers that match a pattern and are never called, or have no time axis,
        are left out.
    units
        Record only these units: a mapping from layer to indices, a sequence of labels such as
        ``["ffn.1/37"]``, a Dataset or DataArray of units, such as a selection of a Recording, or a
        boolean DataArray over ``unit``, such as ``score > 0.5``.
    forward
        Function that runs a network other than a navigation Transformer:
        ``forward(module, batch)``, where `batch` is a Dataset with whole walks of `walks` and
        `inputs`; or ``forward(module, batch, state)``, which is called for `chunk` steps at a time
        and returns the next `state`; `state` is None at the start of walks. The default calls
        ``module(**inputs)`` if all names of `inputs` are parameters of its ``forward``, else
        ``module(*inputs)`` in their order, on the network's device, with floats in its precision
        and integers as int64.
    inputs
        Mapping of further arrays (walk, time, ...) that the network needs and that are not
        recorded, or of DataArrays (walk, ...) such as the starts of the walks.
    dims
        Names of the axes of the layers' outputs, for all layers or as a mapping by layer: "walk",
        "time", or "sample" for both in one axis (all steps of the first walk first); any other
        name is an axis of units. An output without a time axis belongs to a layer that is called
        once per step. By default the axes are inferred from their lengths, where walk is the first
        axis or follows time; it is an error if several layouts are possible. Whether the lengths
        agree by chance is checked by running the network once more, over three steps of two walks
        (twice if walk and time are in one axis), which naming the axes avoids.
    position_units
        Units of `x` and `y`, for example "m"; by default those in `walks`, or grid steps.
    n_walks, n_steps, familiar, maps
        New walks: their number, recorded steps in each, trained or novel maps, and map indices.
        The default is a single map, since places of different maps are different places.
    seed
        Random seed of the new walks and e₀, and of random numbers that the network draws.
    burn_in
        Number of first steps that are run but not recorded. The default is ``memory + chunk`` for
        a navigation Transformer, after which every chunk has its full memory, and 0 otherwise.
    batch, chunk
        Number of walks, and of steps, that run at once, which limits memory. By default 128 walks
        and the network's own chunk; for other networks about 16,384 samples, in chunks of 1,024
        steps if `forward` takes a state.
        State that the network itself keeps between calls is reset at the start of every batch to
        what it was before the recording.
    dtype
        "float32" or "float16".
    store
        Folder of a Zarr store to which the recording is written while it is made, so that memory
        does not grow with its length. The same call resumes an interrupted recording and opens a
        finished one. Requires ``pip install 'placeformer[zarr]'``.
    check_finite
        Whether NaN and infinite activations raise an error.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        A Recording (dims ``walk``, ``time``, ``unit``): `activation`, signed, in arbitrary units;
        `layer`, `component` and `index` of every unit, and its label "layer/index" as the
        coordinate `unit`: ``recording.sel(unit="ffn.1/37")``. For a navigation Transformer also
        `x`, `y`, `map`, `familiar`, `window`, `action` and `observation`, the letter at `x`, `y`.
        For the query stream, `action` is the one that led to the place, and `prediction`,
        `correct` and `visited` refer to that place. For the letter stream, `action` is the one
        taken at the place. ``time`` counts from the first step of the walk, including `burn_in`.
        With `store` the variables are dask arrays.

    Raises
    ------
    TypeError
        `network`, `walks`, `layers`, `units`, `forward` or `inputs` is of another type.
    ValueError
        Unknown layers (similar names are suggested), layers that are never called, outputs whose
        axes do not fit or fit in several ways, different lengths, values that are not finite, or a
        store with a recording of other settings (which are listed).
    OSError
        The store cannot be written. The part that is stored remains readable, and the message says
        how much it is.
    BlockingIOError
        Another process is recording into the store; the stored part can be read.

    Warns
    -----
    UserWarning
        A layer normalises by the batch that runs at once, even in eval mode, and there are several.

    See Also
    --------
    rate_maps, place_cells : Analyse a Recording.
    from_arrays : Make a Recording from arrays.
    GridWorld.walk : Walks for a navigation Transformer.
    ablate, magnesium : Record under a lesion or at another Mg²⁺ concentration.

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
    check_whole("seed", seed, 0)
    network = original(network)
    common: dict[str, Any] = {
        "layers": layers, "units": by_layer(units), "seed": seed, "batch": batch, "dtype": dtype,
        "check_finite": check_finite,
    }  # fmt: skip
    if isinstance(network, NavigationTransformer) and forward is None and inputs is None:
        if walks is not None and not isinstance(walks, xr.Dataset):
            raise TypeError(
                f"walks of a navigation Transformer must be a Dataset from GridWorld.walk, got "
                f"{type(walks).__name__}"
            )
        if any(option is not None for option in (dims, position_units, chunk)):
            raise ValueError(
                "dims, position_units and chunk must be None for a navigation Transformer, got "
                f"{dims!r}, {position_units!r} and {chunk!r}"
            )
        if burn_in is None:
            burn_in = network.config.memory + network.config.chunk
        if walks is None:
            steps = burn_in + n_steps
            walks = world_of(network).walk(n_walks, steps, seed=seed, familiar=familiar, maps=maps)
        walks = checked_walks(walks, network.config.n_letters)
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
    """Folder of a store, which must be local to be written atomically."""
    if store is None:
        return None
    if not isinstance(store, str | PathLike) or not isinstance(fspath(store), str):
        raise TypeError(f"store must be the path of a folder, got {store!r:.80}")
    if "://" in fspath(store) or "\0" in fspath(store):
        raise ValueError(
            f"store must be a folder on this machine, got {store!r}; record to a local folder, and "
            "copy it there"
        )
    return Path(store).expanduser()
