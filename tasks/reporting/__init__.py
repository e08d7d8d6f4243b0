"""Report: one run's tables as a page for people."""
