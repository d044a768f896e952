"""Trained networks: the files of one, the list of all, and the model hub."""
