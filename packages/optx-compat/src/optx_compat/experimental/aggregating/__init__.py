"""The names of `optax.experimental.aggregating`: what to use instead, in the errors."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
