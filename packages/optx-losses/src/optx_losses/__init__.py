"""optx-losses."""
