"""The names of `optax.monte_carlo`: estimators, of older versions."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
