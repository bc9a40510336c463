"""Transformations around a transformation, one to a file."""
