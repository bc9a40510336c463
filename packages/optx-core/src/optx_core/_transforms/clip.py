"""Clipping of updates, elementwise or by their global norm.

clip:                 u = min(max(g, −max_delta), max_delta)
clip_by_global_norm:  u = g · min(1, max_norm / ‖g‖), ‖g‖ the norm of the whole tree

Reference: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks",
2013, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import OptState, Params, ScalarOrSchedule, build, global_norm
from optx_core._transforms.scale import scale_leaf


@build.rule()
def clip(g: jax.Array, /, max_delta: build.Nonnegative) -> jax.Array:
    """Clips every entry to [−max_delta, max_delta].

    Args:
      max_delta: the largest absolute value, a scalar at least 0, or a schedule.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import clip
      >>> clip(1.0).update(jnp.array([-3.0, 0.5]), clip(1.0).init(None))[0]
      Array([-1. ,  0.5], dtype=float32)
    """
    if jnp.iscomplexobj(g):
        raise TypeError("clip: complex numbers have no order; use clip_by_global_norm")
    return jnp.clip(g, -max_delta, max_delta)


@build.recorded
@build.schedulable("max_norm")
def clip_by_global_norm(max_norm: ScalarOrSchedule) -> build.Transformation:
    """Scales all updates by a common factor if their global norm exceeds a bound.

    The direction is preserved. No clipped copy is stored: the factor is applied in the next pass over
    the arrays. Zero updates stay zero, even with `max_norm=0`. Updates whose norm is inf or NaN are
    passed on unchanged, so that wrappers such as `apply_if_finite` can detect them, and finite entries
    are not silently set to zero.

    Args:
      max_norm: the largest norm, a scalar at least 0, or a schedule.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import clip_by_global_norm
      >>> tx = clip_by_global_norm(1.0)
      >>> tx.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, tx.init(None))[0]["b"]
      Array([0.8], dtype=float32)
    """
    build.check_number("clip_by_global_norm", low=0, finite=False, max_norm=max_norm)

    def step(flow: build.Flow, state: OptState, _: Params = None, **__: Any) -> build.LeafStep:
        norm = global_norm(flow.updates)
        limit = jnp.asarray(max_norm, norm.dtype)
        too_long = jnp.isfinite(norm) & (norm > limit)
        factor = jnp.where(too_long, limit / jnp.where(too_long, norm, 1), 1)
        return build.LeafStep(scale_leaf, close=lambda: state, operands={"factor": factor})

    return build.leafwise(step)
