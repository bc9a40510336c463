"""Optimizers that see a matrix as a matrix."""

ROWS = {}
