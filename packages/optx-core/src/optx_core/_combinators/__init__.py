"""Combinators of transformations: chains, masks and partitions. Imports the engine."""
