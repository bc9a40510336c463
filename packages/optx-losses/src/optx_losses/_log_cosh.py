"""The logarithm of the hyperbolic cosine of the error.

log_cosh = log cosh e,   e = p − t

where p is the prediction and t the target. It is computed as log1p(2·sinh²(e / 2)) near 0, where it is
about e² / 2, and as |e| − log 2 + log1p(exp(−2·|e|)) elsewhere.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._squared import difference


def log_cosh(
    predictions: ArrayLike, targets: ArrayLike | None = None, *, where: ArrayLike | None = None
) -> jax.Array:
    """A smooth interpolation between half the squared error and the absolute error.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      log cosh(p − t), of the predictions' shape, at least float32; accurate near 0 too.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import log_cosh
      >>> [round(float(x), 3) for x in log_cosh(jnp.array([0.0, 1.0, 10.0]))]
      [0.0, 0.434, 9.307]
    """
    e = difference("log_cosh", predictions, targets, where)
    near = jnp.abs(e) < 1
    small = jnp.where(near, e, 0)
    size = jnp.abs(jnp.where(near, 1, e))
    far = size - math.log(2) + jnp.log1p(jnp.exp(-2 * size))
    return jnp.where(near, jnp.log1p(2 * jnp.sinh(small / 2) ** 2), far)
