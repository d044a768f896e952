"""Circular axes: variables that return to their start after a period, such as a heading.

The attribute ``circular`` of a Recording or of RateMaps holds them as JSON text: the period of
every circular variable, in its units.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from placeformer.data import schema

CIRCULAR = "circular"

PERIODS = {"rad": 2 * np.pi, "radian": 2 * np.pi, "radians": 2 * np.pi,
           "deg": 360.0, "degree": 360.0, "degrees": 360.0}  # fmt: skip
"""Period of an angle by its units."""

TOLERANCE = 1e-6
"""Fraction of the period by which edges may miss it."""

MOST_PERIODS = 3
"""Largest number of periods that values which look like an angle in other units may span."""

CONTINUOUS = 20
"""Values are continuous if they typically move by less than a turn divided by this number."""

WRAPPED = 0.85
"""Fraction of a turn by which wrapped values jump, at least."""

LEAST_SHARE = 0.05
"""Fraction of the period that angles and values without units must span."""


def circular_of(dataset: xr.Dataset) -> dict[str, float]:
    """Period of every circular variable of a Recording or of RateMaps.

    Raises
    ------
    ValueError
        The attribute is not a JSON object of positive numbers.
    """
    text = dataset.attrs.get(CIRCULAR, "{}")
    try:
        periods = json.loads(text)
        return {str(name): float(period) for name, period in _checked(periods).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"attrs[{CIRCULAR!r}] must be JSON text with the period of every circular variable, "
            f"such as '{{\"heading\": 360}}', got {reprlib.repr(text)}"
        ) from error


def declare(dataset: xr.Dataset, circular: Mapping[str, float] | None) -> xr.Dataset:
    """The Dataset with further circular variables in its attributes.

    Parameters
    ----------
    dataset
        Recording or RateMaps.
    circular
        Period of every circular variable, in its units; ``None`` adds none.

    Raises
    ------
    ValueError
        A period is not a positive number, or the Dataset lacks the variable.
    """
    periods = check_periods(circular)
    if not periods:
        return dataset
    unknown = sorted(set(periods) - set(map(str, dataset.variables)))
    if unknown:
        raise ValueError(
            "circular must name variables of the Dataset, "
            f"{', '.join(sorted(map(str, dataset.variables)))}, got {unknown}"
        )
    return dataset.assign_attrs({CIRCULAR: as_text({**circular_of(dataset), **periods})})


def check_periods(circular: Mapping[str, float] | None) -> dict[str, float]:
    """The argument ``circular`` as a dict; empty for ``None``.

    Raises
    ------
    ValueError
        It is not a mapping of names to positive numbers.
    """
    try:
        return {} if circular is None else _checked(circular)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "circular must map names of variables to their periods, positive numbers such as "
            f"{{'heading': 2 * np.pi}}, got {circular!r}"
        ) from error


def as_text(periods: Mapping[str, float]) -> str:
    """Periods as the text of the attribute."""
    return json.dumps({name: float(period) for name, period in periods.items()})


def _checked(periods: Any) -> dict[str, float]:
    checked = {str(name): float(period) for name, period in periods.items()}
    if not all(np.isfinite(period) and period > 0 for period in checked.values()):
        raise ValueError("periods must be positive")
    return checked


def axis_periods(maps: xr.Dataset) -> tuple[float | None, ...]:
    """Period of every axis of place of RateMaps; ``None`` for one that has two ends.

    A selection of some of the bins of a circular axis, such as ``maps.isel(heading=slice(6))``, has
    two ends.
    """
    periods = circular_of(maps)
    return tuple(_period_of_bins(maps, name, periods) for name in schema.place_dims(maps))


def wraps(maps: xr.Dataset) -> tuple[bool, ...]:
    """Whether the last bin of every axis of place is a neighbour of the first.

    This is so on circular axes of three bins or more: two bins are each other's only neighbours.
    """
    space = schema.place_dims(maps)
    pairs = zip(space, axis_periods(maps), strict=True)
    return tuple(period is not None and maps.sizes[name] > 2 for name, period in pairs)


def refuse_circular(maps: xr.Dataset, what: str) -> None:
    """Refuse maps with a circular axis, which has no walls and is not a plane.

    Raises
    ------
    ValueError
        An axis of place is circular.
    """
    names = zip(schema.place_dims(maps), axis_periods(maps), strict=True)
    circular = [name for name, period in names if period is not None]
    if circular:
        raise ValueError(f"maps must have no circular axis for {what}, got {circular}")


def _period_of_bins(maps: xr.Dataset, name: str, periods: Mapping[str, float]) -> float | None:
    if name not in periods or name + schema.EDGES_SUFFIX not in maps.variables:
        return None
    edges = schema.edges_of(maps, name)
    return periods[name] if _spans(edges, periods[name]) else None


def _spans(edges: NDArray[np.float64], period: float) -> bool:
    return bool(abs(edges[-1] - edges[0] - period) <= TOLERANCE * period)


def check_edges(name: str, edges: NDArray[np.float64], period: float) -> None:
    """Refuse edges of a circular axis that do not span one period.

    Raises
    ------
    ValueError
        The first and the last edge are not one period apart.
    """
    if not _spans(edges, period):
        raise ValueError(
            f"bins of {name!r}, which is circular with period {period:g}, must span one period, "
            f"got edges from {edges[0]:g} to {edges[-1]:g}; pass a number of bins, or edges such "
            f"as np.linspace(0, {period:g}, 25)"
        )


def check_period(
    name: str, values: Any, low: float, high: float, period: float, units: str, partly: bool
) -> None:
    """Refuse a period that does not fit the values of a variable.

    Parameters
    ----------
    name
        The variable.
    values
        Its values (walk, time), NumPy or dask.
    low, high
        Their minimum and maximum.
    period
        Its period.
    units
        Its units.
    partly
        Whether the values may cover a small part of the circle, as a part of a recording may.

    Raises
    ------
    ValueError
        The units are of an angle that has another period, the values look like an angle in other
        units (they span half a turn or more but no more than one, and jump from end to end), or
        they are an angle, or without units, and span less than a twentieth of the period.
    """
    own = PERIODS.get(units, period)
    advice = f"pass circular={{{name!r}: period}} in the units of the variable"
    if abs(own - period) > 1e-3 * own:
        raise ValueError(
            f"circular[{name!r}] must be {own:g}, as {name!r} is in {units!r}, got {period:g}; "
            "correct the period or the attribute 'units'"
        )
    span = high - low
    if span > MOST_PERIODS * period and _is_other_angle(values, span, period):
        raise ValueError(
            f"circular[{name!r}] does not fit: the values lie between {low:g} and {high:g}, as "
            f"angles in other units do, and jump by more than the period, {period:g}; {advice}, or "
            f"wrap them with np.mod({name}, {period:g})"
        )
    unknown = units == "1" or units in PERIODS
    if span < LEAST_SHARE * period and unknown and not partly:
        raise ValueError(
            f"circular[{name!r}] does not fit: the values lie between {low:g} and {high:g}, "
            f"{span / period:.1%} of the period {period:g}; {advice}; where so little of the "
            f"circle was visited, pass edges as bins, such as np.linspace(0, {period:g}, 25)"
        )


def _is_other_angle(values: Any, span: float, period: float) -> bool:
    """Whether values (walk, time) that span several periods look like an angle in other units.

    An angle that continues over several turns moves continuously, or jumps by any distance where an
    animal is reflected; one that is wrapped jumps by about a turn.
    """
    turns = [t for t in set(PERIODS.values()) if t / 2 <= span <= t * (1 + TOLERANCE)]
    if not turns:
        return False
    known = (walk[np.isfinite(walk)] for walk in np.asarray(values, float))
    steps = np.abs(np.concatenate([np.diff(walk) for walk in known]))
    if steps.max(initial=0.0) <= period:
        return False
    jumps = steps[steps > turns[0] / 2]
    continuous = np.median(steps) < turns[0] / CONTINUOUS
    return not continuous or bool(jumps.size and np.median(jumps) > WRAPPED * turns[0])


def angle_units(period: float, otherwise: str) -> str:
    """Units of a circular variable by its period: those of an angle, else `otherwise`."""
    for units, turn in (("rad", 2 * np.pi), ("deg", 360.0)):
        if abs(period - turn) <= TOLERANCE * turn:
            return units
    return otherwise


def unwrapped(values: NDArray[Any], period: float) -> NDArray[np.float64]:
    """Values (..., time) moved by whole periods to go the short way round from each to the next."""
    whole = np.array(values, np.float64)
    for row in np.ndindex(whole.shape[:-1]):
        known = np.isfinite(whole[row])
        whole[row][known] = np.unwrap(whole[row][known], period=period)
    return whole


def axes_of_speed(
    axes: Mapping[str, NDArray[Any]], periods: Mapping[str, float]
) -> list[NDArray[Any]]:
    """The axes (..., time) of a position that its speed is computed from.

    Circular axes go the short way round.
    """
    named = names_of_speed(axes, periods)
    return [unwrapped(axes[k], periods[k]) if k in periods else axes[k] for k in named]


def names_of_speed(axes: Iterable[str], periods: Mapping[str, float]) -> list[str]:
    """Names of the axes of a position that its speed is computed from.

    They are x, y and z where these exist. If none of them does, they are all axes that are not
    circular, and if all axes are circular, all of them.
    """
    named = [name for name in axes if name in schema.AXES]
    return named or [name for name in axes if name not in periods] or list(axes)


def wrap(values: Any, low: float, period: float) -> Any:
    """Values shifted by whole periods to between `low` and one period above it.

    Infinite values become NaN.
    """
    with np.errstate(invalid="ignore"):
        return low + np.mod(np.subtract(values, low), period)


def shortest(difference: Any, period: float | None) -> Any:
    """Differences the short way round, from minus half a period up to half of it.

    ``None``: on an axis with two ends, differences stay as they are.
    """
    if period is None:
        return difference
    return np.asarray(difference) - period * np.floor(np.divide(difference, period) + 0.5)


def mean_direction(
    values: Any, period: float, weights: Any = 1.0, axis: int | tuple[int, ...] | None = None
) -> Any:
    """Weighted circular mean, from 0 up to the period, of values without NaN."""
    angle = np.multiply(values, 2 * np.pi / period)
    parts = [np.sum(f(angle) * weights, axis=axis) for f in (np.sin, np.cos)]
    return np.mod(np.arctan2(*parts), 2 * np.pi) * (period / (2 * np.pi))
