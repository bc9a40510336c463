"""The names of `optax.losses`: losses."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
