"""Readout, summary and sharding of an optimizer's state."""
