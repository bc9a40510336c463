"""Hinge and perceptron losses for two classes and for several.

hinge_loss = max(0, 1 − s·t),   multiclass_hinge_loss = max_c (s_c + [c ≠ y]) − s_y
perceptron_loss = max(0, −s·t),   multiclass_perceptron_loss = max_c s_c − s_y

where s is the score and t the label, 1 or −1; of several classes, s_c is the score of class c and y the
label.

References: Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector
Machines", 2001; Rosenblatt, "The Perceptron", 1958.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, keep, matching
from optx_losses._integer_labels import integer_inputs
from optx_losses._layout import is_label


def hinge_loss(
    predictor_outputs: ArrayLike, targets: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The shortfall of the signed score from 1.

    Args:
      predictor_outputs: s, scores, of any shape.
      targets: t, −1 or 1, of the same shape.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      max(0, 1 − s·t), of the scores' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
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
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      max(0, −s·t), of the scores' shape, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
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
    """The shortfall of the label's lead over all other classes from 1.

    Args:
      scores: s, shape [..., classes]; −inf excludes a class.
      labels: y, integers in [0, classes), of the scores' shape without `axis`; others give NaN.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the scores' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the scores are not real numbers.
      ValueError: if the shapes do not match.

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
    """The lead of the highest score over that of the label.

    Args:
      scores: s, shape [..., classes]; −inf excludes a class.
      labels: y, integers in [0, classes), of the scores' shape without `axis`; others give NaN.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the scores' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the scores are not real numbers.
      ValueError: if the shapes do not match.

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
    (s, t), mask, _ = matching(name, where, predictor_outputs=outputs, targets=targets)
    return keep(mask, jnp.maximum(0, margin - s * t))


def _multiclass(
    name: str,
    scores: ArrayLike,
    labels: ArrayLike,
    axis: Axis,
    where: ArrayLike | None,
    margin: float,
) -> jax.Array:
    s, labelled = integer_inputs(name, scores, labels, axis, where)
    s = keep(labelled.mask, s, fill=-jnp.inf)
    leads = s + jnp.where(is_label(s, labelled.y), 0, margin).astype(s.dtype)
    return labelled.rules(jnp.max(leads, axis=-1, initial=-jnp.inf) - labelled.at_label(s))
