"""Transformations around other optimizers."""
