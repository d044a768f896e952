"""Networks measured alike, and the paper's claims tested on them."""
