"""What holds calls back: `limiter` (places and moments), `pacing` (the endpoint's headers), `rate` (what 429s teach),
`budget` (the cap on dollars).
"""
