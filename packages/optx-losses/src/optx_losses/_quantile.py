"""The pinball loss, whose minimum is a quantile.

loss = q·e where e ≥ 0,   (q − 1)·e elsewhere;   e = t − p

where p is the prediction, t the target and q the quantile.

References: Koenker, Bassett, "Regression Quantiles", 1978.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import check_number
from optx_losses._squared import difference


def quantile_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    quantile: Scalar = 0.5,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The pinball loss, whose mean is minimized by the quantile of the targets.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape.
      quantile: q, in [0, 1]; 0.5 is half the absolute error.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the predictions' shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the quantile is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import quantile_loss
      >>> quantile_loss(jnp.array([0.0, 0.0]), jnp.array([1.0, -1.0]), 0.75)
      Array([0.75, 0.25], dtype=float32)
    """
    check_number("quantile_loss", low=0, high=1, quantile=quantile)
    over = difference("quantile_loss", predictions, targets, where)
    q = jnp.asarray(quantile, over.dtype)
    return jnp.where(over > 0, (1 - q) * over, 0 - q * over)
