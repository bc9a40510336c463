"""Transformations made of others: chains, masks and partitions. Imports the engine."""
