"""optx-estimators."""
