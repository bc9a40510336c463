"""Element by element, and not in optax."""

ROWS = {}
