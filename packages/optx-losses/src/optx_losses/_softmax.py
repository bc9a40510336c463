"""Cross entropy of a softmax with a distribution over the classes.

loss = −Σ_c y_c·log p_c,   p = softmax(x)

where x are the logits, y the label's distribution, and c runs over the classes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, class_weights_of, matching
from optx_losses._log_softmax import log_softmax, times_log


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    class_weights: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy of each example, with labels that are distributions.

    A logit of −inf excludes a class: it gets no probability and no gradient. The loss is finite unless
    the labels assign probability to that class.

    Args:
      logits: x, unnormalized log-probabilities, shape [..., classes].
      labels: y, probabilities of the classes, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape, or of size 1 along `axis`, or without `axis`, to select examples;
        classes that are False are excluded, and examples without any class give 0.
      class_weights: w, shape [classes]: the loss is −Σ_c w_c·y_c·log p_c. None for ones.

    Returns:
      The loss of each example, of the logits' shape without `axis`, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_cross_entropy
      >>> logits = jnp.array([[0.0, 0.0, -jnp.inf]])
      >>> softmax_cross_entropy(logits, jnp.array([[0.5, 0.5, 0.0]]))
      Array([0.6931472], dtype=float32)
    """
    return _cross_entropy("softmax_cross_entropy", logits, labels, axis, where, class_weights)


def safe_softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    class_weights: ArrayLike | None = None,
) -> jax.Array:
    """An alias of `softmax_cross_entropy`, which is safe at logits of −inf as well.

    Args:
      logits: x, unnormalized log-probabilities, shape [..., classes].
      labels: y, probabilities of the classes, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape, or of size 1 along `axis`, or without `axis`, to select examples;
        classes that are False are excluded, and examples without any class give 0.
      class_weights: w, shape [classes]: the loss is −Σ_c w_c·y_c·log p_c. None for ones.

    Returns:
      The loss of each example, of the logits' shape without `axis`, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import safe_softmax_cross_entropy
      >>> safe_softmax_cross_entropy(jnp.array([0.0, -jnp.inf]), jnp.array([1.0, 0.0]))
      Array(0., dtype=float32)
    """
    return _cross_entropy("safe_softmax_cross_entropy", logits, labels, axis, where, class_weights)


def _cross_entropy(
    name: str,
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    class_weights: ArrayLike | None,
) -> jax.Array:
    (x, y), mask, axes = matching(name, where, axis, of_examples=True, logits=logits, labels=labels)
    sizes = tuple(x.shape[i] for i in axes)
    weights = class_weights_of(name, class_weights, (math.prod(sizes),), x.dtype)
    if weights is not None:
        weights = jnp.transpose(
            weights.reshape(sizes), sorted(range(len(axes)), key=axes.__getitem__)
        )
        others = [i for i in range(x.ndim) if i not in axes]
        y = y * jnp.broadcast_to(jnp.expand_dims(weights, others), y.shape)
    return 0 - jnp.sum(times_log(y, log_softmax(x, axes, mask)), axis=axes)
