"""The names of `optax.assignment`: assignments."""

# Written by tools/write_stubs.py.

from optx_losses import hungarian_algorithm as base_hungarian_algorithm
from optx_losses import hungarian_algorithm as hungarian_algorithm

__all__ = [
    "base_hungarian_algorithm",
    "hungarian_algorithm",
]
