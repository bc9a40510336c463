"""optx-projections: the nearest point of a convex set, for sets on which it has a closed form."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _projections: projection_box projection_halfspace projection_hypercube projection_hyperplane
        projection_l1_ball projection_l1_sphere projection_l2_ball projection_l2_sphere
        projection_linf_ball projection_non_negative projection_simplex projection_vector
    """,
)
