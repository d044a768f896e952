"""Optional dependencies: imported where they are used, with the way to get them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra that brings the package which an import inside does not find.

    Parameters
    ----------
    name
        Name of the extra in ``pyproject.toml``.

    Raises
    ------
    ImportError
        An import failed because a package is not installed.

    Examples
    --------
    >>> with extra("nwb"):
    ...     import pynwb
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f"this needs the package {error.name!r}, which is not installed; get it with "
            f"pip install 'placeformer[{name}]'"
        ) from error
