"""Layer-wise DoG: each array has a learning rate of its own.

r ← max(r, ‖p − p₀‖),   G ← G + ‖g‖²,   u = global_scale · r / √(G + eps) · g

Norms are those of one array; r starts at reps_rel·(1 + ‖p₀‖).

Reference: Ivgi, Hinder, Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
2023, section 3.2 (L-DoG).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.whole_tree import copy_of, sum_of_squares
from optx_core import GradientTransformationExtraArgs, Params, PyTree, Scalar, ScalarOrSchedule
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    real_dtype,
    recorded,
    schedulable,
)


class ScaleByDistanceOverGradientsState(NamedTuple):
    """State of `scale_by_distance_over_gradients`.

    Attributes:
      max_dist: r, a tree of scalars, one for each array.
      grad_sum_of_squares: G, a tree of arrays of shape (1,), as optax has them.
      init_params: p₀, the parameters at the start.
    """

    max_dist: PyTree
    grad_sum_of_squares: PyTree
    init_params: PyTree


def _leaf(
    g: jax.Array,
    r: jax.Array,
    G: jax.Array,
    p: jax.Array,
    p0: jax.Array,
    *,
    eps: Scalar,
    global_scale: Scalar,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r = jnp.maximum(r, jnp.sqrt(sum_of_squares(p - p0)))
    G = G + sum_of_squares(g)
    return global_scale * r / jnp.sqrt(G[0] + eps) * g, r, G


@recorded
@schedulable("eps", "global_scale")
def scale_by_distance_over_gradients(
    reps_rel: Scalar = 1e-6,
    eps: ScalarOrSchedule = 1e-8,
    param_dtype: Any = jnp.float32,
    global_scale: ScalarOrSchedule = 1.0,
) -> GradientTransformationExtraArgs:
    """Multiplies each array by the distance it has covered over the gradients it has met (L-DoG).

    Args:
      reps_rel: how far the first step goes, relative to 1 + ‖p₀‖; 1e-4 with batch normalization,
        otherwise 1e-6.
      eps: added under the root, greater than 0, or a schedule.
      param_dtype: dtype of `init_params`; None for the parameters', at least float32.
      global_scale: a factor, its sign included: −1 to descend with nothing behind; a scalar, or a
        schedule.

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
    where = "scale_by_distance_over_gradients"
    check_number(where, above=0, reps_rel=reps_rel, eps=eps)

    def init(params: Params) -> ScaleByDistanceOverGradientsState:
        start = copy_of(params, param_dtype)

        def distance(p: jax.Array) -> jax.Array:
            norm = jnp.sqrt(sum_of_squares(p))
            return jnp.asarray(reps_rel).astype(norm.dtype) * (1 + norm)

        return ScaleByDistanceOverGradientsState(
            jax.tree.map(distance, start),
            jax.tree.map(lambda p: jnp.zeros(1, real_dtype(p.dtype)), start),
            start,
        )

    def step(
        flow: Flow, state: ScaleByDistanceOverGradientsState, params: Params = None, **_: Any
    ) -> LeafStep:
        need_params(flow.trail, params)
        return LeafStep(
            _leaf,
            reduced=(state.max_dist, state.grad_sum_of_squares),
            reads=(params, state.init_params),
            close=lambda r, G: ScaleByDistanceOverGradientsState(r, G, state.init_params),
            operands={"eps": eps, "global_scale": global_scale},
        )

    return leafwise(step, init)
