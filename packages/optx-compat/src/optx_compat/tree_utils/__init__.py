"""The names of `optax.tree_utils`: mathematics on trees, names with `tree_`."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
