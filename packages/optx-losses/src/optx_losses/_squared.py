"""Squared errors: (p − t)², and half of it."""

from __future__ import annotations

import jax
from jax.typing import ArrayLike

from optx_losses._inputs import as_floats, as_mask, keep, same_shape


def squared_error(
    predictions: ArrayLike, targets: ArrayLike | None = None, *, where: ArrayLike | None = None
) -> jax.Array:
    """The squared difference of each prediction from its target.

    The mean of it is the mean squared error.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      (p − t)², of the predictions' shape, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import squared_error
      >>> squared_error(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
      Array([0., 4.], dtype=float32)
    """
    return _difference("squared_error", predictions, targets, where) ** 2


def l2_loss(
    predictions: ArrayLike, targets: ArrayLike | None = None, *, where: ArrayLike | None = None
) -> jax.Array:
    """Half the squared difference of each prediction from its target.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape; None for zeros.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      (p − t)² / 2, of the predictions' shape, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import l2_loss
      >>> l2_loss(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0]))
      Array([0., 2.], dtype=float32)
    """
    return 0.5 * _difference("l2_loss", predictions, targets, where) ** 2


def _difference(
    name: str, predictions: ArrayLike, targets: ArrayLike | None, where: ArrayLike | None
) -> jax.Array:
    return difference(name, predictions, targets, where)[0]


def difference(
    name: str, predictions: ArrayLike, targets: ArrayLike | None, where: ArrayLike | None
) -> tuple[jax.Array, jax.Array | None]:
    """P − t, 0 where masked, and the mask."""
    if targets is None:
        (p,) = as_floats(name, predictions=predictions)
        mask = as_mask(name, where, p, "the predictions")
        return keep(mask, p), mask
    p, t = as_floats(name, predictions=predictions, targets=targets)
    same_shape(name, predictions=p, targets=t)
    mask = as_mask(name, where, p, "the predictions")
    p, t = keep(mask, p, t)
    return p - t, mask
