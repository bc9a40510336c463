"""The update of each array, scaled to a fraction of the norm of its parameter.

u = g·trust_coefficient·‖p‖ / (‖g‖ + eps)        (u = g where a norm is 0)

Norms are those of whole arrays, and at least `min_norm`. A norm of g above 1e19 counts as infinite,
and the array does not move; entries of p whose squares have no finite sum count as the largest whose
squares have one.

Reference: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, equation 6.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_core import build, safe_norm


@build.rule(params=True)
def scale_by_trust_ratio(
    g: Array,
    p: Array,
    /,
    min_norm: build.Nonnegative = 0.0,
    trust_coefficient: build.Nonnegative = 1.0,
    eps: build.Nonnegative = 0.0,
) -> Array:
    """Scales the update of each array to the norm of its parameter.

    Args:
      min_norm: a lower bound of both norms, a scalar at least 0, or a schedule.
      trust_coefficient: the ratio of the update's norm to the parameter's, a scalar at least 0, or a
        schedule.
      eps: added to the update's norm, a scalar at least 0, or a schedule.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_trust_ratio
      >>> tx = scale_by_trust_ratio()
      >>> tx.update(jnp.array([3.0, 4.0]), tx.init(None), jnp.array([0.0, 10.0]))[0]
      Array([6., 8.], dtype=float32)
    """
    p_norm, g_norm = build.finite_norm(p, min_norm), safe_norm(g, min_norm)
    unscaled = (p_norm == 0) | (g_norm == 0)
    ratio = trust_coefficient * p_norm / jnp.where(unscaled, 1, g_norm + eps)
    return g * jnp.where(unscaled, 1, ratio)
