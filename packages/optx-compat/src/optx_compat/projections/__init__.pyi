"""The names of `optax.projections`: projections onto sets."""

# Written by tools/write_stubs.py.

from optx_projections import projection_box as projection_box
from optx_projections import projection_halfspace as projection_halfspace
from optx_projections import projection_hypercube as projection_hypercube
from optx_projections import projection_hyperplane as projection_hyperplane
from optx_projections import projection_l1_ball as projection_l1_ball
from optx_projections import projection_l1_sphere as projection_l1_sphere
from optx_projections import projection_l2_ball as projection_l2_ball
from optx_projections import projection_l2_sphere as projection_l2_sphere
from optx_projections import projection_linf_ball as projection_linf_ball
from optx_projections import projection_non_negative as projection_non_negative
from optx_projections import projection_simplex as projection_simplex
from optx_projections import projection_vector as projection_vector

__all__ = [
    "projection_box",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_vector",
]
