"""Hinge and perceptron losses, for two classes and for many.

hinge:       max(0, 1 − s·t), t = ±1;   many classes: max_c (s_c + [c ≠ y]) − s_y
perceptron:  max(0, −s·t);              many classes: max_c s_c − s_y

References: Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
Machines", 2001; Rosenblatt, "The Perceptron", 1958.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_floats, as_mask, keep, same_shape
from optx_losses._integer_labels import integer_inputs, label_rules


def hinge_loss(
    predictor_outputs: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The shortfall of the signed score from 1.

    Args:
          predictor_outputs: s, scores, of any shape.
          targets: t, −1 or 1, of the same shape.
          where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
          max(0, 1 − s·t), of the scores' shape, float32 or wider.

    Raises:
          TypeError: if an argument is no array of real numbers.
          ValueError: if the shapes differ.

    Example:
          >>> import jax.numpy as jnp
          >>> from optx_losses import hinge_loss
          >>> hinge_loss(jnp.array([0.5, 3.0]), jnp.array([-1, 1]))
          Array([1.5, 0. ], dtype=float32)
    """
    return _binary("hinge_loss", predictor_outputs, targets, where, 1.0)


def perceptron_loss(
    predictor_outputs: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The shortfall of the signed score from 0.

    Args:
          predictor_outputs: s, scores, of any shape.
          targets: t, −1 or 1, of the same shape.
          where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
          max(0, −s·t), of the scores' shape, float32 or wider.

    Raises:
          TypeError: if an argument is no array of real numbers.
          ValueError: if the shapes differ.

    Example:
          >>> import jax.numpy as jnp
          >>> from optx_losses import perceptron_loss
          >>> perceptron_loss(jnp.array([0.5, 3.0]), jnp.array([-1, 1]))
          Array([0.5, 0. ], dtype=float32)
    """
    return _binary("perceptron_loss", predictor_outputs, targets, where, 0.0)


def multiclass_hinge_loss(
    scores: ArrayLike, labels: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """By how much the right class fails to lead all others by 1.

    Args:
          scores: s, shape [..., classes]; −inf rules a class out.
          labels: y, integers in [0, classes), of the scores' shape without `axis`; others give NaN.
          axis: the axis of the classes; several are counted as one, the last fastest.
          where: which classes there are, boolean, of the scores' shape; the others are as if left out.

    Returns:
          The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
          TypeError: if the labels are no integers, or the scores no real numbers.
          ValueError: if the shapes do not fit.

    Example:
          >>> import jax.numpy as jnp
          >>> from optx_losses import multiclass_hinge_loss
          >>> multiclass_hinge_loss(jnp.array([1.0, 0.5, 0.0]), jnp.array(0))
          Array(0.5, dtype=float32)
    """
    return _multiclass("multiclass_hinge_loss", scores, labels, axis, where, 1.0)


def multiclass_perceptron_loss(
    scores: ArrayLike, labels: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """By how much the right class trails the leading one.

    Args:
          scores: s, shape [..., classes]; −inf rules a class out.
          labels: y, integers in [0, classes), of the scores' shape without `axis`; others give NaN.
          axis: the axis of the classes; several are counted as one, the last fastest.
          where: which classes there are, boolean, of the scores' shape; the others are as if left out.

    Returns:
          The loss of each example, of the labels' shape, float32 or wider, at least 0.

    Raises:
          TypeError: if the labels are no integers, or the scores no real numbers.
          ValueError: if the shapes do not fit.

    Example:
          >>> import jax.numpy as jnp
          >>> from optx_losses import multiclass_perceptron_loss
          >>> multiclass_perceptron_loss(jnp.array([1.0, 0.5, 0.0]), jnp.array(2))
          Array(1., dtype=float32)
    """
    return _multiclass("multiclass_perceptron_loss", scores, labels, axis, where, 0.0)


def _binary(
    name: str, outputs: ArrayLike, targets: ArrayLike, where: ArrayLike | None, margin: float
) -> jax.Array:
    s, t = as_floats(name, predictor_outputs=outputs, targets=targets)
    same_shape(name, predictor_outputs=s, targets=t)
    mask = as_mask(name, where, s, "the scores")
    s, t = keep(mask, s, t)
    return keep(mask, jnp.maximum(0, margin - s * t))


def _multiclass(
    name: str,
    scores: ArrayLike,
    labels: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    margin: float,
) -> jax.Array:
    s, y, mask, _ = integer_inputs(name, scores, labels, axis, where, 0.0, None)
    s = keep(mask, s, fill=-jnp.inf)
    known = (y >= 0) & (y < s.shape[-1])
    right = jnp.where(known, y, 0)[..., None]
    s_right = jnp.take_along_axis(s, right, axis=-1, mode="clip")
    others = lax.broadcasted_iota(right.dtype, s.shape, s.ndim - 1) != right
    lead = s + jnp.where(others, margin, 0).astype(s.dtype)
    loss = jnp.max(lead, axis=-1, initial=-jnp.inf) - s_right[..., 0]
    if mask is not None:
        loss = jnp.where(jnp.any(mask, axis=-1), loss, 0)
    return label_rules(loss, y, known, None)
