"""Margin losses on cosines: the label must win by an angle, or by a difference of cosines.

loss = −log softmax(scale·s)_y,   s_c = cos θ_c for c ≠ y
arcface:   s_y = cos(θ_y + margin);  beyond π − margin   s_y = cos θ_y − margin·sin margin
cosface:   s_y = cos θ_y − margin

where θ_c is the angle between the embedding and the weights of class c, and y is the label. The second case
of ArcFace stands in where the first would increase again.

References: Deng et al., "ArcFace", 2019, equation 3; Wang et al., "CosFace", 2018, equation 4.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, keep
from optx_losses._integer_labels import integer_inputs
from optx_losses._layout import is_label
from optx_losses._log_softmax import centred


def arcface_loss(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    margin: float = 0.5,
    scale: Scalar = 64.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Cross entropy of cosines with a margin added to the angle of the label.

    Args:
      cosines: cos θ between the features of each example and the weights of each class, in [−1, 1],
        shape [..., classes].
      labels: integers in [0, classes), of the cosines' shape without `axis`; others give NaN.
      margin: in radians, in [0, π / 2].
      scale: the factor of the cosines, greater than 0.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the cosines' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.
      ignore_index: a label whose examples give 0 and no gradient, whatever they hold.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the cosines not real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import arcface_loss
      >>> arcface_loss(jnp.array([[1.0, 0.0]]), jnp.array([0]), scale=1.0).round(4)
      Array([0.3477], dtype=float32)
    """
    name = "arcface_loss"
    check_number(name, low=0, high=math.pi / 2, margin=margin)

    def widen(c: jax.Array) -> jax.Array:
        square = 1 - c**2
        inside = square > 0
        sine = jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1)), 0)
        turned = c * math.cos(margin) - sine * math.sin(margin)
        return jnp.where(c > -math.cos(margin), turned, c - margin * math.sin(margin))

    return _with_margin(name, widen, cosines, labels, scale, axis, where, ignore_index)


def cosface_loss(
    cosines: ArrayLike,
    labels: ArrayLike,
    *,
    margin: Scalar = 0.35,
    scale: Scalar = 64.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """Cross entropy of cosines with a margin subtracted from the cosine of the label.

    Args:
      cosines: cos θ between the features of each example and the weights of each class, in [−1, 1],
        shape [..., classes].
      labels: integers in [0, classes), of the cosines' shape without `axis`; others give NaN.
      margin: at least 0.
      scale: the factor of the cosines, greater than 0.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the cosines' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.
      ignore_index: a label whose examples give 0 and no gradient, whatever they hold.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the cosines not real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import cosface_loss
      >>> cosface_loss(jnp.array([[1.0, 0.65]]), jnp.array([0]), scale=1.0).round(4)
      Array([0.6931], dtype=float32)
    """
    name = "cosface_loss"
    check_number(name, low=0, margin=margin)

    def lower(c: jax.Array) -> jax.Array:
        return c - jnp.asarray(margin, c.dtype)

    return _with_margin(name, lower, cosines, labels, scale, axis, where, ignore_index)


def _with_margin(
    name: str,
    change: Any,
    cosines: ArrayLike,
    labels: ArrayLike,
    scale: Scalar,
    axis: Axis,
    where: ArrayLike | None,
    ignore_index: int | None,
) -> jax.Array:
    check_number(name, above=0, scale=scale)
    c, labelled = integer_inputs(name, cosines, labels, axis, where, ignore_index)
    c = keep(labelled.mask, c)  # masked cosines may be NaN
    logits = jnp.where(is_label(c, labelled.y), change(c), c) * jnp.asarray(scale, c.dtype)
    x, log_sum, _ = centred(logits, (c.ndim - 1,), labelled.mask)
    return labelled.rules(log_sum[..., 0] - labelled.at_label(x))
