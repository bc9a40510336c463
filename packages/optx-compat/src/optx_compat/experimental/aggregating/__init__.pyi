"""The names of `optax.experimental.aggregating`: what to use instead, in the errors."""

# Written by tools/write_stubs.py.


__all__ = [
]
