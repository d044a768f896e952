"""Place cells and memory consolidation in Transformers.

Everything public is one attribute away (``import placeformer as pf``; ``pf.load``,
``pf.rate_maps``, ...) and is imported on first use, so that importing the package itself loads
neither torch nor matplotlib. The names stand in ``__init__.pyi``.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__version__ = _version(__name__)
__all__ += ["__version__"]
