"""The names of `optax.microbatching`: large batches in slices."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
