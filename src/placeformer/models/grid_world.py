"""GridWorld: maps of letters on a rectangular grid, and random walks on them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from placeformer._options import check_option, check_whole
from placeformer.data.schema import WALLS, variable

ACTIONS = ("stay", "east", "south", "north", "west")
"""Action names by index; place index = y · columns + x, east is +1, south is +columns."""

Ints = NDArray[np.int64]
Walls = tuple[tuple[int, int], ...]
Transitions = tuple[Ints, Ints, Ints]


def transitions(shape: tuple[int, int], walls: Walls = ()) -> Transitions:
    """Tabulate the moves on a grid of rows × columns, with walls between neighbouring places.

    Returns
    -------
    destination : (place, action)
        Place index after each action, -1 where there is no neighbour, or a wall before it.
    moves : (place, 5)
        The actions that exist, packed to the left.
    n_moves : (place,)
        Number of actions that exist: 5 minus the number of edges and walls at the place.
    """
    rows, columns = shape
    place = np.arange(rows * columns)
    x, y = place % columns, place // columns
    exists = np.stack([x >= 0, x < columns - 1, y < rows - 1, y > 0, x > 0], axis=1)
    destination = np.where(exists, place[:, None] + [0, 1, columns, -columns, -1], -1)
    for pair in walls:
        for here, there in (pair, pair[::-1]):
            destination[here, destination[here] == there] = -1
    exists = destination >= 0
    moves = np.argsort(~exists, axis=1, kind="stable")
    return destination, moves, exists.sum(axis=1)


@dataclass
class Walker:
    """Random walks that can be continued from their current places.

    Attributes
    ----------
    moves
        The moves of the world, see :func:`transitions`.
    place, map : (walk,)
        Current place index and map index of every walk.
    rng
        The only source of randomness.
    """

    moves: Transitions
    place: Ints
    map: Ints
    rng: np.random.Generator

    def advance(self, n_steps: int) -> tuple[Ints, Ints]:
        """Take `n_steps` steps, each drawn uniformly from the actions that exist.

        Returns
        -------
        place : (walk, n_steps + 1)
            Place indices, starting with the place before the first step.
        action : (walk, n_steps)
            ``action[:, t]`` leads from ``place[:, t]`` to ``place[:, t + 1]``.
        """
        place, action = advance([self], n_steps)
        return place[0], action[0]


def advance(walkers: Sequence[Walker], n_steps: int) -> tuple[Ints, Ints]:
    """Advance several walkers of one world, with equally many walks; see :meth:`Walker.advance`.

    Returns
    -------
    place : (walker, walk, n_steps + 1)
    action : (walker, walk, n_steps)
    """
    destination, moves, n_moves = walkers[0].moves
    shape = (len(walkers), len(walkers[0].place))
    draws = np.stack([w.rng.random((n_steps, shape[1])) for w in walkers], axis=1)
    place = np.empty((n_steps + 1, *shape), dtype=np.int64)
    action = np.empty((n_steps, *shape), dtype=np.int64)
    place[0] = [w.place for w in walkers]
    for t, draw in enumerate(draws):
        here = place[t]
        action[t] = moves[here, (draw * n_moves[here]).astype(np.int64)]
        place[t + 1] = destination[here, action[t]]
    for walker, last in zip(walkers, place[-1].copy(), strict=True):
        walker.place = last
    return np.moveaxis(place, 0, 2), np.moveaxis(action, 0, 2)


class GridWorld:
    """Trained and novel letter maps on a square or rectangular grid.

    Parameters
    ----------
    side
        Places along each edge of a square grid, ≥ 2.
    n_letters
        Number of different letters, 2 to 256; the letter of a place is drawn uniformly.
    n_maps
        Number of trained maps, and of novel maps.
    seed
        Random seed of the letters. The same arguments give the same maps.
    letters
        The letters of the trained maps, such as those of another program, (n_maps, rows, columns)
        or (n_maps, places), whole numbers from 0 to n_letters - 1. They determine `n_maps` and the
        size; flat maps that are not square also need `shape`. The novel maps are drawn as without
        them.
    shape
        Rows and columns of a rectangular grid, in place of `side`: ``(1, 20)`` is a linear track.
    walls
        Pairs of neighbouring places (indices y · columns + x) between which no step leads. Every
        place must remain reachable.

    Attributes
    ----------
    maps, novel_maps : (n_maps, places) uint8
        Letter index of every place (place index = y · columns + x).
    shape : tuple of int
        Rows and columns.
    side : int
        Places along each edge; only a square world has it.
    n_places : int
        Number of places.
    walls : tuple of pairs of int
        The walls, each once and in order.

    Raises
    ------
    ValueError
        An argument out of range, letters of another shape, a wall that is not between neighbours,
        or places that walls close off.

    See Also
    --------
    NavigationTransformer : A network that is trained on these maps.
    record : Record a network along walks.

    Examples
    --------
    >>> import placeformer as pf
    >>> world = pf.GridWorld(side=5, n_letters=10, n_maps=2, seed=0)
    >>> world.maps.shape
    (2, 25)
    >>> dict(world.walk(n_walks=3, n_steps=100, seed=1).sizes)
    {'walk': 3, 'time': 100}

    Two rooms with a door in the wall between them:

    >>> wall = [(9 * y + 4, 9 * y + 5) for y in (0, 1, 3, 4)]
    >>> rooms = pf.GridWorld(shape=(5, 9), n_maps=2, walls=wall)
    >>> rooms.n_places, len(rooms.walls)
    (45, 4)
    """

    def __init__(
        self,
        side: int = 11,
        n_letters: int = 10,
        n_maps: int = 32,
        seed: int = 0,
        *,
        letters: ArrayLike | None = None,
        shape: Sequence[int] | None = None,
        walls: ArrayLike = (),
    ) -> None:
        if shape is not None:
            shape = check_shape(shape)
        given = None if letters is None else check_letters(letters, n_letters, shape)
        if given is not None:
            n_maps, shape = len(given), check_shape(given.shape[1:])
        for name, value, least in (
            ("side", side, 2),
            ("n_letters", n_letters, 2),
            ("n_maps", n_maps, 1),
            ("seed", seed, 0),
        ):
            check_whole(name, value, least)
        if n_letters > 256:
            raise ValueError(f"n_letters must be at most 256, got {n_letters}")
        rows, columns = (side, side) if shape is None else shape
        self.shape = int(rows), int(columns)
        self.n_letters, self.n_maps, self.seed = n_letters, n_maps, seed
        self.walls = check_walls(walls, self.shape)
        self.maps, self.novel_maps = (
            np.random.default_rng([seed, kind]).integers(
                n_letters, size=(n_maps, self.n_places), dtype=np.uint8
            )
            for kind in (0, 1)
        )
        if given is not None:
            self.maps = given.reshape(n_maps, -1)

    @property
    def n_places(self) -> int:
        """Number of places."""
        return math.prod(self.shape)

    @property
    def side(self) -> int:
        """Places along each edge of a square world."""
        if self.shape[0] != self.shape[1]:
            raise AttributeError(
                f"side exists only in a square world, this one has {self.shape[0]} × "
                f"{self.shape[1]} places; use shape"
            )
        return self.shape[0]

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments that make this world, except given letters, in types that JSON has."""
        square = self.shape[0] == self.shape[1]
        return {
            **({"side": self.side} if square else {"shape": list(self.shape)}),
            **{key: int(getattr(self, key)) for key in ("n_letters", "n_maps", "seed")},
            **({"walls": [list(pair) for pair in self.walls]} if self.walls else {}),
        }

    @cached_property
    def moves(self) -> Transitions:
        """Moves from every place: destination, actions that exist, and their number.

        The destination (place, action) is -1 where an action leads nowhere; the actions that exist
        (place, 5) are packed to the left.
        """
        return transitions(self.shape, self.walls)

    def __repr__(self) -> str:
        return f"GridWorld({', '.join(f'{key}={value}' for key, value in self.settings.items())})"

    def letters(self, familiar: bool = True) -> NDArray[np.uint8]:
        """Letter indices of the trained (`familiar`) or the novel maps, (n_maps, places)."""
        return self.maps if familiar else self.novel_maps

    def morph(
        self, a: int | ArrayLike, b: int | ArrayLike, share: ArrayLike, *, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Letters between two maps: those of map A, replaced by B's at a fraction of the places.

        The places are drawn at random among those where the maps differ, and the places of a
        smaller fraction are among those of a larger one.

        Parameters
        ----------
        a, b
            Indices of trained maps, or the letters of any map, (places,) or (rows, columns).
        share
            One or several fractions, 0 (map A) to 1 (map B).
        seed
            Random seed of the order in which the places change.

        Returns
        -------
        numpy.ndarray
            Letters (share, places), for the argument `letters` of :meth:`walk`.

        Raises
        ------
        ValueError
            A share outside 0–1, or maps that do not exist or have another size.

        Examples
        --------
        >>> import placeformer as pf
        >>> world = pf.GridWorld(side=5, n_letters=10, n_maps=2)
        >>> letters = world.morph(0, 1, [0, 0.5, 1])
        >>> (letters != world.maps[0]).sum(1).tolist()
        [0, 12, 23]
        >>> walks = world.walk(n_walks=6, n_steps=50, seed=0, letters=letters)
        """
        first, second = (self._one_map(name, m) for name, m in (("a", a), ("b", b)))
        check_whole("seed", seed, 0)
        differ = np.random.default_rng([seed, 3]).permutation(np.flatnonzero(first != second))
        shares = check_shares(share)
        morphs = np.repeat(first[None], shares.size, 0)
        for row, n in zip(morphs, np.rint(shares * differ.size).astype(int), strict=True):
            row[differ[:n]] = second[differ[:n]]
        return morphs

    def swap(self, a: int | ArrayLike, share: ArrayLike, *, seed: int = 0) -> NDArray[np.uint8]:
        """Letters of a map in which pairs of different letters have changed places.

        Unlike a :meth:`morph`, a swap leaves every letter as frequent as before.

        Parameters
        ----------
        a
            Index of a trained map, or the letters of any map, (places,) or (rows, columns).
        share
            One or several fractions of the pairs of places, 0 (map A) to 1 (every place has another
            letter, except one place if their number is odd, and places that find no partner because
            their letter is at more than half of the places). The pairs of a smaller fraction are
            among those of a larger one.
        seed
            Random seed of the pairs and of their order.

        Returns
        -------
        numpy.ndarray
            Letters (share, places), for the argument `letters` of :meth:`walk`.

        Raises
        ------
        ValueError
            A share outside 0–1, or a map that does not exist or has another size.

        Examples
        --------
        >>> import placeformer as pf
        >>> world = pf.GridWorld(side=6, n_letters=10, n_maps=2)
        >>> letters = world.swap(0, [0, 0.5, 1])
        >>> (letters != world.maps[0]).sum(1).tolist()
        [0, 18, 36]
        """
        check_whole("seed", seed, 0)
        first, rng = self._one_map("a", a), np.random.default_rng([seed, 4])
        order = rng.permutation(first.size)
        order = order[np.argsort(first[order], kind="stable")]  # of equal letters at random
        half = first.size // 2
        pairs = rng.permutation(np.stack([order[:half], order[first.size - half :]], 1))
        pairs = pairs[first[pairs[:, 0]] != first[pairs[:, 1]]]
        shares = check_shares(share)
        swapped = np.repeat(first[None], shares.size, 0)
        for row, n in zip(swapped, np.rint(shares * len(pairs)).astype(int), strict=True):
            row[pairs[:n]] = first[pairs[:n, ::-1]]
        return swapped

    def _one_map(self, name: str, which: int | ArrayLike) -> NDArray[np.uint8]:
        """Letters (places,) of a trained map, or as given."""
        if np.ndim(which) == 0:
            if not isinstance(which, int | np.integer) or not 0 <= which < self.n_maps:
                raise ValueError(
                    f"{name} must be an index in 0–{self.n_maps - 1}, or letters, got {which!r}"
                )
            return self.maps[which]
        return check_letters(np.asarray(which)[None], self.n_letters, self.shape, name).ravel()

    def walker(
        self,
        n_walks: int,
        rng: np.random.Generator,
        *,
        maps: Sequence[int] | None = None,
        n_maps: int | None = None,
        moves: Transitions | None = None,
    ) -> Walker:
        """Start `n_walks` walks at random places of random `maps` (default: all)."""
        n_maps = self.n_maps if n_maps is None else n_maps
        check_whole("n_walks", n_walks)
        allowed = np.arange(n_maps) if maps is None else np.unique(np.asarray(maps))
        whole = allowed.dtype.kind in "iu" and allowed.size > 0
        listed = maps is None or np.ndim(maps) == 1
        if not (listed and whole) or allowed.min() < 0 or allowed.max() >= n_maps:
            raise ValueError(f"maps must be indices in 0–{n_maps - 1}, such as [0], got {maps!r}")
        place = rng.integers(self.n_places, size=n_walks)
        chosen = allowed[rng.integers(len(allowed), size=n_walks)]
        return Walker(self.moves if moves is None else moves, place, chosen, rng)

    def walk(
        self,
        n_walks: int,
        n_steps: int,
        *,
        seed: int,
        familiar: bool = True,
        maps: Sequence[int] | None = None,
        letters: ArrayLike | None = None,
        walls: ArrayLike | None = None,
    ) -> xr.Dataset:
        """Draw random walks, with the letters seen and the actions taken.

        Parameters
        ----------
        n_walks, n_steps
            Number of walks, and number of actions in each walk.
        seed
            Random seed of the maps, first places and actions.
        familiar
            Whether to walk on the trained maps or on the novel ones.
        maps
            Indices of the maps to draw from; by default all.
        letters
            Other maps to walk on, such as those of :meth:`morph` and :meth:`swap`: (map, places)
            or (map, rows, columns). They are not trained maps, and `familiar` of the walks is
            False. The paths are the same as on that number of trained maps.
        walls
            Walls in place of those of the world, as in :class:`GridWorld`, such as novel ones that
            a network was not trained with; ``()`` for none. By default those of the world.

        Returns
        -------
        xarray.Dataset
            Dims ``walk`` and ``time``. For the current place at each step: `x`, `y` (coordinates,
            in grid steps), `observation` (letter index) and `action`, the action taken there. For
            the place that the action leads to: `next_x`, `next_y` and `target`, the letter to be
            predicted. Coordinates along ``walk``: `map` (map index) and `familiar` (bool).
        """
        check_whole("n_steps", n_steps)
        check_whole("seed", seed, 0)
        check_option("familiar", familiar, (True, False))
        rng = np.random.default_rng([seed, 2])
        known, barriers, moves = self.letters(familiar), self.walls, self.moves
        if letters is not None:
            known = check_letters(letters, self.n_letters, self.shape).reshape(-1, self.n_places)
            familiar = False
        if walls is not None:
            barriers = check_walls(walls, self.shape)
            moves = transitions(self.shape, barriers)
        walker = self.walker(n_walks, rng, maps=maps, n_maps=len(known), moves=moves)
        place, action = walker.advance(n_steps)
        seen = known[walker.map[:, None], place]
        steps = ("walk", "time")
        y, x = (axis.astype(np.int16) for axis in np.divmod(place, self.shape[1]))
        return xr.Dataset(
            {
                "observation": variable(steps, seen[:, :-1], "letter seen"),
                "action": variable(steps, action.astype(np.uint8), "action taken"),
                "target": variable(steps, seen[:, 1:], "letter after the action"),
                "next_x": variable(steps, x[:, 1:], "x after the action, in grid steps"),
                "next_y": variable(steps, y[:, 1:], "y after the action, in grid steps"),
            },
            coords={
                "x": variable(steps, x[:, :-1], "x position in grid steps"),
                "y": variable(steps, y[:, :-1], "y position in grid steps"),
                "map": variable("walk", walker.map, "map index"),
                "familiar": variable("walk", np.full(n_walks, familiar), "trained map"),
                "walk": np.arange(n_walks),
                "time": variable("time", np.arange(n_steps), "time in steps"),
            },
            attrs={
                **size_attrs(self.shape, barriers),
                "n_letters": self.n_letters,
                "world_seed": self.seed,
                "walk_seed": seed,
                "familiar": int(familiar),
                "maps": " ".join(map(str, range(len(known)) if maps is None else maps)),
                "actions": " ".join(ACTIONS),
                **({} if letters is None else {"letters_sha256": sha256(known)}),
            },
        )


def size_attrs(shape: tuple[int, int], walls: Walls) -> dict[str, Any]:
    """Attributes of walks that state the size of their world, and its walls if it has any."""
    rows, columns = shape
    size = {"side": rows} if rows == columns else {"rows": rows, "columns": columns}
    return size | ({WALLS: json.dumps(walls)} if walls else {})


def check_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a grid; raise for any other shape."""
    sizes = np.asarray(shape)
    if sizes.shape != (2,) or sizes.dtype.kind not in "iu" or sizes.min() < 1 or sizes.max() < 2:
        raise ValueError(
            f"shape must be two whole numbers, the rows and columns of two places or more, got "
            f"{shape!r}"
        )
    return int(sizes[0]), int(sizes[1])


def check_walls(walls: ArrayLike, shape: tuple[int, int]) -> Walls:
    """Walls, each once and in order; raise for pairs that are not walls, or close places off."""
    pairs = np.asarray(walls)
    if pairs.size == 0:
        return ()
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(
            "walls must be pairs of places (indices y · columns + x), such as [(0, 1)], got "
            f"{walls!r:.80}"
        )
    n_places, columns = math.prod(shape), shape[1]
    low, high = np.sort(pairs, axis=1).T
    apart = high - low
    level = (apart == 1) & (high % columns > 0)
    wrong = (low < 0) | (high >= n_places) | ~(level | (apart == columns))
    if wrong.any():
        raise ValueError(
            f"walls must be between places 0–{n_places - 1} that are neighbours in {shape[0]} "
            f"rows of {columns}, got {tuple(pairs[wrong][0].tolist())}"
        )
    found = tuple(sorted(set(zip(low.tolist(), high.tolist(), strict=True))))
    destination, _, _ = transitions(shape, found)
    here, action = np.nonzero(destination >= 0)
    steps = coo_array((np.ones(here.size), (here, destination[here, action])), (n_places,) * 2)
    n_parts, part = connected_components(steps, directed=False)
    if n_parts > 1:
        off = np.flatnonzero(part != np.bincount(part).argmax())
        raise ValueError(
            f"walls must leave every place reachable, but close off {off.size} of the "
            f"{n_places} places, such as {off[0]} (x = {off[0] % columns}, y = "
            f"{off[0] // columns}); leave a door"
        )
    return found


def check_shares(share: ArrayLike) -> NDArray[np.float64]:
    """One or several fractions as an array; raise for any outside 0–1."""
    shares = np.atleast_1d(np.asarray(share, float))
    if shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise ValueError(f"share must be in 0–1, got {share!r}")
    return shares


def check_letters(
    letters: ArrayLike, n_letters: int, shape: Sequence[int] | None = None, name: str = "letters"
) -> NDArray[np.uint8]:
    """Return the letters of maps as (map, row, column); raise for another shape or other letters.

    Without `shape`, flat maps are those of a square world.
    """
    given = np.asarray(letters)
    if shape is None and given.ndim == 2 and given.size:
        side = math.isqrt(given.shape[1])
        shape = (side, side)
    elif shape is None and given.ndim == 3:
        shape = given.shape[1:]
    of_map = () if shape is None else ((math.prod(shape),), tuple(shape))
    if given.size == 0 or given.shape[1:] not in of_map:
        size = "" if shape is None else f" of {shape[0]} × {shape[1]} places"
        raise ValueError(
            f"{name} must be (map, rows, columns) or (map, places){size}, got the shape "
            f"{given.shape}"
        )
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n_letters:
        raise ValueError(
            f"{name} must be whole numbers from 0 to n_letters - 1 = {n_letters - 1}, got "
            f"{given.dtype} from {given.min()} to {given.max()}"
        )
    assert shape is not None  # for the type checker
    return given.reshape(len(given), *shape).astype(np.uint8)


def sha256(letters: NDArray[np.uint8]) -> str:
    """SHA-256 of the letters of maps."""
    return hashlib.sha256(np.ascontiguousarray(letters).tobytes()).hexdigest()
