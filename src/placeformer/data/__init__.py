"""The labelled Dataset that every analysis reads: its contract, and conversion from other data."""

from placeformer.data import accessor as accessor  # every Dataset has .pf
