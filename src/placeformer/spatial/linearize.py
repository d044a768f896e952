"""Position along a track that is given as nodes and edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import shortest_path

from placeformer._options import check_number
from placeformer._warnings import warn
from placeformer.data import schema
from placeformer.data.arrays import check_positive
from placeformer.data.circular import declare
from placeformer.data.schema import variable
from placeformer.data.unit_identity import common_units
from placeformer.spatial.binning import samples

Floats = NDArray[np.float64]

GAP = 0.1
"""Default distance along the axis between edges that do not join, in mean edge lengths."""

OTHER_UNITS = 50
"""Ratio of the extents of position and nodes above which they may be in different units."""

LEAST_NOISE = 1e-3
"""Minimum tracking noise, in mean edge lengths."""

BLOCK = 2**14
"""Number of samples whose transitions are computed at once."""


def linearize(
    recording: xr.Dataset,
    nodes: Any,
    edges: Sequence[tuple[Any, Any]],
    *,
    by: Sequence[str] = ("x", "y"),
    name: str = "linear",
    gap: float | None = None,
    noise: float | None = None,
    max_distance: float | None = None,
) -> xr.Dataset:
    """Add the position along a track that is given as nodes and edges.

    The edges are laid end to end in the order in which they are listed. Samples are assigned to
    edges by the likeliest path through the track, which weighs the distance from the edges against
    the distance that the animal would have run between samples (map matching). The position
    therefore does not jump to another arm near a junction.

    Parameters
    ----------
    recording
        Recording with a position in two dimensions (or three).
    nodes
        Positions of the nodes: an array (node, axis), or a mapping from names to positions.
    edges
        Pairs of nodes that are joined by a straight piece of track, in the order of the linear
        axis, which runs from the first to the second node of each pair.
    by
        Axes of the position, in the order of the coordinates of a node.
    name
        Name of the new variable, and the prefix of the other two.
    gap
        Distance along the axis between edges that do not join (where the second node of an edge is
        not the first of the next), by default a tenth of the mean length of an edge. Its bins stay
        unvisited, so that maps are not smoothed and fields not joined across arms.
    noise
        Standard deviation of the tracked position around the track, in units of the position; by
        default the root mean square distance from the nearest edge.
    max_distance
        Distance from the track above which a sample has no position along it; by default no limit.

    Returns
    -------
    xarray.Dataset
        The recording with three more variables (walk, time), whose names start with ``name``:
        ``linear``, the position along the axis, which starts at 0, in units of the position, NaN
        where unknown; ``linear_edge``, the number of the edge, -1 where unknown; and
        ``linear_distance``, the distance from the track. If the edges make a closed ring,
        ``linear`` is declared as circular.

    Raises
    ------
    ValueError
        An edge names an unknown node or has length 0, the track is not connected, no sample has a
        position, or an option is out of range.

    Warns
    -----
    UserWarning
        The extents of the position and of the nodes, and also their largest coordinates, differ by
        a factor of 50 or more: they may be in different units.

    See Also
    --------
    laps : Divide a recording on a track into laps.
    rate_maps : With ``by="linear"``, maps along the track.

    References
    ----------
    Newson, P. and Krumm, J. (2009). Hidden Markov map matching through noise and sparseness.
    Proceedings of ACM SIGSPATIAL GIS, 336-343. https://doi.org/10.1145/1653771.1653818

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> nodes = {"start": (0, 0), "corner": (10, 0), "end": (10, 5)}
    >>> edges = [("start", "corner"), ("corner", "end")]
    >>> place = {"x": [0, 5, 10, 10, 10], "y": [0.1, -0.1, 0, 2, 5]}
    >>> recording = pf.from_arrays(np.ones((5, 1)), place)
    >>> pf.linearize(recording, nodes, edges).linear.values[0].tolist()
    [0.0, 5.0, 10.0, 12.0, 15.0]
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    schema.check_recording(recording, need=names)
    for option, value in (("noise", noise), ("max_distance", max_distance)):
        check_positive(option, value)
    units = common_units(recording, names, "a position along a track")
    track = Track.of(nodes, edges, len(names), gap)
    place = np.stack([np.asarray(samples(recording, axis), float) for axis in names], axis=-1)
    linear = np.full(place.shape[:2], np.nan)
    edge, distance = np.full(place.shape[:2], -1, np.int32), np.full(place.shape[:2], np.nan)
    known = np.isfinite(place).all(axis=-1)
    if not known.any():
        raise ValueError(f"recording must have a sample with a position {names}, got none")
    both = place[known], track.nodes
    spans = [float(np.ptp(points, axis=0).max()) for points in both]
    sizes = [float(np.abs(points).max()) for points in both]  # an animal at rest spans nothing
    if not any(1 / OTHER_UNITS < a / b < OTHER_UNITS for a, b in (spans, sizes)):
        warn(
            f"the position spans {spans[0]:.3g} and the nodes span {spans[1]:.3g}; both must be in "
            f"the same units, those of the position ({units})",
        )
    if noise is None:
        nearest = track.project(place[known])[1].min(axis=1)
        noise = max(float(np.sqrt((nearest**2).mean())), LEAST_NOISE * float(track.length.mean()))
    for walk, row in enumerate(place):
        at = np.flatnonzero(known[walk])
        if at.size:
            edge[walk, at], along, distance[walk, at] = track.match(row[at], noise)
            linear[walk, at] = track.start[edge[walk, at]] + along
    if max_distance is not None:
        far = ~(distance <= max_distance)
        linear[far], edge[far] = np.nan, -1
    about = {
        name: (linear, "position along the track", units),
        f"{name}_edge": (edge, "number of the edge of the track, -1 where not known", "1"),
        f"{name}_distance": (distance, "distance from the track", units),
    }
    result = recording.assign_coords(
        {k: variable(schema.STEP_DIMS, v, text, units=u) for k, (v, text, u) in about.items()}
    )
    if track.closed:
        result = declare(result, {name: float(track.length.sum())})
    settings = {"edges": track.edges.tolist(), "nodes": track.nodes.tolist(), "noise": noise}
    result.attrs[schema.PROVENANCE] = schema.provenance(recording, "linearize", **settings)
    return result


@dataclass(frozen=True)
class Track:
    """A track: nodes, the edges between them, and where each edge starts on the linear axis."""

    nodes: Floats
    edges: NDArray[np.intp]
    length: Floats
    start: Floats
    between: Floats
    """Length of the shortest path between two nodes (node, node)."""
    closed: bool
    """Whether the edges, in their order, make a ring."""

    @classmethod
    def of(cls, nodes: Any, edges: Any, n_axes: int, gap: float | None) -> Track:
        """Make a track from nodes and edges that fit together."""
        names = list(nodes) if isinstance(nodes, Mapping) else range(len(nodes))
        place = np.asarray(list(nodes.values()) if isinstance(nodes, Mapping) else nodes, float)
        if place.ndim != 2 or place.shape[1] != n_axes or not np.isfinite(place).all():
            raise ValueError(
                f"nodes must be finite positions (node, axis) on {n_axes} axes, got shape "
                f"{place.shape}; name the axes with by"
            )
        number = {label: k for k, label in enumerate(names)}
        pairs = [tuple(edge) for edge in edges]
        wrong = [e for e in pairs if len(e) != 2 or e[0] not in number or e[1] not in number]
        if wrong or not pairs:
            raise ValueError(
                f"edges must be pairs of the nodes {list(names)[:10]}, got {wrong[:3] or 'none'}"
            )
        joined = np.array([[number[a], number[b]] for a, b in pairs])
        length = np.linalg.norm(place[joined[:, 1]] - place[joined[:, 0]], axis=1)
        if (length <= 0).any():
            raise ValueError(
                "edges must join nodes at different positions, got "
                f"{pairs[int(length.argmin())]} of length 0; remove this edge, or correct its nodes"
            )
        gap = GAP * float(length.mean()) if gap is None else gap
        check_number("gap", gap)
        if not (np.isfinite(gap) and gap >= 0):
            raise ValueError(f"gap must be 0 or a positive distance, got {gap!r}")
        graph = sparse.coo_array((length, tuple(joined.T)), shape=(len(place),) * 2).tocsr()
        between = shortest_path(graph, directed=False)
        if not np.isfinite(between[np.ix_(joined.ravel(), joined.ravel())]).all():
            raise ValueError(
                "edges must be connected, but some cannot be reached from the first; join them by "
                "an edge, or linearize the parts of the track separately"
            )
        apart = np.where(joined[:-1, 1] == joined[1:, 0], 0.0, gap)
        start = np.concatenate([[0.0], np.cumsum(length[:-1] + apart)])
        closed = bool(len(pairs) > 2 and not apart.any() and joined[-1, 1] == joined[0, 0])
        return cls(place, joined, length, start, between, closed)

    def project(self, place: Floats) -> tuple[Floats, Floats]:
        """Distance along each edge of its nearest point, and distance from it (sample, edge)."""
        first, last = self.nodes[self.edges[:, 0]], self.nodes[self.edges[:, 1]]
        unit = (last - first) / self.length[:, None]
        along = np.einsum("sea,ea->se", place[:, None] - first, unit)
        along = np.clip(along, 0, self.length)
        nearest = first + along[..., None] * unit
        return along, np.linalg.norm(place[:, None] - nearest, axis=-1)

    def match(self, place: Floats, noise: float) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Edge, distance along it and distance from it of every sample, by the likeliest path."""
        along, away = self.project(place)
        cost = (away / noise) ** 2 / 2
        total, came = cost[0], np.zeros(cost.shape, np.intp)
        for first in range(1, len(place), BLOCK):
            stop = min(first + BLOCK, len(place))
            moved = np.linalg.norm(np.diff(place[first - 1 : stop], axis=0), axis=1)
            path = self._paths(along[first - 1 : stop - 1], along[first:stop])
            step = np.abs(path - moved[:, None, None]) / noise
            for k in range(first, stop):
                each = total[:, None] + step[k - first]
                came[k] = each.argmin(axis=0)
                total = each.min(axis=0) + cost[k]
        edge = np.empty(len(place), np.intp)
        edge[-1] = total.argmin()
        for k in range(len(place) - 1, 0, -1):
            edge[k - 1] = came[k, edge[k]]
        every = np.arange(len(place))
        return edge, along[every, edge], away[every, edge]

    def _paths(self, here: Floats, there: Floats) -> Floats:
        """Length (sample, edge, edge) of the path along the track between successive samples."""
        n = len(self.edges)
        best = np.full((len(here), n, n), np.inf)
        for end, out in ((0, here), (1, self.length - here)):
            for start, back in ((0, there), (1, self.length - there)):
                nodes = self.between[np.ix_(self.edges[:, end], self.edges[:, start])]
                best = np.minimum(best, out[:, :, None] + nodes + back[:, None, :])
        same = np.arange(n)
        best[:, same, same] = np.minimum(best[:, same, same], np.abs(here - there))
        return best
