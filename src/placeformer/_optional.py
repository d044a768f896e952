"""Optional dependencies: imported where used, with an error that says how to install them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Name the extra to install if an import inside the block does not find a package.

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
            f"this needs the package {error.name!r}, which is not installed; install it with "
            f"pip install 'placeformer[{name}]'"
        ) from error
