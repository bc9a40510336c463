"""Optimizers that measure each array."""
