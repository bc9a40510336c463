"""Cross entropy of a softmax with a distribution over classes: −Σ_c y_c·log p_c, p = softmax(x)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_floats, as_mask, axes_of, keep, same_shape
from optx_losses._log_softmax import log_softmax, times_log


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """Cross entropy of each example, with labels that are distributions.

    A logit of −inf rules a class out: it takes no probability and no gradient. The loss is finite
    unless the labels give that class a share.

    Args:
      logits: x, unnormalized log probabilities, shape [..., classes].
      labels: y, shares of the classes, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes there are, boolean, of the same shape; the others are as if left out.

    Returns:
      The loss of each example, of the logits' shape without `axis`, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_cross_entropy
      >>> logits = jnp.array([[0.0, 0.0, -jnp.inf]])
      >>> softmax_cross_entropy(logits, jnp.array([[0.5, 0.5, 0.0]]))
      Array([0.6931472], dtype=float32)
    """
    return _cross_entropy("softmax_cross_entropy", logits, labels, axis, where)


def safe_softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """The same as `softmax_cross_entropy`, which is as safe at logits of −inf.

    Args:
      logits: x, unnormalized log probabilities, shape [..., classes].
      labels: y, shares of the classes, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes there are, boolean, of the same shape; the others are as if left out.

    Returns:
      The loss of each example, of the logits' shape without `axis`, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import safe_softmax_cross_entropy
      >>> safe_softmax_cross_entropy(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, 0.0]))
      Array(0., dtype=float32)
    """
    return _cross_entropy("safe_softmax_cross_entropy", logits, labels, axis, where)


def _cross_entropy(
    name: str, logits: ArrayLike, labels: ArrayLike, axis: Axis, where: ArrayLike | None
) -> jax.Array:
    x, y = as_floats(name, logits=logits, labels=labels)
    same_shape(name, logits=x, labels=y)
    axes = axes_of(name, axis, x.ndim)
    mask = as_mask(name, where, x, "the logits")
    return 0 - jnp.sum(times_log(keep(mask, y), log_softmax(x, axes, mask)), axis=axes)
