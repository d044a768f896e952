"""Place cells and memory consolidation in Transformers.

All public names are attributes of the package (``import placeformer as pf``; ``pf.load``,
``pf.rate_maps``, ...). They are imported on first use, so that importing the package itself loads
neither torch nor matplotlib. ``__init__.pyi`` lists them.
"""

import sys as _sys

import lazy_loader as _lazy

_load, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> object:
    """Import a public name on first use; for an unknown name, Python suggests a similar one."""
    if name == "__version__":  # reading the metadata takes half as long as importing the package
        from importlib.metadata import version

        return version(__name__)
    if name not in __all__:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}",
            name=name,
            obj=_sys.modules[__name__],
        )
    return _load(name)
