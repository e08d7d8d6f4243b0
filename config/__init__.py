"""What a user decides: presets, models, prices, endpoints, limits and the job. Types and values side by side."""
