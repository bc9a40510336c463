"""Focal losses (Lin et al., "Focal Loss for Dense Object Detection", 2017, equations 4 and 5).

loss = weight·(1 − p)^gamma·(−log p),   p the probability of what is right
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, as_floats, as_mask, keep, same_shape
from optx_losses._integer_labels import integer_inputs, label_rules
from optx_losses._log_softmax import centred
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
    """Binary cross entropy in which easy entries count for less.

    Args:
      logits: the log odds of the positive class, of any shape.
      labels: the share of the positive class, in [0, 1], of the same shape.
      alpha: the weight of the positive class, in [0, 1], the negative's being 1 − alpha; None for
        weights of 1.
      gamma: how fast easy entries fade, at least 0; 0 is the plain cross entropy.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each entry, of the logits' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sigmoid_focal_loss
      >>> sigmoid_focal_loss(jnp.array([0.0, 10.0]), jnp.array([1.0, 1.0])).round(4)
      Array([0.1733, 0.    ], dtype=float32)
    """
    name = "sigmoid_focal_loss"
    check_number(name, low=0, gamma=gamma)
    check_number(name, low=0, high=1, alpha=alpha)
    x, y = as_floats(name, logits=logits, labels=labels)
    same_shape(name, logits=x, labels=y)
    mask = as_mask(name, where, x, "the logits")
    x, y = keep(mask, x, y)
    wrong = jax.nn.sigmoid(-x) * y + jax.nn.sigmoid(x) * (1 - y)
    loss = power(wrong, gamma) * binary_cross_entropy(x, y)
    if alpha is not None:
        share = jnp.asarray(alpha, x.dtype)
        loss = loss * (share * y + (1 - share) * (1 - y))
    return keep(mask, loss)


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
    """Cross entropy with integer labels in which easy examples count for less.

    Args:
      logits: unnormalized log probabilities, shape [..., classes].
      labels: integers in [0, classes), of the logits' shape without `axis`; others give NaN.
      gamma: how fast easy examples fade, at least 0; 0 is the plain cross entropy.
      class_weights: of shape [classes]; ones by default.
      ignore_index: a label that gives 0 and no gradient.
      axis: the axis of the classes; several are counted as one, the last fastest.
      where: which classes there are, boolean, of the logits' shape; the others are as if left out.

    Returns:
      The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if the labels are no integers, or the logits no real numbers.
      ValueError: if the shapes do not fit, or `gamma` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_focal_loss
      >>> softmax_focal_loss(jnp.zeros((1, 2)), jnp.array([1]))
      Array([0.1732868], dtype=float32)
    """
    name = "softmax_focal_loss"
    check_number(name, low=0, gamma=gamma)
    x, y, mask, weights = integer_inputs(name, logits, labels, axis, where, 0.0, class_weights)
    x, log_sum, _ = centred(x, (x.ndim - 1,), mask)
    known = (y >= 0) & (y < x.shape[-1])
    right = jnp.where(known, y, 0)
    log_p = jnp.take_along_axis(x, right[..., None], axis=-1, mode="clip")[..., 0] - log_sum[..., 0]
    loss = power(-jnp.expm1(log_p), gamma) * -log_p
    if weights is not None:
        loss = loss * jnp.take(weights, right, mode="clip")
    return label_rules(loss, y, known, ignore_index)
