"""The elementary transformations, one idea to a file."""

__all__: list[str] = []
