"""The names of `optax.perturbations`: perturbed optimizers."""

# Written by tools/write_stubs.py.

from optx_estimators import Gumbel as Gumbel
from optx_estimators import Normal as Normal
from optx_estimators import make_perturbed_fun as make_perturbed_fun

__all__ = [
    "Gumbel",
    "Normal",
    "make_perturbed_fun",
]
