"""The optimizers that optax keeps in its contrib."""

ROWS = {}
