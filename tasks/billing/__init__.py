"""Usage and prices become dollars and yuan."""
