"""Networks measured in the same way, and the paper's claims tested on them."""
