"""Measure networks with common protocols, and test the claims of the paper on them."""
