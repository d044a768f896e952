"""Warnings that name the line of the user's code that caused them."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import warnings

SKIPPED = (os.path.dirname(__file__) + os.sep, contextlib.__file__, functools.__file__)
"""Where frames are not the user's: the package, and what runs its context managers and caches."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the innermost line outside the package, however deep in the package the call is.

    Python shows a warning of one text once per line. If the line were one of the package, the
    warning would be shown for the first of several recordings only.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(SKIPPED):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
