"""What single units say about place: rate maps, place fields, tests, place cells."""
