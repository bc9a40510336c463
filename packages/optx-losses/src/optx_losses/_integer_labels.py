"""Cross entropy of a softmax with the number of the right class.

log p = x − log Σ exp(x),   nll = −w_y·log p_y,   smooth = −(1 / K)·Σ_c w_c·log p_c

loss = (1 − label_smoothing)·nll + label_smoothing·smooth + z_loss·(log Σ exp(x))²

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture", 2016, section 7. z-loss:
Chowdhery et al., "PaLM", 2022, section 5.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import (
    Axis,
    as_floats,
    as_integers,
    as_mask,
    axes_of,
    class_last,
    has_shape,
    keep,
    without,
)
from optx_losses._log_softmax import centred

_HINT = "; for shares of classes use softmax_cross_entropy"


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    *,
    label_smoothing: Scalar = 0.0,
    ignore_index: int | None = None,
    class_weights: ArrayLike | None = None,
    z_loss: Scalar = 0.0,
) -> jax.Array:
    """Cross entropy of each example, with labels that are numbers of classes.

    A logit of −inf rules a class out: it takes no probability, no gradient and no share of the
    smoothing. A label that is the number of no class gives NaN, in the value and in the gradient of
    its example: neither a negative number nor one too large silently means some class.

    Args:
      logits: x, unnormalized log probabilities, shape [..., classes].
      labels: y, integers in [0, classes), of the logits' shape without `axis`.
      axis: the axis of the classes; several are counted as one, the last fastest.
      where: which classes there are, boolean, of the logits' shape; the others are as if left out. An
        example with no class at all gives 0.
      label_smoothing: the share of the label that goes to all classes alike, in [0, 1].
      ignore_index: a label that gives 0 and no gradient (−100, say), whether or not in range.
      class_weights: w, of shape [classes]; ones by default.
      z_loss: how much of the squared log-normalizer to add, at least 0 (1e-4, say).

    Returns:
      The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if the labels are no integers, or the logits no real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import softmax_cross_entropy_with_integer_labels
      >>> logits = jnp.zeros((3, 4))
      >>> softmax_cross_entropy_with_integer_labels(logits, jnp.array([0, 3, -1]), ignore_index=-1)
      Array([1.3862944, 1.3862944, 0.       ], dtype=float32)
    """
    name = "softmax_cross_entropy_with_integer_labels"
    x, y, mask, weights = integer_inputs(
        name, logits, labels, axis, where, label_smoothing, class_weights
    )
    check_number(name, low=0, z_loss=z_loss)
    x, log_sum, m = centred(x, (x.ndim - 1,), mask)
    known = (y >= 0) & (y < x.shape[-1])
    right = jnp.where(known, y, 0)
    if x.shape[-1]:
        x_right = jnp.take_along_axis(x, right[..., None], axis=-1, mode="promise_in_bounds")[
            ..., 0
        ]
    else:
        x_right = jnp.zeros(y.shape, x.dtype)
    log_sum, m = log_sum[..., 0], m[..., 0]
    if mask is not None:  # an example with no class at all
        empty = ~jnp.any(mask, axis=-1)
        x_right = jnp.where(empty, 0, x_right)
    loss = log_sum - x_right
    if weights is not None:
        loss = loss * jnp.take(weights, right, mode="clip")
    if not _is_zero(label_smoothing):
        share = jnp.asarray(label_smoothing, x.dtype)
        loss = (1 - share) * loss + share * _smooth(x, log_sum, weights)
    if not _is_zero(z_loss):
        loss = loss + jnp.asarray(z_loss, x.dtype) * (log_sum + m) ** 2
    return label_rules(loss, y, known, ignore_index)


def label_rules(
    loss: jax.Array, y: jax.Array, known: jax.Array, ignore_index: int | None
) -> jax.Array:
    """NaN for labels of no class, 0 for those to ignore."""
    if ignore_index is not None:
        ignored = y == ignore_index
        loss = jnp.where(ignored, 0, loss)
        known = known | ignored  # a gradient of 0 times NaN would be NaN
    return loss * jnp.where(known, 1, jnp.nan).astype(loss.dtype)


def integer_inputs(
    name: str,
    logits: Any,
    labels: Any,
    axis: Axis,
    where: Any,
    label_smoothing: Any,
    class_weights: Any,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Logits with the classes last, labels, mask and weights."""
    check_number(name, low=0, high=1, label_smoothing=label_smoothing)
    (x,) = as_floats(name, logits=logits)
    axes = axes_of(name, axis, x.ndim)
    y = as_integers(name, "labels", labels, _HINT)
    has_shape(name, "labels", y, without(x.shape, axes), f"the logits are {x.shape}")
    mask = as_mask(name, where, x, "the logits")
    x = class_last(x, axes)
    if mask is not None:
        mask = class_last(mask, axes)
    weights = None
    if class_weights is not None:
        (weights,) = as_floats(name, class_weights=class_weights)
        has_shape(name, "class_weights", weights, x.shape[-1:], "one for each class")
        weights = weights.astype(x.dtype)
    return x, y, mask, weights


def _smooth(x: jax.Array, log_sum: jax.Array, weights: jax.Array | None) -> jax.Array:
    there = x != -jnp.inf
    count = jnp.maximum(jnp.sum(there, axis=-1), 1).astype(x.dtype)
    x = keep(there, x)
    if weights is None:
        return log_sum - jnp.sum(x, axis=-1) / count
    weights = jnp.broadcast_to(weights, x.shape)
    total = jnp.sum(jnp.where(there, weights, 0), axis=-1)
    return (log_sum * total - jnp.sum(x * weights, axis=-1)) / count


def _is_zero(x: Any) -> bool:
    return isinstance(x, int | float) and x == 0
