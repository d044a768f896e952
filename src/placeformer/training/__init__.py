"""Training: recipes, the trainer, ensembles, sweeps and model cards."""
