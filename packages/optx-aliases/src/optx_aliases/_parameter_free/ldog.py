"""Layer-wise DoG: each array has a learning rate of its own.

r ← max(r, ‖p − p₀‖),   G ← G + ‖g‖²,   u = global_scale · r / √(G + eps) · g

Norms are those of one array; r starts at reps_rel·(1 + ‖p₀‖).

Reference: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
2023, section 3.2 (L-DoG).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import sum_of_squares
from optx_core import PyTree, build, tree


def _first_distance(p: Array, *, reps_rel: Any, param_dtype: Any, **_: Any) -> Array:
    norm = jnp.sqrt(sum_of_squares(p.astype(tree.slot_dtype(p, param_dtype))))
    return jnp.asarray(reps_rel).astype(norm.dtype) * (1 + norm)


def _no_squares(p: Array, *, param_dtype: Any, **_: Any) -> Array:
    return jnp.zeros(1, tree.slot_dtype(p, param_dtype, real=True))


class ScaleByDistanceOverGradientsState(NamedTuple):
    """State of `scale_by_distance_over_gradients`.

    Attributes:
      max_dist: r, a tree of scalars, one for each array.
      grad_sum_of_squares: G, a tree of arrays of shape (1,), as in optax.
      init_params: p₀, the parameters at the start.
    """

    max_dist: Annotated[PyTree, build.slot(init=_first_distance, exact=True)]
    grad_sum_of_squares: Annotated[PyTree, build.slot(nonnegative=True, init=_no_squares)]
    init_params: Annotated[PyTree, build.slot(dtype="param_dtype", fill="params", constant=True)]


@build.rule(ScaleByDistanceOverGradientsState, params=True)
def scale_by_distance_over_gradients(
    g: Array,
    p: Array,
    s: ScaleByDistanceOverGradientsState,
    /,
    reps_rel: Annotated[Any, build.Number(above=0, schedule=False)] = 1e-6,
    eps: build.Positive = 1e-8,
    param_dtype: build.DType = jnp.float32,
    global_scale: build.Real = 1.0,
) -> tuple[Array, ScaleByDistanceOverGradientsState]:
    """Multiplies each array by the distance it has moved over the root of its squared gradients (L-DoG).

    Args:
      reps_rel: the length of the first step, relative to 1 + ‖p₀‖; 1e-4 with batch normalization,
        otherwise 1e-6.
      eps: added under the root, greater than 0, or a schedule.
      param_dtype: dtype of `init_params`; None for the parameters', at least float32.
      global_scale: a factor, its sign included: −1 descends without another transformation; a scalar,
        or a schedule.

    Returns:
      A transformation with a `ScaleByDistanceOverGradientsState`; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_distance_over_gradients
      >>> tx, p = scale_by_distance_over_gradients(reps_rel=0.25, global_scale=-1.0), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([4.0]), tx.init(p), p)[0][0]), 5)
      -0.5
    """
    r = jnp.maximum(s.max_dist, jnp.sqrt(sum_of_squares(p - s.init_params)))
    G = build.finite_sum(s.grad_sum_of_squares + sum_of_squares(g))
    u = global_scale * r / jnp.sqrt(G[0] + eps) * build.squarable(g, g.size)
    return u, s._replace(max_dist=r, grad_sum_of_squares=G)
