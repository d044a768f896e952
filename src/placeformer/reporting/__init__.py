"""The HTML report about networks and recordings."""
