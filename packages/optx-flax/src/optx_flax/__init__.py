"""optx-flax."""
