"""optx-second-order."""
