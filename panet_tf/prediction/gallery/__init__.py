"""index.html of a run's pictures."""
