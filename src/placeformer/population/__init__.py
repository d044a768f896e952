"""What all units say together: decoding, similarity, dimensionality, remapping."""
