"""Simulated animals and neurons of RatInABox as a Recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from placeformer._options import check_option
from placeformer.data import schema, sessions
from placeformer.data.circular import declare
from placeformer.data.sessions import Cut, Track

Activity = Literal["firingrate", "spikes"]


def from_ratinabox(
    agent: Any,
    neurons: Any,
    *,
    activity: Activity = "firingrate",
    bin_size: float | None = None,
    min_speed: float | None = None,
) -> xr.Dataset:
    """Label the history of a RatInABox agent and its neurons as a Recording.

    Parameters
    ----------
    agent
        ``ratinabox.Agent`` with a history.
    neurons
        ``ratinabox.Neurons`` of this agent, or a sequence of several populations, each updated
        once after every update of the agent.
    activity
        ``"firingrate"``, or ``"spikes"``: the spikes that RatInABox drew, as a rate.
    bin_size, min_speed
        As in :func:`from_pynapple`: the width in seconds of time bins, which are then the samples,
        and the minimum speed in metres per second. In a periodic environment, mean positions and
        speeds go the short way round across its edges.

    Returns
    -------
    xarray.Dataset
        A Recording of one walk on the agent's own time steps, or in time bins; ``dwell`` is the
        duration of each. Activation is in Hz and position in metres; ``layer`` is the name of the
        population and ``timestamp`` the agent's time in seconds; and in two dimensions
        ``head_direction`` is in radians, -π to π, from the x axis, and declared as circular.

    Raises
    ------
    ValueError
        There is no history, the neurons belong to another agent, or the histories differ in length.

    See Also
    --------
    from_arrays, from_nwb, from_pynapple
    rate_maps : Rate maps of a recording.

    References
    ----------
    George, T. M. et al. (2024). RatInABox, a toolkit for modelling locomotion and neuronal
    activity in continuous environments. eLife 13, e85274. https://doi.org/10.7554/eLife.85274

    Examples
    --------
    >>> from ratinabox import Agent, Environment
    >>> from ratinabox.Neurons import PlaceCells
    >>> import placeformer as pf
    >>> agent = Agent(Environment())
    >>> cells = PlaceCells(agent, params={"n": 5})
    >>> for _ in range(100):
    ...     agent.update()
    ...     cells.update()
    >>> recording = pf.from_ratinabox(agent, cells)
    >>> dict(recording.sizes)
    {'walk': 1, 'time': 100, 'unit': 5}
    """
    groups = list(neurons) if isinstance(neurons, Sequence) else [neurons]
    times = np.asarray(agent.history["t"], float)
    if len(times) < 2 or not groups:
        raise ValueError(
            f"agent must have a history of at least two updates and some neurons, got "
            f"{len(times)} updates and {len(groups)} populations; call agent.update() and "
            "neurons.update() alternately, with save_history on"
        )
    parts = [_history(agent, group, activity, times) for group in groups]
    values = np.concatenate(parts, axis=1)
    before = 2 * times[0] - times[1]
    dwell = np.diff(times, prepend=before)  # an update describes the time step before it
    if activity == "spikes":
        values = values / dwell[:, None].astype(np.float32)
    if bin_size is None:
        cut, when = Cut(times[[0, -1]], min_speed=min_speed), times
    else:
        cut, when = Cut([before, times[-1]], False, bin_size, min_speed), times - dwell / 2
    place = np.asarray(agent.history["pos"], float).reshape(len(times), -1)
    track = Track(
        when,
        dict(zip(("x", "y"), place.T, strict=False)),
        max_gap=np.inf,
        periodic=_periodic(agent.Environment),
    )
    recording = sessions.of_samples(
        values,
        when,
        track,
        cut,
        dwell=dwell,
        step="from_ratinabox",
        layer=[
            group.name
            for group, part in zip(groups, parts, strict=True)
            for _ in range(part.shape[1])
        ],
        units="Hz",
        position_units="m",
        settings={"activity": activity},
    )
    heading = _head_direction(agent, recording, when, cut)
    return declare(recording.assign_coords(heading), dict.fromkeys(heading, 2 * np.pi))


def _history(agent: Any, group: Any, activity: Activity, times: np.ndarray) -> np.ndarray:
    """Activity (time, unit) of one population, checked against the agent's times."""
    check_option("activity", activity, get_args(Activity))
    if group.Agent is not agent:
        raise ValueError(
            f"neurons {group.name!r} must belong to this agent, got those of another; pass the "
            "agent that they were made with"
        )
    values, when = group.history[activity], np.asarray(group.history["t"], float)
    if not np.array_equal(when, times):
        raise ValueError(
            f"neurons {group.name!r} must be updated once after every update of the agent: the "
            f"agent has {len(times)} updates, the neurons {len(when)}; call reset_history() of "
            "both and update them alternately"
        )
    return np.asarray(values, np.float32)[:, : group.n]  # a SpeedCell keeps copies of its rate


def _periodic(environment: Any) -> dict[str, tuple[float, float]]:
    """Ends of every axis of a periodic environment."""
    if environment.boundary_conditions != "periodic":
        return {}
    ends = np.reshape(environment.extent, (-1, 2)).tolist()
    return {name: (low, high) for name, (low, high) in zip(("x", "y"), ends, strict=False)}


def _head_direction(
    agent: Any, recording: xr.Dataset, times: np.ndarray, cut: Cut
) -> dict[str, xr.Variable]:
    """Direction of the head (walk, time) of an agent in two dimensions, its mean in time bins."""
    heading = np.asarray(agent.history["head_direction"], float)
    if heading.ndim != 2 or heading.shape[1] != 2:
        return {}
    if cut.bin_size is not None:
        track = Track(times, dict(zip("xy", heading.T, strict=True)), max_gap=np.inf)
        start, stop = cut.spans()[0]
        bins = track.bins(start, stop, cut.bin_size)
        kept = np.searchsorted(bins.times, recording[schema.TIMESTAMP].values[0])
        heading = np.stack([bins.axes["x"], bins.axes["y"]], axis=1)[kept]
    about = {"units": "rad", "long_name": "head direction"}
    angle = np.arctan2(heading[:, 1], heading[:, 0])[None]
    return {"head_direction": xr.Variable((schema.WALK, schema.TIME), angle, about)}
