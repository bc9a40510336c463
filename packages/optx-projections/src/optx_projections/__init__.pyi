"""optx-projections: the nearest point of a convex set, for sets on which it has a closed form."""

# Written by tools/write_stubs.py.

from optx_projections._projections import projection_box as projection_box
from optx_projections._projections import projection_halfspace as projection_halfspace
from optx_projections._projections import projection_hypercube as projection_hypercube
from optx_projections._projections import projection_hyperplane as projection_hyperplane
from optx_projections._projections import projection_l1_ball as projection_l1_ball
from optx_projections._projections import projection_l1_sphere as projection_l1_sphere
from optx_projections._projections import projection_l2_ball as projection_l2_ball
from optx_projections._projections import projection_l2_sphere as projection_l2_sphere
from optx_projections._projections import projection_linf_ball as projection_linf_ball
from optx_projections._projections import projection_non_negative as projection_non_negative
from optx_projections._projections import projection_simplex as projection_simplex
from optx_projections._projections import projection_vector as projection_vector
