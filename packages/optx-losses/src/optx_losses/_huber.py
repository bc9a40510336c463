"""Huber's loss: quadratic for small errors, linear for large ones.

loss = e² / 2 where |e| ≤ delta,   delta·(|e| − delta / 2) elsewhere;   e = p − t

where p is the prediction and t the target.

References: Huber, "Robust Estimation of a Location Parameter", 1964.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import check_number
from optx_losses._squared import difference


def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    delta: Scalar = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Half the squared error for small errors, linear for large ones.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      delta: the error at which the two pieces meet, greater than 0, in the unit of the targets;
        infinite for half the squared error everywhere.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the predictions' shape, at least float32. Its derivative is the error
      clipped to [−delta, delta].

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or `delta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import huber_loss
      >>> huber_loss(jnp.array([0.5, 3.0]), jnp.zeros(2))
      Array([0.125, 2.5  ], dtype=float32)
    """
    check_number("huber_loss", above=0, finite=False, delta=delta)
    e = difference("huber_loss", predictions, targets, where)
    delta = jnp.asarray(delta, e.dtype)
    size = jnp.abs(e)
    near = size <= delta
    slope = jnp.where(delta < jnp.inf, delta, 0)  # an infinite delta leaves the squared error
    return jnp.where(near, 0.5 * jnp.where(near, e, 0) ** 2, slope * (size - 0.5 * slope))
