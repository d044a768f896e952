"""Networks that are not ours, built and trained in seconds, for a benchmark and for tests."""
