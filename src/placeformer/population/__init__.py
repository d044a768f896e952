"""Population analyses: decoding, similarity, dimensionality, remapping."""
