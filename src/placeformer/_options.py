"""Checks of options that several functions share."""

from __future__ import annotations

from collections.abc import Iterable


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Refuse a value that is not one of the options of an argument.

    Raises
    ------
    ValueError
        The value is none of them.
    """
    known = tuple(options)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
