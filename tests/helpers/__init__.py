"""What tests share: networks, recipes, measured Datasets, a browser and a model hub."""
