"""Huber's loss (Huber, "Robust Estimation of a Location Parameter", 1964).

e = p − t;   e² / 2 where |e| ≤ delta,   delta·(|e| − delta / 2) elsewhere
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._squared import difference


def huber_loss(
    predictions: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    delta: Scalar = 1.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Half the squared error where it is small, linear where it is large.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      delta: the error at which the two meet, greater than 0, in the targets' unit.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each entry, of the predictions' shape, float32 or wider. Its derivative is the error
      clipped to [−delta, delta].

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or `delta` is not greater than 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import huber_loss
      >>> huber_loss(jnp.array([0.5, 3.0]), jnp.zeros(2))
      Array([0.125, 2.5  ], dtype=float32)
    """
    check_number("huber_loss", above=0, delta=delta)
    e, _ = difference("huber_loss", predictions, targets, where)
    delta = jnp.asarray(delta, e.dtype)
    size = jnp.abs(e)
    small = jnp.minimum(size, delta)
    return 0.5 * small**2 + delta * (size - small)
