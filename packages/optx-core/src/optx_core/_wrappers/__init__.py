"""Transformations around a transformation, one to a file."""

__all__: list[str] = []
