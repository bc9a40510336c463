"""Squared errors.

squared_error = (p − t)²,   l2_loss = (p − t)² / 2

where p is the prediction and t the target.
"""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from optx_losses._inputs import matching


def squared_error(
    predictions: ArrayLike, targets: ArrayLike | None = None, *, where: ArrayLike | None = None
) -> jax.Array:
    """The squared difference of each prediction from its target.

    Its mean is the mean squared error.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      (p − t)², of the predictions' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import squared_error
      >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
      Array([0., 4.], dtype=float32)
    """
    return difference("squared_error", predictions, targets, where) ** 2


def l2_loss(
    predictions: ArrayLike, targets: ArrayLike | None = None, *, where: ArrayLike | None = None
) -> jax.Array:
    """Half the squared difference of each prediction from its target.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      (p − t)² / 2, of the predictions' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import l2_loss
      >>> l2_loss(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
      Array([0., 2.], dtype=float32)
    """
    return 0.5 * difference("l2_loss", predictions, targets, where) ** 2


def difference(
    name: str, predictions: ArrayLike, targets: ArrayLike | None, where: ArrayLike | None
) -> jax.Array:
    """p − t, 0 where masked."""
    if targets is None:
        return matching(name, where, predictions=predictions)[0][0]
    (p, t), _, _ = matching(name, where, predictions=predictions, targets=targets)
    return p - t
