"""Changes to a trained network at test time: lesions of units, and Mg²⁺."""
