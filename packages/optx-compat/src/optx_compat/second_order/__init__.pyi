"""The names of `optax.second_order`: curvature."""

# Written by tools/write_stubs.py.

from optx_second_order import fisher_diag as fisher_diag
from optx_second_order import hessian_diag as hessian_diag
from optx_second_order import hvp as hvp

__all__ = [
    "fisher_diag",
    "hessian_diag",
    "hvp",
]
