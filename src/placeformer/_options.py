"""Checks of options that several functions share."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

import numpy as np


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Refuse a value that is not one of the options of an argument.

    Raises
    ------
    ValueError
        The value is not one of them.
    """
    known = tuple(options)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")


def has_units(values: object) -> bool:
    """Whether values are a quantity with units, of the packages quantities and neo."""
    return isinstance(getattr(values, "units", None), np.ndarray)


def check_number(name: str, value: object) -> None:
    """Refuse a value that is not one real number.

    Raises
    ------
    ValueError
        The value is text, a truth value, or several values, or has units.
    """
    if has_units(value):
        raise ValueError(
            f"{name} must be a number without units, got {value!r}; convert it to the units that "
            "are asked for, and pass its magnitude, float(value)"
        )
    if np.ndim(value) or np.asarray(value).dtype.kind not in "iuf":  # type: ignore[arg-type]
        raise ValueError(f"{name} must be a number, got {value!r}")


def check_share(name: str, value: object) -> None:
    """Refuse a value that is not a number from 0 to 1.

    Raises
    ------
    ValueError
        The value is not a number, or lies outside this range.
    """
    check_number(name, value)
    if not 0 <= value <= 1:  # type: ignore[operator]
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Refuse a value that is not a whole number of at least `least`.

    Raises
    ------
    ValueError
        The value is smaller, or not a whole number.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} must be a whole number ≥ {least}, got {value!r}")
