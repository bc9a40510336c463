"""The elementary transformations, one idea to a file."""
