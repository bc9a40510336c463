"""Overlap losses for segmentation.

I = Σ p·t,   P = Σ p,   T = Σ t   over the pixels of one class of one example

dice = 1 − (I + smooth) / (I + alpha·(P − I) + beta·(T − I) + smooth)

alpha weighs false positives, beta false negatives; 1/2 each is Dice's coefficient (Milletari et
al., "V-Net", 2016), others Tversky's index (Salehi et al., 2017), a power of it the focal Tversky
loss (Abraham, Khan, 2019). Generalized: sums over classes with weights 1 / T² (Sudre et al., 2017).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_core.build import check_number
from optx_losses._inputs import Axis, as_floats, as_mask, axes_of, has_shape, keep, same_shape
from optx_losses._log_softmax import log_softmax
from optx_losses._rounding import not_negative, power


def dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    class_weights: ArrayLike | None = None,
    smooth: Scalar = 1.0,
    alpha: Scalar = 0.5,
    beta: Scalar = 0.5,
    apply_softmax: bool = True,
    reduction: str = "mean",
    ignore_background: bool = False,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus the overlap of predicted and true segments, class by class.

    Args:
      predictions: logits, or probabilities where `apply_softmax` is False, shape
        [batch, ..., classes]. One class: the sigmoid takes the softmax's place.
      targets: shares of the classes, at least 0, of the same shape.
      class_weights: of shape [classes]; ones by default.
      smooth: added to numerator and denominator, at least 0.
      alpha: the weight of false positives, at least 0.
      beta: the weight of false negatives, at least 0.
      apply_softmax: whether the predictions are logits.
      reduction: over the classes: "mean", "sum" or "none".
      ignore_background: whether to leave out class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: which pixels count, boolean, of the same shape; the others add nothing.

    Returns:
      The loss of each example, shape [batch], or [batch, classes] with reduction "none"; float32 or
      wider, in [0, 1] with class weights of 1 and reduction "mean".

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dice_loss
      >>> targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> dice_loss(targets, targets, apply_softmax=False)
      Array([0.], dtype=float32)
    """
    name = "dice_loss"
    p, t, axes = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where)
    check_number(name, low=0, alpha=alpha, beta=beta)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    loss = _overlap_loss(p, t, axes, smooth, alpha, beta)
    if class_weights is not None:
        (weights,) = as_floats(name, class_weights=class_weights)
        has_shape(name, "class_weights", weights, p.shape[-1:], "one for each class")
        loss = loss * jnp.broadcast_to(weights.astype(p.dtype), loss.shape)
    if ignore_background and p.shape[-1] > 1:
        loss = loss[..., 1:]
    if reduction == "none":
        return loss
    return jnp.mean(loss, axis=-1) if reduction == "mean" else jnp.sum(loss, axis=-1)


def binary_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: Scalar = 1.0,
    apply_sigmoid: bool = True,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus Dice's coefficient of a predicted and a true segment.

    Args:
      predictions: logits, or probabilities where `apply_sigmoid` is False, shape [batch, ...].
      targets: 0 or 1, of the same shape.
      smooth: added to numerator and denominator, at least 0.
      apply_sigmoid: whether the predictions are logits.
      axis: the axes of the pixels; by default all but the first.
      where: which pixels count, boolean, of the same shape; the others add nothing.

    Returns:
      The loss of each example, shape [batch], float32 or wider, in [0, 1].

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or `smooth` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import binary_dice_loss
      >>> binary_dice_loss(jnp.array([[1.0, 0.0]]), jnp.array([[1, 1]]), apply_sigmoid=False)
      Array([0.2], dtype=float32)
    """
    name = "binary_dice_loss"
    check_number(name, low=0, smooth=smooth)
    p, t = as_floats(name, predictions=predictions, targets=targets)
    same_shape(name, predictions=p, targets=t)
    axes = tuple(range(min(1, p.ndim), p.ndim)) if axis is None else axes_of(name, axis, p.ndim)
    mask = as_mask(name, where, p, "the predictions")
    p, t = keep(mask, p, t)
    p = keep(mask, jax.nn.sigmoid(p) if apply_sigmoid else p)
    return _overlap_loss(p, t, axes, smooth, 0.5, 0.5)


def multiclass_generalized_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: Scalar = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus the overlap over all classes, rare ones weighted up by 1 / T².

    Args:
      predictions: logits, or probabilities where `apply_softmax` is False, shape
        [batch, ..., classes].
      targets: shares of the classes, at least 0, of the same shape.
      smooth: added to numerator and denominator, at least 0.
      apply_softmax: whether the predictions are logits.
      ignore_background: whether to leave out class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: which pixels count, boolean, of the same shape; the others add nothing.

    Returns:
      1 − (2·Σ w·I + smooth) / (Σ w·(P + T) + smooth) of each example with w = 1 / T² (0 for a class
      that the example lacks), shape [batch], float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes do not fit, or `smooth` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import multiclass_generalized_dice_loss
      >>> targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> multiclass_generalized_dice_loss(targets, targets, apply_softmax=False)
      Array([0.], dtype=float32)
    """
    name = "multiclass_generalized_dice_loss"
    p, t, axes = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where)
    both, ps, ts = jnp.sum(p * t, axis=axes), jnp.sum(p, axis=axes), jnp.sum(t, axis=axes)
    if ignore_background and p.shape[-1] > 1:
        both, ps, ts = both[..., 1:], ps[..., 1:], ts[..., 1:]
    there = ts > 0
    w = jnp.where(there, 1 / jnp.where(there, ts, 1) ** 2, 0)
    plus = jnp.asarray(smooth, p.dtype)
    above = 2 * jnp.sum(w * both, axis=-1) + plus
    below = jnp.sum(w * (ps + ts), axis=-1) + plus
    return not_negative(1 - _divide(above, below), 1e-5)


def tversky_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    alpha: Scalar = 0.3,
    beta: Scalar = 0.7,
    gamma: Scalar = 1.0,
    smooth: Scalar = 1.0,
    apply_softmax: bool = True,
    ignore_background: bool = False,
    axis: Axis = None,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus Tversky's index, the mean over classes, each to a power.

    Args:
      predictions: logits, or probabilities where `apply_softmax` is False, shape
        [batch, ..., classes]. One class: the sigmoid takes the softmax's place.
      targets: shares of the classes, at least 0, of the same shape.
      alpha: the weight of false positives, at least 0.
      beta: the weight of false negatives, at least 0.
      gamma: the power of each class's loss, greater than 0; 3/4 is the focal Tversky loss.
      smooth: added to numerator and denominator, at least 0.
      apply_softmax: whether the predictions are logits.
      ignore_background: whether to leave out class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: which pixels count, boolean, of the same shape; the others add nothing.

    Returns:
      The loss of each example, shape [batch], float32 or wider, in [0, 1].

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes do not fit, or a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import tversky_loss
      >>> p, t = jnp.array([[[1.0], [0.0]]]), jnp.array([[[1.0], [1.0]]])
      >>> tversky_loss(p, t, apply_softmax=False, smooth=0.0).round(4)
      Array([0.4118], dtype=float32)
    """
    name = "tversky_loss"
    p, t, axes = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where)
    check_number(name, low=0, alpha=alpha, beta=beta)
    check_number(name, above=0, gamma=gamma)
    loss = power(_overlap_loss(p, t, axes, smooth, alpha, beta), gamma)
    if ignore_background and p.shape[-1] > 1:
        loss = loss[..., 1:]
    return jnp.mean(loss, axis=-1)


def _inputs(
    name: str,
    predictions: Any,
    targets: Any,
    smooth: Any,
    apply_softmax: bool,
    axis: Axis,
    where: Any,
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    check_number(name, low=0, smooth=smooth)
    p, t = as_floats(name, predictions=predictions, targets=targets)
    same_shape(name, predictions=p, targets=t)
    if p.ndim < 2:
        raise ValueError(f"{name}: predictions is {p.shape}; it must be [batch, ..., classes]")
    axes = tuple(range(1, p.ndim - 1)) if axis is None else axes_of(name, axis, p.ndim)
    if p.ndim - 1 in axes:
        raise ValueError(f"{name}: axis={axis} names the classes' axis, which is the last")
    mask = as_mask(name, where, p, "the predictions")
    if apply_softmax:
        last = (p.ndim - 1,)
        binary = p.shape[-1] == 1
        p = jax.nn.sigmoid(keep(mask, p)) if binary else jnp.exp(log_softmax(p, last, mask))
    p, t = keep(mask, p, t)
    return p, t, axes


def _overlap_loss(
    p: jax.Array, t: jax.Array, axes: tuple[int, ...], smooth: Any, alpha: Any, beta: Any
) -> jax.Array:
    both = jnp.sum(p * t, axis=axes)
    missed = jnp.asarray(alpha, p.dtype) * (jnp.sum(p, axis=axes) - both)
    missed = missed + jnp.asarray(beta, p.dtype) * (jnp.sum(t, axis=axes) - both)
    whole = both + missed + jnp.asarray(smooth, p.dtype)
    return not_negative(_divide(missed, whole), 1e-5)


def _divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """A / b, 0 where b is."""
    zero = b == 0
    return jnp.where(zero, 0, a / jnp.where(zero, 1, b))
