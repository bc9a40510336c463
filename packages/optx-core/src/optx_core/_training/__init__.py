"""Functions for training steps that are not transformations."""
