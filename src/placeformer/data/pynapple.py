"""Conversion of pynapple's objects to a Recording and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from placeformer._optional import extra
from placeformer.data import schema, sessions
from placeformer.data.sessions import Track

AXES = ("x", "y", "z")


def from_pynapple(
    data: Any,
    position: Any,
    *,
    epochs: Any = None,
    join: bool = False,
    names: Sequence[str] | None = None,
    layer: str | Sequence[str] | None = None,
    units: str | None = None,
    position_units: str = schema.RECORDING["x"].units,
) -> xr.Dataset:
    """Label spikes or continuous signals of pynapple and a position as a Recording.

    Parameters
    ----------
    data
        ``TsGroup`` or ``Ts`` of spikes: the time base is that of the position, every spike
        counts at the nearest sample, and a count times the sample rate is the rate in Hz. Pass
        ``position.bin_average(0.1)`` for bins of 100 ms. Or ``TsdFrame`` or ``Tsd`` of a
        continuous signal: it keeps its own time base, and every sample takes the nearest
        position.
    position
        ``TsdFrame``, one column an axis, or ``Tsd`` of one axis.
    epochs
        ``IntervalSet`` to keep. Only times at which data and position are both known are kept (the
        intersection of their time supports): give a ``TsGroup`` its ``time_support``, which
        otherwise reaches from the first to the last spike.
    join
        Every epoch becomes a walk, and shorter walks are padded with NaN: maps and measures leave
        the padding out, while analyses that shift activations in time (:func:`shuffle_test`) raise
        an error. ``join=True`` concatenates all epochs to one walk instead.
    names
        Names of the axes; by default the names of the columns, or x, y, z where these are
        numbers.
    layer
        Brain area or population of all units, or one for each.
    units
        Units of a continuous signal; spikes are in Hz.
    position_units
        Units of the position, for example "m" or "cm".

    Returns
    -------
    xarray.Dataset
        A Recording. ``time`` is in seconds since the start of each walk at the nominal rate
        (``attrs["sample_rate"]``, 1 over the median interval); ``timestamp`` (walk, time) holds
        the times on pynapple's clock; ``unit_id`` the keys of the units.

    Raises
    ------
    ImportError
        pynapple is not installed; ``pip install 'placeformer[pynapple]'``.
    TypeError
        An object is of another type.
    ValueError
        Data and position do not overlap in time, or values are not finite.

    See Also
    --------
    to_pynapple : Convert a recording to pynapple's objects.
    from_nwb, from_arrays, from_ratinabox

    Notes
    -----
    A spike further than one interval of the position from any of its samples (a gap in the
    tracking) is left out, and a sample of a signal has position NaN there. Otherwise the maps equal
    those of ``pynapple.compute_tuning_curves`` on the same edges.

    References
    ----------
    Viejo, G. et al. (2023). Pynapple, a toolbox for data analysis in neuroscience. eLife 12,
    RP85786. https://doi.org/10.7554/eLife.85786

    Examples
    --------
    >>> import numpy as np
    >>> import pynapple as nap
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> position = nap.TsdFrame(t=np.arange(600) / 10, d=rng.random((600, 2)), columns=["x", "y"])
    >>> times = np.sort(rng.uniform(0, 59.9, 300))
    >>> spikes = nap.Ts(times, time_support=position.time_support)
    >>> recording = pf.from_pynapple(spikes, position, position_units="m")
    >>> dict(recording.sizes), recording.activation.attrs["units"]
    ({'walk': 1, 'time': 600, 'unit': 1}, 'Hz')
    """
    with extra("pynapple"):
        import pynapple as nap
    _check_kind("data", data, (nap.TsGroup, nap.Ts, nap.TsdFrame, nap.Tsd))
    _check_kind("position", position, (nap.TsdFrame, nap.Tsd))
    support = position.time_support.intersect(data.time_support)
    if epochs is not None:
        _check_kind("epochs", epochs, (nap.IntervalSet,))
        support = support.intersect(epochs)
    if not len(support):
        spans = (
            f"{name} from {_span(timed)}"
            for name, timed in (("data", data), ("position", position), ("epochs", epochs))
            if timed is not None
        )
        raise ValueError(f"data and position must overlap in time, got {', '.join(spans)} s")
    labels = {"step": "from_pynapple", "join": join, "layer": layer}
    labels["position_units"] = position_units
    track = _track(position, names)
    if isinstance(data, nap.Ts | nap.TsGroup):
        if units not in (None, "Hz"):
            raise ValueError(f"units must be None for spikes, whose rate is in Hz, got {units!r}")
        group = {0: data} if isinstance(data, nap.Ts) else data
        keys = list(group.keys())
        trains = [group[key].index.values for key in keys]
        return sessions.of_spikes(trains, track, support.values, unit_labels=_ids(keys), **labels)
    values = np.asarray(data.values).reshape(len(data), -1)
    keys = list(getattr(data, "columns", [0]))
    labels |= {"units": units or schema.RECORDING[schema.ACTIVATION].units}
    return sessions.of_samples(
        values, data.index.values, track, support.values, unit_labels=_ids(keys), **labels
    )


def to_pynapple(
    recording: xr.Dataset, *, by: Sequence[str] = AXES[:2], sample_rate: float | None = None
) -> tuple[Any, Any]:
    """Convert a recording to two of pynapple's ``TsdFrame``: activations and position.

    Parameters
    ----------
    recording
        Recording.
    by
        Coordinates that make the columns of the position.
    sample_rate
        Samples per second, in Hz, for a recording without ``sample_rate``: pynapple's times are in
        seconds.

    Returns
    -------
    activation, position
        ``TsdFrame`` each, on the recording's ``timestamp`` where it has one; else the walks
        follow one another with one sample left out between them. Every walk is an epoch of the
        time support. Columns are ``unit_id`` where there is one, else the number of the unit;
        layers are metadata of the columns.

    Raises
    ------
    ImportError
        pynapple is not installed; ``pip install 'placeformer[pynapple]'``.
    ValueError
        The recording breaks the contract, or the duration of a step in seconds is not known.

    See Also
    --------
    from_pynapple : Convert pynapple's objects to a recording.

    Examples
    --------
    >>> import numpy as np
    >>> import placeformer as pf
    >>> rng = np.random.default_rng(0)
    >>> place = {"x": rng.random((2, 500)), "y": rng.random((2, 500))}
    >>> recording = pf.from_arrays(rng.random((2, 500, 3)), place, sample_rate=50)
    >>> activation, position = pf.to_pynapple(recording)
    >>> activation.shape, position.shape, len(activation.time_support)
    ((1000, 3), (1000, 2), 2)
    """
    with extra("pynapple"):
        import pynapple as nap
    schema.check_recording(recording, need=tuple(by))
    times = _times(recording, sample_rate)
    known = np.isfinite(times)
    support = nap.IntervalSet(np.nanmin(times, axis=1), np.nanmax(times, axis=1))
    values = recording[schema.ACTIVATION].transpose(*schema.RECORDING_DIMS).values[known]
    place = [recording[name].transpose(schema.WALK, schema.TIME).values[known] for name in by]
    ids = recording.get("unit_id")
    activation = nap.TsdFrame(
        t=times[known],
        d=values,
        time_support=support,
        columns=np.arange(values.shape[1]) if ids is None else ids.values,
        metadata={"layer": recording["layer"].values} if "layer" in recording.coords else None,
    )
    axes = np.stack(place, axis=-1)
    return activation, nap.TsdFrame(t=times[known], d=axes, time_support=support, columns=list(by))


def _check_kind(argument: str, value: Any, kinds: tuple[type, ...]) -> None:
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(
            f"{argument} must be pynapple's {wanted}, got {type(value).__name__}; for plain "
            "arrays use placeformer.from_arrays"
        )


def _span(timed: Any) -> str:
    support = getattr(timed, "time_support", timed)
    return f"{support.start[0]:g} to {support.end[-1]:g}" if len(support) else "no time"


def _track(position: Any, names: Sequence[str] | None) -> Track:
    """Position with the names of its axes."""
    values = np.asarray(position.values, float).reshape(len(position), -1)
    columns = getattr(position, "columns", AXES[:1])
    if names is None:
        textual = all(isinstance(column, str) for column in columns)
        names = [str(c) for c in columns] if textual else AXES[: values.shape[1]]
    if len(names) != values.shape[1]:
        raise ValueError(
            f"names must name each of the {values.shape[1]} axes of the position, got {list(names)}"
        )
    return Track(position.index.values, dict(zip(names, values.T, strict=True)))


def _ids(keys: Sequence[Any]) -> dict[str, Any]:
    return {"unit_id": np.asarray(keys)}


def _times(recording: xr.Dataset, sample_rate: float | None) -> np.ndarray:
    """Time of every sample (walk, time) in seconds; NaN after the end of a walk."""
    if sessions.TIMESTAMP in recording.coords:
        return np.asarray(
            recording[sessions.TIMESTAMP].transpose(schema.WALK, schema.TIME).values, float
        )
    rate = recording.attrs.get("sample_rate", sample_rate)
    if rate is None or not rate > 0:
        raise ValueError(
            f"sample_rate must be a positive number of Hz, got {rate!r}: the recording counts "
            "steps, but pynapple seconds; pass sample_rate=1 to count a step as a second"
        )
    n_walks, n_steps = recording.sizes[schema.WALK], recording.sizes[schema.TIME]
    starts = np.arange(n_walks)[:, None] * (n_steps + 1)
    return (starts + np.arange(n_steps)) / rate
