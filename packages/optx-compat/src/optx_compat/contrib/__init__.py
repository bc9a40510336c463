"""The names of `optax.contrib`: contributed optimizers."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
