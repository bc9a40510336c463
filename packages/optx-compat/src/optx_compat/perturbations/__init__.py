"""The names of `optax.perturbations`: perturbed optimizers."""

from optx_compat._names import optax_names

__getattr__, __dir__, __all__ = optax_names(__name__)
