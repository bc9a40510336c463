"""Functions around a training step that are no transformations."""
