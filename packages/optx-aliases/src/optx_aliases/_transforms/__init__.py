"""Transformations and helpers that several optimizers share."""
