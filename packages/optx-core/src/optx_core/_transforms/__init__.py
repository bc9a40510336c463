"""The elementary transformations."""
