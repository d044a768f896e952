"""Networks of other kinds, built and trained in seconds, for a benchmark and for tests."""
