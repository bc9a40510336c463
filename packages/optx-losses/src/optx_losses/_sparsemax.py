"""Losses whose probabilities can be exactly zero.

p = argmin ‖p − s‖² over distributions = max(s − τ, 0)
loss = ⟨p, s − s_y⟩ − ‖p‖² / 2 + 1/2,   dloss/ds = p − e_y

where s are the scores, y is the label, e_y its one-hot vector, and τ the threshold at which p sums to 1. Of
two classes, with z = −x for a positive label, z = x for a negative one, and x the score of the positive:

loss = 0 for z ≤ −1,   (z + 1)² / 4 for −1 < z < 1,   z for z ≥ 1

References: Martins, Astudillo, "From Softmax to Sparsemax", 2016, section 3; Blondel, Martins,
Niculae, "Learning with Fenchel-Young Losses", 2020.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, keep, matching
from optx_losses._integer_labels import integer_inputs
from optx_losses._layout import whole
from optx_losses._rounding import not_negative


def sparsemax_loss(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The sparsemax loss for two classes: 0 for scores beyond ±1 with the sign of the label.

    Args:
      logits: x, scores of the positive class, of any shape.
      labels: 0 or 1 (or booleans), of the same shape.
      where: boolean mask of the same shape; entries that are False give 0.

    Returns:
      The loss of each entry, of the logits' shape, at least float32, at least 0.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sparsemax_loss
      >>> sparsemax_loss(jnp.array([2.0, 0.0, -3.0]), jnp.array([1, 1, 1]))
      Array([0.  , 0.25, 3.  ], dtype=float32)
    """
    name = "sparsemax_loss"
    (x, y), mask, _ = matching(name, where, logits=logits, labels=labels)
    z = jnp.where(y != 0, -x, x)
    inner = jnp.clip(z, -1, 1)
    loss = jnp.where(z >= 1, z, 0.25 * (jnp.where(jnp.abs(z) < 1, z, inner) + 1) ** 2)
    return keep(mask, loss)


def multiclass_sparsemax_loss(
    scores: ArrayLike, labels: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """The sparsemax loss: 0 if the label leads all other classes by at least 1.

    Args:
      scores: s, shape [..., classes]; −inf excludes a class.
      labels: y, integers in [0, classes), of the scores' shape without `axis`; others give NaN.
      axis: the axis of the classes; several axes are flattened into one, the last given fastest.
      where: boolean mask of the scores' shape (size 1 along `axis`, or the labels' shape, selects examples);
        classes that are False are excluded.

    Returns:
      The loss of each example, of the labels' shape, at least float32, at least 0.

    Raises:
      TypeError: if the labels are not integers, or the scores not real numbers.
      ValueError: if the shapes do not match.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import multiclass_sparsemax_loss
      >>> multiclass_sparsemax_loss(jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 0]))
      Array([0.  , 0.25], dtype=float32)
    """
    name = "multiclass_sparsemax_loss"
    s, labelled = integer_inputs(name, scores, labels, axis, where)
    s = keep(labelled.mask, s, fill=-jnp.inf)
    top = lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True, initial=-jnp.inf))
    s = s - jnp.where(jnp.isfinite(top), top, 0)
    p, support = _sparsemax(s)
    s_label = labelled.at_label(s)[..., None]
    gap = jnp.where(support, s, 0) - jnp.where(support, s_label, 0)
    loss = jnp.sum(p * gap, axis=-1) + 0.5 - 0.5 * jnp.sum(p**2, axis=-1)
    return labelled.rules(not_negative(loss))


def _sparsemax(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The projection onto the simplex along the last axis, and a mask of its support."""
    held = lax.stop_gradient(s)
    ranked = -jnp.sort(-whole(held, s.ndim - 1), axis=-1)
    rank = jnp.arange(1, s.shape[-1] + 1).astype(s.dtype)
    rank = jnp.broadcast_to(rank, s.shape)
    present = ranked > -jnp.inf
    ranked = jnp.where(present, ranked, 0)
    inside = present & (1 + rank * ranked > jnp.cumsum(ranked, axis=-1))
    size = jnp.sum(inside, axis=-1, keepdims=True)
    last = jnp.maximum(size - 1, 0)
    total = jnp.take_along_axis(jnp.cumsum(ranked, axis=-1), last, axis=-1, mode="clip")
    count = jnp.maximum(size, 1).astype(s.dtype)
    support = ~(held <= (total - 1) / count)  # NaN is not excluded
    members = jnp.maximum(jnp.sum(support, axis=-1, keepdims=True), 1).astype(s.dtype)
    inner = jnp.where(support, s, 0)
    threshold = (jnp.sum(inner, axis=-1, keepdims=True) - 1) / members
    return jnp.where(support, inner - threshold, 0), support
