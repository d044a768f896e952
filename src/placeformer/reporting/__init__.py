"""The HTML report on a network."""
