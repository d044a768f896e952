"""The navigation Transformer, its activation function, its world and its memory errors."""
