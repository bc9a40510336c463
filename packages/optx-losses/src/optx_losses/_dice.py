"""Overlap losses for segmentation.

I = Σ p·t,   P = Σ p,   T = Σ t
dice = 1 − (I + smooth) / (I + alpha·(P − I) + beta·(T − I) + smooth)

where p are the predicted probabilities and t the targets of the pixels of one class of one example. alpha
weights false positives, beta false negatives; 1/2 each gives Dice's coefficient, other values Tversky's
index, and a power of the loss the focal Tversky loss. Generalized: sums over the classes with weights 1 /
T².

References: Milletari et al., "V-Net", 2016 (Dice); Salehi et al., "Tversky loss function for image
segmentation", 2017; Abraham, Khan, "A Novel Focal Tversky Loss Function", 2019; Sudre et al., "Generalised
Dice overlap as a deep learning loss function", 2017.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import (
    Axis,
    as_array,
    as_floats,
    as_index,
    as_integers,
    as_mask,
    axes_of,
    check_number,
    class_weights_of,
    has_shape,
    keep,
    same_shape,
)
from optx_losses._integer_labels import equals
from optx_losses._log_softmax import log_softmax
from optx_losses._rounding import divide, not_negative, power


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
    ignore_index: int | None = None,
) -> jax.Array:
    """One minus the overlap of predicted and true segments, for each class.

    Args:
      predictions: logits, or probabilities if `apply_softmax` is False, shape
        [batch, ..., classes]. With a single class, the sigmoid replaces the softmax.
      targets: probabilities of the classes, at least 0, of the same shape; or integer labels in
        [0, classes), of that shape without the classes (with a single class: 0 or 1). Out-of-range
        labels give NaN for their example.
      class_weights: shape [classes]; None for ones.
      smooth: a constant added to the numerator and the denominator, at least 0.
      alpha: the weight of false positives, at least 0.
      beta: the weight of false negatives, at least 0.
      apply_softmax: whether the predictions are logits.
      reduction: the reduction over the classes, "mean", "sum" or "none".
      ignore_background: whether to exclude class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: boolean mask of the same shape (size 1 along an axis applies to all of it); pixels that are
        False add nothing.
      ignore_index: a label whose pixels are excluded, whatever they hold; needs integer labels.

    Returns:
      The loss of each example, shape [batch], or [batch, classes] with reduction "none"; at least
      float32, in [0, 1] with class weights of 1 and reduction "mean".

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import dice_loss
      >>> targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> dice_loss(targets, targets, apply_softmax=False)
      Array([0.], dtype=float32)
    """
    name = "dice_loss"
    segments = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where, ignore_index)
    p, t, axes, _ = segments
    check_number(name, low=0, alpha=alpha, beta=beta)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    loss = _overlap_loss(p, t, axes, smooth, alpha, beta)
    weights = class_weights_of(name, class_weights, p.shape[-1:], p.dtype)
    if weights is not None:
        loss = loss * jnp.broadcast_to(weights, loss.shape)
    if ignore_background and p.shape[-1] > 1:
        loss = loss[..., 1:]
    if reduction != "none":
        loss = jnp.mean(loss, axis=-1) if reduction == "mean" else jnp.sum(loss, axis=-1)
    return segments.rules(loss)


def binary_dice_loss(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    smooth: Scalar = 1.0,
    apply_sigmoid: bool = True,
    axis: Axis = None,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
) -> jax.Array:
    """One minus Dice's coefficient of a predicted and a true segment.

    Args:
      predictions: logits, or probabilities if `apply_sigmoid` is False, shape [batch, ...].
      targets: 0 or 1, of the same shape.
      smooth: a constant added to the numerator and the denominator, at least 0.
      apply_sigmoid: whether the predictions are logits.
      axis: the axes of the pixels; by default all but the first.
      where: boolean mask of the same shape (size 1 along an axis applies to all of it); pixels that are
        False add nothing.
      ignore_index: a target whose pixels are excluded (such as 255), whatever they hold.

    Returns:
      The loss of each example, shape [batch], at least float32, in [0, 1].

    Raises:
      TypeError: if an argument is not an array of real numbers.
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
    axes = axes_of(name, range(min(1, p.ndim), p.ndim) if axis is None else axis, p.ndim)
    mask = as_mask(name, where, p, "the predictions", axes)
    index = as_index(name, ignore_index)
    if index is not None:
        included = t != index
        mask = included if mask is None else mask & included
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
    ignore_index: int | None = None,
) -> jax.Array:
    """One minus the overlap over all classes, weighted by 1 / T² in favour of rare ones.

    One value per example, as for all losses here; optax's function returns the mean of these values.

    Args:
      predictions: logits, or probabilities if `apply_softmax` is False, shape
        [batch, ..., classes].
      targets: probabilities of the classes, at least 0, of the same shape; or integer labels in
        [0, classes), of that shape without the classes (with a single class: 0 or 1). Out-of-range
        labels give NaN for their example.
      smooth: a constant added to the numerator and the denominator, at least 0.
      apply_softmax: whether the predictions are logits.
      ignore_background: whether to exclude class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: boolean mask of the same shape (size 1 along an axis applies to all of it); pixels that are
        False add nothing.
      ignore_index: a label whose pixels are excluded, whatever they hold; needs integer labels.

    Returns:
      1 − (2·Σ w·I + smooth) / (Σ w·(P + T) + smooth) of each example with w = 1 / T² (0 for a class
      that does not occur), shape [batch], at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or `smooth` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import multiclass_generalized_dice_loss
      >>> targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
      >>> multiclass_generalized_dice_loss(targets, targets, apply_softmax=False)
      Array([0.], dtype=float32)
    """
    name = "multiclass_generalized_dice_loss"
    segments = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where, ignore_index)
    p, t, axes, _ = segments
    both, ps, ts = jnp.sum(p * t, axis=axes), jnp.sum(p, axis=axes), jnp.sum(t, axis=axes)
    if ignore_background and p.shape[-1] > 1:
        both, ps, ts = both[..., 1:], ps[..., 1:], ts[..., 1:]
    present = ts > 0
    w = jnp.where(present, 1 / jnp.where(present, ts, 1) ** 2, 0)
    plus = jnp.asarray(smooth, p.dtype)
    above = 2 * jnp.sum(w * both, axis=-1) + plus
    below = jnp.sum(w * (ps + ts), axis=-1) + plus
    return segments.rules(not_negative(1 - divide(above, below), 1e-5))


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
    ignore_index: int | None = None,
) -> jax.Array:
    """One minus Tversky's index, to a power, averaged over the classes.

    Args:
      predictions: logits, or probabilities if `apply_softmax` is False, shape
        [batch, ..., classes]. With a single class, the sigmoid replaces the softmax.
      targets: probabilities of the classes, at least 0, of the same shape; or integer labels in
        [0, classes), of that shape without the classes (with a single class: 0 or 1). Out-of-range
        labels give NaN for their example.
      alpha: the weight of false positives, at least 0.
      beta: the weight of false negatives, at least 0.
      gamma: the exponent of the loss of each class, greater than 0; 3/4 is the focal Tversky loss.
      smooth: a constant added to the numerator and the denominator, at least 0.
      apply_softmax: whether the predictions are logits.
      ignore_background: whether to exclude class 0.
      axis: the axes of the pixels; by default all but the first and the last.
      where: boolean mask of the same shape (size 1 along an axis applies to all of it); pixels that are
        False add nothing.
      ignore_index: a label whose pixels are excluded, whatever they hold; needs integer labels.

    Returns:
      The loss of each example, shape [batch], at least float32, in [0, 1].

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes do not match, or a number is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import tversky_loss
      >>> p, t = jnp.array([[[1.0], [0.0]]]), jnp.array([[[1.0], [1.0]]])
      >>> tversky_loss(p, t, apply_softmax=False, smooth=0.0).round(4)
      Array([0.4118], dtype=float32)
    """
    name = "tversky_loss"
    segments = _inputs(name, predictions, targets, smooth, apply_softmax, axis, where, ignore_index)
    p, t, axes, _ = segments
    check_number(name, low=0, alpha=alpha, beta=beta)
    check_number(name, above=0, gamma=gamma)
    loss = power(_overlap_loss(p, t, axes, smooth, alpha, beta), gamma)
    if ignore_background and p.shape[-1] > 1:
        loss = loss[..., 1:]
    return segments.rules(jnp.mean(loss, axis=-1))


class _Segments(NamedTuple):
    """Predicted and true segments, 0 where a pixel is excluded.

    Attributes:
      p: probabilities.
      t: targets.
      axes: the axes of the pixels.
      invalid: boolean, which pixels have an out-of-range label; None for targets that are probabilities.
    """

    p: jax.Array
    t: jax.Array
    axes: tuple[int, ...]
    invalid: jax.Array | None

    def rules(self, loss: jax.Array) -> jax.Array:
        """The loss, NaN for examples with out-of-range labels."""
        if self.invalid is None:
            return loss
        invalid = jnp.any(self.invalid, axis=self.axes)
        if loss.ndim < invalid.ndim:  # reduced over the classes
            invalid = invalid[..., 0]
        return loss * jnp.where(invalid, jnp.nan, 1).astype(loss.dtype)


def _inputs(
    name: str,
    predictions: Any,
    targets: Any,
    smooth: Any,
    apply_softmax: bool,
    axis: Axis,
    where: Any,
    ignore_index: Any,
) -> _Segments:
    check_number(name, low=0, smooth=smooth)
    (x,) = as_floats(name, predictions=predictions)
    if x.ndim < 2:
        raise ValueError(f"{name}: predictions is {x.shape}; it must be [batch, ..., classes]")
    classes = x.ndim - 1
    axes = tuple(range(1, classes)) if axis is None else axes_of(name, axis, x.ndim)
    if classes in axes:
        raise ValueError(f"{name}: axis={axis} includes the axis of the classes, the last")
    mask = as_mask(name, where, x, "the predictions", (*axes, classes))
    t, ignored, invalid = _targets(name, x, targets, ignore_index)
    if ignored is not None:
        mask = ~ignored if mask is None else mask & ~ignored
    x, t = keep(mask, x, t)
    if apply_softmax and x.shape[-1] == 1:
        x = jax.nn.sigmoid(x)
    elif apply_softmax:
        x = jnp.exp(log_softmax(x, (classes,), mask))
    if invalid is not None and mask is not None:
        invalid = invalid & jnp.any(mask, axis=-1, keepdims=True)
    return _Segments(keep(mask, x), t, axes, invalid)


def _targets(
    name: str, x: jax.Array, targets: Any, ignore_index: Any
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """Targets as probabilities, which pixels are ignored, and which have an out-of-range label."""
    index = as_index(name, ignore_index)
    t = as_array(name, "targets", targets)
    if t.ndim != x.ndim - 1 or not jnp.issubdtype(t.dtype, jnp.integer):
        t, x = as_floats(name, targets=targets, predictions=x)
        same_shape(name, predictions=x, targets=t)
        if index is not None:
            raise ValueError(
                f"{name}: ignore_index needs integer targets of shape {x.shape[:-1]}, without the "
                "classes; with probabilities as targets use where"
            )
        return t, None, None
    y = as_integers(name, "targets", targets)
    has_shape(name, "targets", y, x.shape[:-1], f"the predictions are {x.shape}")
    y = y[..., None]
    ignored = None if index is None else jnp.broadcast_to(equals(y, index), x.shape)
    if x.shape[-1] == 1:  # a single class: labels 0 and 1
        t, invalid = y == 1, (y < 0) | (y > 1)
    else:
        t = y == lax.broadcasted_iota(y.dtype, x.shape, x.ndim - 1)
        invalid = (y < 0) | (y >= x.shape[-1])
    return t.astype(x.dtype), ignored, invalid


def _overlap_loss(
    p: jax.Array, t: jax.Array, axes: tuple[int, ...], smooth: Any, alpha: Any, beta: Any
) -> jax.Array:
    both = jnp.sum(p * t, axis=axes)
    missed = jnp.asarray(alpha, p.dtype) * (jnp.sum(p, axis=axes) - both)
    missed = missed + jnp.asarray(beta, p.dtype) * (jnp.sum(t, axis=axes) - both)
    whole = both + missed + jnp.asarray(smooth, p.dtype)
    return not_negative(divide(missed, whole), 1e-5)
