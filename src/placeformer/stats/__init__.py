"""Statistics that know nothing of networks or places."""
