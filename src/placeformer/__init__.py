"""Place cells and memory consolidation in Transformers.

Everything public is one attribute away (``import placeformer as pf``; ``pf.load``,
``pf.rate_maps``, ...) and is imported on first use, so that importing the package itself loads
neither torch nor matplotlib. The names stand in ``__init__.pyi``.
"""

import sys as _sys

import lazy_loader as _lazy

_load, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    """Import a public name on first use; Python suggests the nearest for one that is unknown."""
    if name == "__version__":  # reading the metadata takes half as long as all of this import
        from importlib.metadata import version

        return version(__name__)
    if name not in __all__:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}",
            name=name,
            obj=_sys.modules[__name__],
        )
    return _load(name)
