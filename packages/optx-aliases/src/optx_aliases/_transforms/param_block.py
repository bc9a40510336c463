"""The update of each array scaled by the size of its parameter.

scale_by_param_block_norm:  u = g · max(‖p‖, min_scale)
scale_by_param_block_rms:   u = g · max(√(mean |p|²), min_scale)

Reference: Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018,
section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    safe_norm,
    safe_root_mean_squares,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
)


def _norm_leaf(g: jax.Array, p: jax.Array, *, min_scale: Scalar) -> jax.Array:
    return g * safe_norm(p, min_scale)


def _rms_leaf(g: jax.Array, p: jax.Array, *, min_scale: Scalar) -> jax.Array:
    return g * safe_root_mean_squares(p, min_scale) if p.size else g


@recorded
@schedulable("min_scale")
def scale_by_param_block_norm(
    min_scale: ScalarOrSchedule = 1e-3,
) -> GradientTransformationExtraArgs:
    """Multiplies the update of each array by the norm of its parameter.

    Args:
      min_scale: the least norm that a parameter counts for, so that zeros can move.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if `min_scale` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_param_block_norm
      >>> tx = scale_by_param_block_norm()
      >>> tx.update(jnp.array([1.0, 2.0]), tx.init(None), jnp.array([3.0, 4.0]))[0]
      Array([ 5., 10.], dtype=float32)
    """
    check_number("scale_by_param_block_norm", low=0, min_scale=min_scale)
    return _scaled(_norm_leaf, min_scale)


@recorded
@schedulable("min_scale")
def scale_by_param_block_rms(
    min_scale: ScalarOrSchedule = 1e-3,
) -> GradientTransformationExtraArgs:
    """Multiplies the update of each array by the root mean square of its parameter.

    Args:
      min_scale: the least root mean square that a parameter counts for, so that zeros can move.

    Returns:
      A transformation with an `EmptyState`; `update` needs the parameters.

    Raises:
      ValueError: if `min_scale` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_param_block_rms
      >>> tx = scale_by_param_block_rms()
      >>> tx.update(jnp.array([1.0, 2.0]), tx.init(None), jnp.array([3.0, -3.0]))[0]
      Array([3., 6.], dtype=float32)
    """
    check_number("scale_by_param_block_rms", low=0, min_scale=min_scale)
    return _scaled(_rms_leaf, min_scale)


def _scaled(leaf: Callable[..., jax.Array], min_scale: Any) -> GradientTransformationExtraArgs:
    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        return LeafStep(
            leaf,
            reads=(need_params(flow.trail, params),),
            close=lambda: state,
            operands={"min_scale": min_scale},
        )

    return leafwise(step)
