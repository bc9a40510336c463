"""Gradient centralization: u = g − mean(g), the mean over all axes but the last.

Reference: Yong, Huang, Hua, Zhang, "Gradient Centralization: A New Optimization Technique for Deep
Neural Networks", 2020, equation 1. The last axis holds the outputs, as in Flax.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optx_core import build


@build.rule()
def centralize(g: jax.Array, /) -> jax.Array:
    """Subtracts from each array of two or more axes its mean over all axes but the last.

    Returns:
      A transformation with an `EmptyState`. Vectors and scalars pass unchanged.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import centralize
      >>> centralize().update(jnp.array([[1.0], [3.0]]), centralize().init(None))[0]
      Array([[-1.],
             [ 1.]], dtype=float32)
    """
    if g.ndim < 2 or not g.size:
        return g
    return g - jnp.mean(g, axis=tuple(range(g.ndim - 1)), keepdims=True)
