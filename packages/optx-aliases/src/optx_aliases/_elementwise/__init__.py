"""Optimizers that treat each entry by itself: one family to a file."""
