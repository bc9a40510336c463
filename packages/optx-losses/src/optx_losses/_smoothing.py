"""Label smoothing of distributions: (1 − alpha)·y + alpha / K (Szegedy et al., 2016, section 7)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, as_floats, as_mask, axes_of


def smooth_labels(
    labels: ArrayLike, alpha: Scalar, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """Moves a share of each label to all classes alike.

    For integer labels no distribution is needed: `softmax_cross_entropy_with_integer_labels` and
    `linear_softmax_cross_entropy` take `label_smoothing`.

    Args:
      labels: y, shares of the classes, shape [..., classes].
      alpha: the share to move, in [0, 1].
      axis: the axis, or axes, of the classes; None for all.
      where: which classes there are, boolean, of the same shape; the others get 0.

    Returns:
      The smoothed labels, of the labels' shape, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if alpha or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import smooth_labels
      >>> smooth_labels(jnp.array([0.0, 1.0]), 0.5)
      Array([0.25, 0.75], dtype=float32)
    """
    name = "smooth_labels"
    check_number(name, low=0, high=1, alpha=alpha)
    (y,) = as_floats(name, labels=labels)
    axes = axes_of(name, axis, y.ndim)
    mask = as_mask(name, where, y, "the labels")
    share = jnp.asarray(alpha, y.dtype)
    ones = jnp.ones_like(y) if mask is None else mask.astype(y.dtype)
    count = jnp.maximum(jnp.sum(ones, axis=axes, keepdims=True), 1)
    smoothed = (1 - share) * y + share / count
    return smoothed if mask is None else jnp.where(mask, smoothed, 0)
