"""Gradient centralization: u = g − mean(g), the mean over all axes but the last.

Reference: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep
Neural Networks", 2020, equation 1. The last axis holds the outputs, as in Flax.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optx_core._engine.leafwise import LeafStep
from optx_core._engine.staged import leafwise
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import GradientTransformationExtraArgs


def _leaf(g: jax.Array) -> jax.Array:
    if g.ndim < 2 or not g.size:
        return g
    return g - jnp.mean(g, axis=tuple(range(g.ndim - 1)), keepdims=True)


@recorded
def centralize() -> GradientTransformationExtraArgs:
    """Subtracts from each matrix (and above) its mean over all axes but the last.

    Returns:
      A transformation with an `EmptyState`. Vectors and scalars pass unchanged.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import centralize
      >>> centralize().update(jnp.array([[1.0], [3.0]]), centralize().init(None))[0]
      Array([[-1.],
             [ 1.]], dtype=float32)
    """
    return leafwise(lambda flow, state, params, **_: LeafStep(_leaf))
