"""Normalization of updates by their global norm: u = scale_factor · g / (‖g‖ + eps)."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from optx_core import OptState, Params, ScalarOrSchedule, build, global_norm
from optx_core._transforms.scale import scale_leaf


@build.recorded
@build.schedulable("scale_factor", "eps")
def normalize_by_update_norm(
    scale_factor: ScalarOrSchedule = 1.0, eps: ScalarOrSchedule = 1e-6
) -> build.Transformation:
    """Divides all updates by their global norm.

    Args:
      scale_factor: the norm of the results, a scalar or a schedule.
      eps: added to the norm to avoid division by zero.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import normalize_by_update_norm
      >>> tx = normalize_by_update_norm(eps=0.0)
      >>> tx.update(jnp.array([3.0, 4.0]), tx.init(None))[0]
      Array([0.6, 0.8], dtype=float32)
    """
    build.check_number("normalize_by_update_norm", low=0, eps=eps)

    def step(flow: build.Flow, state: OptState, _: Params = None, **__: Any) -> build.LeafStep:
        norm = global_norm(flow.updates)
        size = norm + jnp.asarray(eps, norm.dtype)
        factor = jnp.where(
            size > 0, jnp.asarray(scale_factor, norm.dtype) / jnp.where(size > 0, size, 1), 0
        )
        return build.LeafStep(scale_leaf, close=lambda: state, operands={"factor": factor})

    return build.leafwise(step)
