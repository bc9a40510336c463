"""The names of `optax.experimental`: nothing but `aggregating`."""

# Written by tools/write_stubs.py.

from optx_compat.experimental import aggregating as aggregating

__all__ = [
    "aggregating",
]
