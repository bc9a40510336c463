"""Margins for cosines: the right class must win by an angle, or by a difference.

ArcFace: cos(θ_y + margin) in place of cos θ_y (Deng et al., "ArcFace", 2019, equation 3); beyond
         π − margin, where that would turn back up, cos θ_y − margin·sin margin.
CosFace: cos θ_y − margin (Wang et al., "CosFace", 2018, equation 4).
Then the softmax cross entropy of scale·cos.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, keep
from optx_losses._integer_labels import (
    integer_inputs,
    softmax_cross_entropy_with_integer_labels,
)


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
    """Cross entropy of cosines, the right class's angle taken larger by a margin.

    Args:
      cosines: cos θ of each example's features with each class's weights, both of norm 1, in [−1, 1],
        shape [..., classes].
      labels: integers in [0, classes), of the cosines' shape without `axis`; others give NaN.
      margin: in radians, in [0, π / 2].
      scale: what the cosines are multiplied by, greater than 0.
      axis: the axis of the classes; several are counted as one, the last fastest.
      where: which classes there are, boolean, of the cosines' shape; the others are as if left out.
      ignore_index: a label that gives 0 and no gradient.

    Returns:
      The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if the labels are no integers, or the cosines no real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

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
    """Cross entropy of cosines, the right class's cosine taken smaller by a margin.

    Args:
      cosines: cos θ of each example's features with each class's weights, both of norm 1, in [−1, 1],
        shape [..., classes].
      labels: integers in [0, classes), of the cosines' shape without `axis`; others give NaN.
      margin: at least 0.
      scale: what the cosines are multiplied by, greater than 0.
      axis: the axis of the classes; several are counted as one, the last fastest.
      where: which classes there are, boolean, of the cosines' shape; the others are as if left out.
      ignore_index: a label that gives 0 and no gradient.

    Returns:
      The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if the labels are no integers, or the cosines no real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

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
    c, y, mask, _ = integer_inputs(name, cosines, labels, axis, where, 0.0, None)
    c = keep(mask, c)  # the angle of what is left out may be no number
    right = lax.broadcasted_iota(y.dtype, c.shape, c.ndim - 1) == y[..., None]
    logits = jnp.where(right, change(c), c) * jnp.asarray(scale, c.dtype)
    return softmax_cross_entropy_with_integer_labels(
        logits, y, where=mask, ignore_index=ignore_index
    )
