"""Label smoothing of distributions.

smoothed = (1 − alpha)·y + alpha / K

where y is the label's distribution over K classes.

References: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016, section 7.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, matching


def smooth_labels(
    labels: ArrayLike, alpha: Scalar, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """Spreads a share of each label evenly over all classes.

    Integer labels need no distribution: pass `label_smoothing` to
    `softmax_cross_entropy_with_integer_labels` or `linear_softmax_cross_entropy`.

    Args:
      labels: y, probabilities of the classes, shape [..., classes].
      alpha: the share to spread, in [0, 1].
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False get 0.

    Returns:
      The smoothed labels, of the labels' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if alpha or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import smooth_labels
      >>> smooth_labels(jnp.array([0.0, 1.0]), 0.5)
      Array([0.25, 0.75], dtype=float32)
    """
    name = "smooth_labels"
    check_number(name, low=0, high=1, alpha=alpha)
    (y,), mask, axes = matching(name, where, axis, labels=labels)
    share = jnp.asarray(alpha, y.dtype)
    ones = jnp.ones_like(y) if mask is None else mask.astype(y.dtype)
    count = jnp.maximum(jnp.sum(ones, axis=axes, keepdims=True), 1)
    smoothed = (1 - share) * y + share / count
    return smoothed if mask is None else jnp.where(mask, smoothed, 0)
