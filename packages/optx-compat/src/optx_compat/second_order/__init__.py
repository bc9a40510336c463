"""The names of `optax.second_order`: curvature."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
