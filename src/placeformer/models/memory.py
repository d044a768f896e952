"""Working- and reference-memory errors of a navigation Transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from placeformer._options import check_whole
from placeformer.data.schema import TIME, WALK, variable, world_shape
from placeformer.models.grid_world import GridWorld
from placeformer.models.network_checks import navigation_transformer
from placeformer.models.ownership import in_use
from placeformer.models.threads import suitable_threads
from placeformer.models.transformer import ModelConfig, NavigationTransformer, State
from placeformer.stats.bootstrap import ratio
from placeformer.stats.intervals import ABOUT_INTERVAL, LEVEL, error_interval

INPUTS = ["action", "observation", "target", "x", "y", "next_x", "next_y"]
"""Variables of walks that a network runs along."""
MEMORIES = ("working", "reference")
KINDS = ("trained", "novel")

CURRENT_WALK: ContextVar[xr.Dataset | None] = ContextVar("CURRENT_WALK", default=None)
"""Walks and steps that a network is running on; None outside of :func:`along`.

PyTorch passes a forward hook the module and its tensors, and nothing about the behaviour. A lesion
that replaces a unit by its mean at the current place, or by a sample drawn for every walk and step,
needs to know which place, walk and step each row of the tensor belongs to. The loops that run a
network along walks (:func:`forward_chunks`, ``record``) set it here and
``interventions.replacement`` reads it, so that no layer has to pass on an argument that it does not
use. A context variable, unlike a module global, is separate for every thread and task.
"""

NUMBERS = {WALK: "walk_number", TIME: "step_number"}
"""Coordinates with the numbers of the walks and steps among all that are run, if the labels walk
and time of the behaviour differ from them; see :func:`numbers`."""


def numbers(walk: xr.Dataset, dim: str) -> NDArray[np.int64]:
    """Numbers of the walks, or of the steps, that a network runs on."""
    name = NUMBERS[dim]
    return walk[name if name in walk.coords else dim].values.astype(np.int64)


@contextmanager
def along(walk: xr.Dataset) -> Iterator[None]:
    """Declare for hooks which walks and steps the network runs on in this block."""
    token = CURRENT_WALK.set(walk)
    try:
        yield
    finally:
        CURRENT_WALK.reset(token)


def attended_window(n_steps: int, chunk: int, memory: int) -> NDArray[np.int64]:
    """Return how many earlier steps the prediction after each step can attend to, (time,).

    At the last step of a chunk with full memory this is ``memory + chunk``.
    """
    within = np.arange(n_steps) % chunk
    return np.minimum(np.arange(n_steps) - within, memory) + within + 1


def visited(place: NDArray[np.integer], window: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return whether the next place is among the places of the attended window.

    Parameters
    ----------
    place : (walk, time + 1)
        Place indices, the last column after the last action.
    window : (time,)
        Number of earlier steps attended to, see :func:`attended_window`.

    Returns
    -------
    (walk, time) bool
        Entry t is true if ``place[:, t + 1]`` occurs in ``place[:, t + 1 - window[t] : t + 1]``.
    """
    seen = np.zeros((len(place), place.shape[1] - 1), dtype=bool)
    for lag in range(1, int(window.max()) + 1):
        again = place[:, lag:] == place[:, :-lag]
        seen[:, lag - 1 :] |= again & (window[lag - 1 :] >= lag)
    return seen


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Run in eval mode without gradients, and restore the mode of every submodule.

    Tensors are ordinary ones: a network may compute gradients of its own as it runs.
    """
    modes = {module: module.training for module in model.modules()}
    changed = any(modes.values())
    with in_use(model, changed=changed), suitable_threads(model), torch.no_grad():
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def forward_chunks(
    model: NavigationTransformer,
    walk: xr.Dataset,
    *,
    seed: int,
    content: bool = False,
    batch: int = 128,
    start: Callable[[State], State] = lambda state: state,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Run a network along walks, chunk by chunk.

    Parameters
    ----------
    model, walk
        The network, and walks from :meth:`GridWorld.walk`.
    seed
        Random seed of e₀, which is drawn for all walks at once and so does not depend on `batch`.
    content
        Also run the last layer of the letter stream.
    batch
        Number of walks that run at once.
    start
        Function applied to the initial state of every batch.

    Yields
    ------
    walks, steps
        The walks and steps of this part.
    logits : (walk, time, letter)
    """
    device, chunk = model.read_out.weight.device, model.config.chunk
    n_walks, n_steps = walk["action"].shape
    path = model.initial_state(n_walks, seed=seed).path
    action, observation = (torch.from_numpy(walk[k].values) for k in ("action", "observation"))
    for first in range(0, n_walks, batch):
        w = slice(first, min(first + batch, n_walks))
        state = start(model.initial_state(w.stop - w.start, path=path[w]))
        for begin in range(0, n_steps, chunk):
            t = slice(begin, min(begin + chunk, n_steps))
            a, o = action[w, t].to(device), observation[w, t].to(device)
            with along(walk.isel(walk=w, time=t)):
                logits, state = model.forward_chunk(a, o, state, content)
            yield w, t, logits


def predictions(
    model: NavigationTransformer, walk: xr.Dataset, *, seed: int, progress: bool = False
) -> NDArray[np.uint8]:
    """Most likely letter after every step of a walk, (walk, time)."""
    letters = np.empty(walk["action"].shape, dtype=np.uint8)
    bar = tqdm(total=letters.size, unit="step", desc="predict", disable=not progress)
    with untouched(model), bar:
        for w, t, logits in forward_chunks(model, walk, seed=seed):
            letters[w, t] = logits.argmax(-1).cpu().numpy()
            bar.update(letters[w, t].size)
    return letters


def tally(wrong: NDArray[np.bool_], seen: NDArray[np.bool_], level: float = LEVEL) -> xr.Dataset:
    """Error of each memory with its interval, see :func:`error_interval`.

    Parameters
    ----------
    wrong, seen
        Whether the letter was wrong, and whether the place was visited within the window, both
        (walk, time).
    level
        Coverage of the interval.
    """
    of_memory = np.stack([seen, ~seen])
    n, failed = of_memory.sum(-1), (of_memory & wrong).sum(-1)  # (memory, walk)
    return xr.Dataset(
        {
            "error": variable("memory", ratio(failed, n), "fraction of wrong predictions"),
            "n": variable("memory", n.sum(-1), "predictions counted"),
            "interval": variable(
                ("memory", "bound"), error_interval(failed, n, level=level), ABOUT_INTERVAL,
                level=level,
            ),
        },
        coords={"memory": list(MEMORIES), "bound": ["lower", "upper"]},
    )  # fmt: skip


def memory_errors(
    model: NavigationTransformer,
    *,
    n_walks: int = 256,
    n_steps: int = 2048,
    seed: int = 0,
    familiar: bool = True,
    where: str = "chunk_end",
    maps: Sequence[int] | None = None,
    walks: xr.Dataset | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Working- and reference-memory error of a network on its own world, or along given walks.

    A prediction is **working memory** if its place is among the places of the steps the network
    could attend to, else **reference memory**. The error is the fraction of predictions whose most
    likely letter is wrong; chance is ``1 - 1 / n_letters``. Novel maps are the control: they cannot
    be recalled, so reference memory is at chance there.

    Parameters
    ----------
    model
        A network with a `world`. It runs in eval mode; its mode is restored afterwards.
    n_walks, n_steps
        Number of random walks, and number of steps in each.
    seed
        Random seed of the walks and of e₀.
    familiar
        Whether to walk on the trained maps or on the novel ones.
    where
        "chunk_end" counts the last prediction of every chunk with a full window, as in the paper;
        "every_step" counts every prediction, with the window that it actually had.
    maps
        Indices of the maps to walk on; by default all.
    walks
        Walks of :meth:`GridWorld.walk` in place of `n_walks`, `n_steps`, `familiar` and `maps`,
        such as walks on changed letters or among novel walls; `seed` is then only that of e₀.
    progress
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        `error`, 0 to 1, and `n`, the number of predictions, over ``memory`` (working, reference);
        `interval` (memory, bound), the 95 % interval over walks: Wilson's, with the design effect
        of predictions that share a walk (deff ≥ 1) and Student's t for walks - 1 degrees of
        freedom. It is never [0, 0]. NaN where `n` is 0, and with a single walk.

    Raises
    ------
    TypeError
        A network of another class.
    ValueError
        A network without a world, an unknown `where` or map, walks too short for a full window, or
        walks that are not of a grid world.

    See Also
    --------
    dose_response : The same errors against Mg²⁺.
    ablation_curve : The same errors against the number of lesioned units.
    profile_networks : The same errors of several networks, with their place cells.
    plot.memory : Draw the errors.

    References
    ----------
    Kim, Kwon, Cha & Lee, NeurIPS 2023. Interval: Wilson (1927),
    https://doi.org/10.1080/01621459.1927.10502953; design effect: Korn and Graubard (1998), Survey
    Methodology 24, 193-201. (It has no DOI.)

    Examples
    --------
    >>> import placeformer as pf
    >>> model = pf.load("mini-nmda-a10")
    >>> errors = pf.memory_errors(model, n_walks=4, n_steps=128, progress=False)
    >>> dict(zip(errors.memory.values.tolist(), errors.n.values.tolist()))
    {'working': 8, 'reference': 4}
    """
    model = navigation_transformer(
        "model",
        model,
        "its memory errors are those of the letters it predicts on its world. Of another network, "
        "pf.profile_networks measures the units, and any score that you give",
    )
    if walks is not None:
        walks = checked_walks(walks, model.config.n_letters)
        n_walks, n_steps = walks["action"].shape
        familiar = bool(walks["familiar"].values.all())
    counted = counted_steps(n_steps, model.config, where)
    if walks is None:
        walks = world_of(model).walk(n_walks, n_steps, seed=seed, familiar=familiar, maps=maps)
    wrong = predictions(model, walks, seed=seed, progress=progress) != walks["target"].values
    seen = visited(places(walks), attended_window(n_steps, model.config.chunk, model.config.memory))
    result = tally(wrong[:, counted], seen[:, counted])
    return result.assign_attrs(
        where=where,
        familiar=int(familiar),
        seed=seed,
        n_walks=n_walks,
        n_steps=n_steps,
        chance=1 - 1 / model.config.n_letters,
    )


def counted_steps(n_steps: int, config: ModelConfig, where: str) -> NDArray[np.bool_]:
    """Return which steps are counted: ends of chunks with a full window, or all; (time,)."""
    if where not in ("chunk_end", "every_step"):
        raise ValueError(f'where must be "chunk_end" or "every_step", got {where!r}')
    check_whole("n_steps", n_steps)
    full = config.memory + config.chunk
    if where == "every_step":
        return np.ones(n_steps, dtype=bool)
    if n_steps < full:
        raise ValueError(
            f'n_steps must be at least memory + chunk = {full} for where="chunk_end", got {n_steps}'
        )
    return attended_window(n_steps, config.chunk, config.memory) == full


def checked_walks(walks: object, n_letters: int) -> xr.Dataset:
    """Return walks on a grid world, (walk, time); raise for anything else, and for other letters.

    Parameters
    ----------
    walks
        A Dataset of :meth:`GridWorld.walk`, or a part of one.
    n_letters
        Number of letters of the network that runs along them.
    """
    there = walks.variables if isinstance(walks, xr.Dataset) else ()
    if missing := [name for name in (*INPUTS, "map", "familiar") if name not in there]:
        raise ValueError(
            f"walks must be a Dataset from GridWorld.walk, got {type(walks).__name__} without "
            f"{', '.join(missing)} (a Recording does not hold the walks it was made along: keep "
            "these, and use them for every network)"
        )
    assert isinstance(walks, xr.Dataset)  # for the type checker: it has variables
    if lost := [dim for dim in (WALK, TIME) if dim not in walks["action"].dims]:
        raise ValueError(
            f"walks must have the dimensions {WALK} and {TIME}, got none named {lost[0]}; select "
            f"one of them as walks.isel({lost[0]}=[0])"
        )
    last = max(int(walks[name].max()) for name in ("observation", "target"))
    if last >= n_letters:
        raise ValueError(
            f"walks must have letters of the network, 0–{n_letters - 1}, got {last}: they are of a "
            "world with more letters"
        )
    return walks.transpose(WALK, TIME, ...)


def places(walk: xr.Dataset) -> NDArray[np.int64]:
    """Place indices of walks, (walk, time + 1), the last column after the last action."""
    shape = world_shape(walk.attrs)
    if shape is None:
        raise ValueError(
            "walks must state the size of their world in the attribute side, or rows and columns, "
            "as those of GridWorld.walk do"
        )
    here = walk.y.values.astype(np.int64) * shape[1] + walk.x.values
    last = walk.next_y.values[:, -1:].astype(np.int64) * shape[1] + walk.next_x.values[:, -1:]
    return np.concatenate([here, last], axis=1)


def world_of(model: NavigationTransformer) -> GridWorld:
    """Return the network's world; raise if it has none."""
    if model.world is None:
        raise ValueError(
            "model.world must be a GridWorld (the maps it was trained on), got None; "
            "set model.world, or pass walks where the function takes them"
        )
    return model.world
