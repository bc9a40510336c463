"""The Lovász extension of the Jaccard loss.

loss = Σ_i m_i·(J_i − J_{i−1}),   m_1 ≥ m_2 ≥ …
J_i = 1 − (T − Σ_{j≤i} t_j) / (T + Σ_{j≤i} (1 − t_j)),   T = Σ t,   J_0 = 0

where m are the errors of the pixels, sorted in descending order, and t their labels, 0 or 1, in the same
order, and i and j count pixels. The error is max(0, 1 − logit) of a positive pixel and max(0, 1 + logit) of
a negative one in `lovasz_hinge_loss`, and |t − probability| in `lovasz_softmax_loss`.

Reference: Berman, Triki, Blaschko, "The Lovász-Softmax loss", 2018, equations 8, 9 and 12.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import (
    as_floats,
    as_index,
    as_integers,
    as_mask,
    axes_of,
    class_last,
    has_shape,
    keep,
    matching,
)
from optx_losses._integer_labels import equals
from optx_losses._log_softmax import log_softmax


def lovasz_hinge_loss(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """A convex surrogate of one minus the intersection over union for binary segmentation.

    Args:
      logits: scores of the foreground, shape [batch, ...].
      labels: 0 or 1, of the same shape.
      where: boolean mask of the same shape; pixels that are False are excluded.

    Returns:
      The loss of each example, shape [batch], at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or there is no batch axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import lovasz_hinge_loss
      >>> lovasz_hinge_loss(jnp.array([[2.0, -2.0], [0.0, 0.0]]), jnp.array([[1, 0], [1, 0]]))
      Array([0., 1.], dtype=float32)
    """
    name = "lovasz_hinge_loss"
    (x, t), mask, _ = matching(name, where, logits=logits, labels=labels)
    if not x.ndim:
        raise ValueError(f"{name}: logits is {x.shape}; it must be [batch, ...]")
    margins = keep(mask, jnp.maximum(0, 1 - x * (2 * t - 1)))
    flat = (x.shape[0], _size(x.shape[1:]))
    return _extension(margins.reshape(flat), t.reshape(flat))


def lovasz_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    ignore_index: int | None = None,
    apply_softmax: bool = True,
) -> jax.Array:
    """A surrogate of one minus the mean intersection over union for segmentation.

    Args:
      logits: scores of the classes, or probabilities if `apply_softmax` is False, shape
        [batch, ..., classes].
      labels: integers in [0, classes), shape [batch, ...]; others give NaN for their example.
      axis: the axis of the classes; not 0, the axis of the batch.
      where: boolean mask of the labels' shape; pixels that are False are excluded, whatever they hold.
      ignore_index: a label whose pixels are excluded, whatever they hold.
      apply_softmax: whether the logits are scores, not probabilities.

    Returns:
      The mean over the classes that occur in an example, shape [batch], at least float32, in [0, 1]; 0 for
      an example without labelled pixels.

    Raises:
      TypeError: if the labels are not integers, or the logits not real numbers.
      ValueError: if the shapes do not match.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import lovasz_softmax_loss
      >>> p = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
      >>> lovasz_softmax_loss(p, jnp.array([[0, 1]]), apply_softmax=False)
      Array([0.75], dtype=float32)
    """
    name = "lovasz_softmax_loss"
    (x,) = as_floats(name, logits=logits)
    y = as_integers(name, "labels", labels)
    if x.ndim < 2:
        raise ValueError(f"{name}: logits is {x.shape}; it must be [batch, ..., classes]")
    axes = axes_of(name, axis, x.ndim)
    if len(axes) > 1 or axes[0] == 0:
        raise ValueError(
            f"{name}: axis={axis} must be a single axis other than 0, that of the batch"
        )
    x = class_last(x, axes)
    has_shape(name, "labels", y, x.shape[:-1], f"the logits are {x.shape}")
    mask = as_mask(name, where, y, "the labels")
    index = as_index(name, ignore_index)
    included = jnp.ones(y.shape, bool) if mask is None else mask
    if index is not None:
        included = included & ~equals(y, index)
    x = keep(included[..., None], x)
    p = jnp.exp(log_softmax(x, (x.ndim - 1,))) if apply_softmax else x
    classes = x.shape[-1]
    p = p.reshape(x.shape[0], _size(x.shape[1:-1]), classes)
    y = y.reshape(x.shape[0], _size(x.shape[1:-1]))
    included = included.reshape(y.shape)
    invalid = jnp.any(included & ((y < 0) | (y >= classes)), axis=-1)
    t = (y[..., None] == jnp.arange(classes).astype(y.dtype)[None, None, :]) & included[..., None]
    errors = jnp.where(included[..., None], jnp.abs(t.astype(p.dtype) - p), 0)
    loss = _extension(jnp.swapaxes(errors, 1, 2), jnp.swapaxes(t, 1, 2).astype(p.dtype))
    present = jnp.any(t, axis=1)
    count = jnp.maximum(jnp.sum(present, axis=-1), 1).astype(p.dtype)
    mean = jnp.sum(jnp.where(present, loss, 0), axis=-1) / count
    return mean * jnp.where(invalid, jnp.nan, 1).astype(mean.dtype)


def _extension(errors: jax.Array, t: jax.Array) -> jax.Array:
    """The extension, evaluated at non-negative errors along the last axis."""
    order = jnp.argsort(-lax.stop_gradient(errors), axis=-1)
    errors = jnp.take_along_axis(errors, order, axis=-1)
    t = jnp.take_along_axis(t, order, axis=-1)
    total = jnp.sum(t, axis=-1, keepdims=True)
    meet = total - jnp.cumsum(t, axis=-1)
    join = total + jnp.cumsum(1 - t, axis=-1)
    jaccard = 1 - meet / jnp.maximum(join, 1)
    steps = jnp.diff(jaccard, axis=-1, prepend=jnp.zeros_like(total))
    return jnp.sum(errors * steps, axis=-1)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
