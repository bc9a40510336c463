"""Focal losses: cross entropies that weigh examples by how uncertain they still are.

loss = weight·(1 − p)^gamma·(−log p)

where p is the probability of the label. The power is taken of logarithms, exp(gamma·log(1 − p)): its
derivatives are finite for any gamma.

References: Lin et al., "Focal Loss for Dense Object Detection", 2017, equations 4 and 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    Axis,
    check_number,
    check_number_or_none,
    class_weights_of,
    keep,
    matching,
)
from optx_losses._integer_labels import integer_inputs
from optx_losses._layout import of_label
from optx_losses._log_softmax import centred, times_infinite
from optx_losses._rounding import power
from optx_losses._sigmoid import binary_cross_entropy


def sigmoid_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: Scalar | None = None,
    gamma: Scalar = 2.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Binary cross entropy with a lower weight on easy entries.

    Args:
      logits: x, the log odds of the positive class, of any shape.
      labels: y, the probability of the positive class, in [0, 1], of the same shape.
      alpha: the weight of the positive class, in [0, 1]; that of the negative class is 1 − alpha. None
        for weights of 1.
      gamma: the focusing exponent, at least 0; 0 is the plain cross entropy.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the logits' shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sigmoid_focal_loss
      >>> sigmoid_focal_loss(jnp.array([0.0, 10.0]), jnp.array([1.0, 1.0])).round(4)
      Array([0.1733, 0.    ], dtype=float32)
    """
    name = "sigmoid_focal_loss"
    check_number(name, low=0, gamma=gamma)
    check_number_or_none(name, low=0, high=1, alpha=alpha)
    (x, y), mask, _ = matching(name, where, logits=logits, labels=labels)
    focus = jnp.exp(jnp.asarray(gamma, x.dtype) * _log_miss(x, y))
    loss = focus * binary_cross_entropy(x, y)
    if alpha is not None:
        share = jnp.asarray(alpha, x.dtype)
        loss = loss * (share * y + (1 - share) * (1 - y))
    return keep(mask, loss)


def _log_miss(x: jax.Array, y: jax.Array) -> jax.Array:
    """log(σ(−x)·y + σ(x)·(1 − y)), the logarithm of the probability of the other class."""
    # Relative to the larger of the terms whose weight is not 0. Their weights may be anything in [0, 1].
    if_positive = 0 - binary_cross_entropy(x, jnp.zeros_like(x))  # log σ(−x)
    if_negative = 0 - binary_cross_entropy(x, jnp.ones_like(x))  # log σ(x)
    low = jnp.finfo(x.dtype).min
    top = lax.stop_gradient(
        jnp.maximum(jnp.where(y == 0, low, if_positive), jnp.where(y == 1, low, if_negative))
    )
    scaled = y * jnp.exp(jnp.minimum(if_positive - top, 1))
    scaled = scaled + (1 - y) * jnp.exp(jnp.minimum(if_negative - top, 1))
    return top + jnp.log(scaled)


def softmax_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: Scalar = 2.0,
    class_weights: ArrayLike | None = None,
    ignore_index: int | None = None,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross entropy with integer labels, with a lower weight on easy examples.

    Args:
      logits: unnormalized log-probabilities, shape [..., classes].
      labels: integers in [0, classes), of the logits' shape without `axis`; others give NaN.
      gamma: the focusing exponent, at least 0; 0 is the plain cross entropy.
      class_weights: shape [classes]; None for ones.
      ignore_index: a label whose examples give 0 and no gradient, whatever their logits.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the logits' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the logits not real numbers.
      ValueError: if the shapes do not match, or `gamma` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_focal_loss
      >>> softmax_focal_loss(jnp.zeros((1, 2)), jnp.array([1]))
      Array([0.1732868], dtype=float32)
    """
    name = "softmax_focal_loss"
    check_number(name, low=0, gamma=gamma)
    x, labelled = integer_inputs(name, logits, labels, axis, where, ignore_index)
    weights = class_weights_of(name, class_weights, x.shape[-1:], x.dtype)
    x, log_sum, _ = centred(x, (x.ndim - 1,), labelled.mask)
    nll = log_sum[..., 0] - labelled.at_label(x)
    possible = nll < jnp.inf
    loss = power(-jnp.expm1(-keep(possible, nll)), gamma) * keep(possible, nll)
    loss = jnp.where(possible, loss, nll)  # inf: NaN would be its derivative
    if weights is not None:
        loss = times_infinite(of_label(weights, labelled.y), loss)
    return labelled.rules(loss)
