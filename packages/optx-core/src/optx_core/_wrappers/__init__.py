"""Wrappers of transformations."""
