"""The names of `optax.projections`: projections onto sets."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
