"""GridWorld: square maps of letters, and random walks on them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from placeformer.data.schema import variable

ACTIONS = ("stay", "east", "south", "north", "west")
"""Action names by index; place index = y · side + x, east is +1, south is +side."""

Ints = NDArray[np.int64]


def transitions(side: int) -> tuple[Ints, Ints, Ints]:
    """Tabulate the moves on a side × side grid.

    Returns
    -------
    destination : (place, action)
        Place index after each action, -1 where the neighbour does not exist.
    moves : (place, 5)
        The actions that exist, packed to the left.
    n_moves : (place,)
        Number of actions that exist: 3 in a corner, 4 at a wall, 5 elsewhere.
    """
    place = np.arange(side * side)
    x, y = place % side, place // side
    exists = np.stack([x >= 0, x < side - 1, y < side - 1, y > 0, x > 0], axis=1)
    destination = np.where(exists, place[:, None] + [0, 1, side, -side, -1], -1)
    moves = np.argsort(~exists, axis=1, kind="stable")
    return destination, moves, exists.sum(axis=1)


@dataclass
class Walker:
    """Random walks that can be continued from their current places.

    Attributes
    ----------
    place, map : (walk,)
        Current place index and map index of every walk.
    rng
        The only source of randomness.
    """

    side: int
    place: Ints
    map: Ints
    rng: np.random.Generator
    _tables: tuple[Ints, Ints, Ints] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._tables = transitions(self.side)

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
    """Advance several walkers with equally many walks at once; see :meth:`Walker.advance`.

    Returns
    -------
    place : (walker, walk, n_steps + 1)
    action : (walker, walk, n_steps)
    """
    destination, moves, n_moves = walkers[0]._tables
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
    """Trained and novel letter maps on a square grid.

    Parameters
    ----------
    side
        Places along each edge, ≥ 2.
    n_letters
        Number of different letters, 2 to 256; the letter of a place is drawn uniformly.
    n_maps
        Number of trained maps, and of novel maps.
    seed
        Random seed of the letters. The same arguments give the same maps.
    letters
        The letters of the trained maps, such as those of another program, (n_maps, side, side) or
        (n_maps, side²), whole numbers from 0 to n_letters - 1; they then give `side` and `n_maps`.
        The novel maps are drawn as without them.

    Raises
    ------
    ValueError
        An argument out of range, or letters of another shape.

    Attributes
    ----------
    maps, novel_maps : (n_maps, side²) uint8
        Letter index of every place (place index = y · side + x).

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
    """

    def __init__(
        self,
        side: int = 11,
        n_letters: int = 10,
        n_maps: int = 32,
        seed: int = 0,
        *,
        letters: ArrayLike | None = None,
    ) -> None:
        given = None if letters is None else check_letters(letters, n_letters)
        if given is not None:
            n_maps, side = len(given), math.isqrt(given.shape[1])
        for name, value, least in (
            ("side", side, 2),
            ("n_letters", n_letters, 2),
            ("n_maps", n_maps, 1),
            ("seed", seed, 0),
        ):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} must be a whole number ≥ {least}, got {value!r}")
        if n_letters > 256:
            raise ValueError(f"n_letters must be at most 256, got {n_letters}")
        self.side, self.n_letters, self.n_maps, self.seed = side, n_letters, n_maps, seed
        self.maps, self.novel_maps = (
            np.random.default_rng([seed, kind]).integers(
                n_letters, size=(n_maps, side * side), dtype=np.uint8
            )
            for kind in (0, 1)
        )
        if given is not None:
            self.maps = given

    def __repr__(self) -> str:
        return (
            f"GridWorld(side={self.side}, n_letters={self.n_letters}, "
            f"n_maps={self.n_maps}, seed={self.seed})"
        )

    def letters(self, familiar: bool = True) -> NDArray[np.uint8]:
        """Letter indices of the trained (`familiar`) or the novel maps, (n_maps, side²)."""
        return self.maps if familiar else self.novel_maps

    def morph(
        self, a: int | ArrayLike, b: int | ArrayLike, share: ArrayLike, *, seed: int = 0
    ) -> NDArray[np.uint8]:
        """Letters between two maps: those of map A, at a share of the places replaced by B's.

        The places are drawn at random among those where the maps differ, and the places of a
        smaller share are among those of a greater one.

        Parameters
        ----------
        a, b
            Indices of trained maps, or the letters of any map, (side²,) or (side, side).
        share
            One or several shares, 0 (map A) to 1 (map B).
        seed
            Random seed of the order in which the places change.

        Returns
        -------
        numpy.ndarray
            Letters (share, side²), for the argument `letters` of :meth:`walk`.

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
        shares = np.atleast_1d(np.asarray(share, float))
        if shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"share must be in 0–1, got {share!r}")
        first, second = (self._one_map(name, m) for name, m in (("a", a), ("b", b)))
        differ = np.random.default_rng([seed, 3]).permutation(np.flatnonzero(first != second))
        morphs = np.repeat(first[None], shares.size, 0)
        for row, n in zip(morphs, np.rint(shares * differ.size).astype(int), strict=True):
            row[differ[:n]] = second[differ[:n]]
        return morphs

    def _one_map(self, name: str, which: int | ArrayLike) -> NDArray[np.uint8]:
        """Letters (side²,) of a trained map, or as given."""
        if np.ndim(which) == 0:
            if not isinstance(which, int | np.integer) or not 0 <= which < self.n_maps:
                raise ValueError(
                    f"{name} must be an index in 0–{self.n_maps - 1}, or letters, got {which!r}"
                )
            return self.maps[which]
        letters = check_letters(np.asarray(which)[None], self.n_letters, name)[0]
        if letters.size != self.side**2:
            raise ValueError(
                f"{name} must have {self.side**2} places, as this world has, got {letters.size}"
            )
        return letters

    def walker(
        self,
        n_walks: int,
        rng: np.random.Generator,
        *,
        maps: Sequence[int] | None = None,
        n_maps: int | None = None,
    ) -> Walker:
        """Start `n_walks` walks at random places of random `maps` (default: all)."""
        n_maps = self.n_maps if n_maps is None else n_maps
        allowed = np.arange(n_maps) if maps is None else np.unique(np.asarray(maps))
        whole = allowed.dtype.kind in "iu" and allowed.size > 0
        if not whole or allowed.min() < 0 or allowed.max() >= n_maps:
            raise ValueError(f"maps must be indices in 0–{n_maps - 1}, got {maps!r}")
        place = rng.integers(self.side**2, size=n_walks)
        return Walker(self.side, place, allowed[rng.integers(len(allowed), size=n_walks)], rng)

    def walk(
        self,
        n_walks: int,
        n_steps: int,
        *,
        seed: int,
        familiar: bool = True,
        maps: Sequence[int] | None = None,
        letters: ArrayLike | None = None,
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
            Other maps to walk on, such as those of :meth:`morph`: (map, side²) or (map, side,
            side). They are not trained maps, and `familiar` of the walks is False. The courses are
            those of the same number of trained maps.

        Returns
        -------
        xarray.Dataset
            Dims ``walk`` and ``time``. For the current place at each step: `x`, `y` (coordinates,
            in grid steps), `observation` (letter index) and `action`, the action taken there. For
            the place that the action leads to: `next_x`, `next_y` and `target`, the letter to be
            predicted. Coordinates along ``walk``: `map` (map index) and `familiar` (bool).
        """
        rng = np.random.default_rng([seed, 2])
        known = self.letters(familiar)
        if letters is not None:
            known, familiar = check_letters(letters, self.n_letters), False
            if known.shape[1] != self.side**2:
                raise ValueError(
                    f"letters must have {self.side**2} places, as this world has, got "
                    f"{known.shape[1]}"
                )
        walker = self.walker(n_walks, rng, maps=maps, n_maps=len(known))
        place, action = walker.advance(n_steps)
        seen = known[walker.map[:, None], place]
        steps = ("walk", "time")
        x, y = (place % self.side).astype(np.int16), (place // self.side).astype(np.int16)
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
                "side": self.side,
                "n_letters": self.n_letters,
                "world_seed": self.seed,
                "walk_seed": seed,
                "familiar": int(familiar),
                "maps": " ".join(map(str, range(len(known)) if maps is None else maps)),
                "actions": " ".join(ACTIONS),
                **({} if letters is None else {"letters_sha256": sha256(known)}),
            },
        )


def check_letters(letters: ArrayLike, n_letters: int, name: str = "letters") -> NDArray[np.uint8]:
    """Return the letters of maps as (map, place); raise for another shape or other letters."""
    given = np.asarray(letters)
    flat = given.reshape(len(given), -1) if given.ndim in (2, 3) and given.size else given
    square = flat.ndim == 2 and math.isqrt(flat.shape[1]) ** 2 == flat.shape[1]
    if not square or (given.ndim == 3 and given.shape[1] != given.shape[2]):
        raise ValueError(
            f"{name} must be (map, side, side) or (map, side²), got the shape {given.shape}"
        )
    if given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= n_letters:
        raise ValueError(
            f"{name} must be whole numbers from 0 to n_letters - 1 = {n_letters - 1}, got "
            f"{given.dtype} from {given.min()} to {given.max()}"
        )
    return flat.astype(np.uint8)


def sha256(letters: NDArray[np.uint8]) -> str:
    """SHA-256 of the letters of maps."""
    return hashlib.sha256(np.ascontiguousarray(letters).tobytes()).hexdigest()
