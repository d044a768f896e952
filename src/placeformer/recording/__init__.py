"""Activations of any torch network, recorded along behaviour into a Dataset."""
