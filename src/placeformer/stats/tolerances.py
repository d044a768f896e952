"""Relative tolerances below which differences are rounding errors.

Activations are float32, with a relative precision of 6e-8; sums of many of them, in any order,
agree to about 1e-7 of their terms. The tolerances are one order of magnitude above that.
"""

FLAT = 1e-6
"""A map whose range is below this fraction of its largest absolute value is flat."""

NO_VARIANCE = 1e-6
"""A variance below this fraction of the raw sum of squares it was computed from is 0."""

TIES = 1e-6
"""Two values of a statistic that differ by less than this fraction of their scale are equal."""
