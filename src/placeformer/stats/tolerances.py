"""Relative tolerances: below what size a number is rounding rather than signal.

Activations are float32, with a relative precision of 6e-8; sums of many of them, in any order,
agree to about 1e-7 of their terms. The tolerances stand one order of magnitude above that.
"""

FLAT = 1e-6
"""A map whose range is below this share of its greatest absolute value is flat."""

NO_VARIANCE = 1e-6
"""A variance below this share of what it was left over from (a raw sum of squares) is none."""

TIES = 1e-6
"""Two values of a statistic that differ by less than this share of their scale are equal."""
