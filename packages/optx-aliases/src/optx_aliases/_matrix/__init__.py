"""Optimizers of whole matrices, and their linear algebra."""
