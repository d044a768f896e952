"""General statistics: p-values, intervals, correlations, Hill curves."""
