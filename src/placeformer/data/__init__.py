"""The labelled Dataset every analysis reads: its contract, and what turns other data into one."""

from placeformer.data import accessor as accessor  # every Dataset has .pf
