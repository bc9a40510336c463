"""Losses whose probabilities can be exactly zero.

p = argmin ‖p − s‖² over distributions = max(s − τ, 0)
loss = ⟨p, s − s_y⟩ − ‖p‖² / 2 + 1/2,   dloss/ds = p − e_y

Two classes: with z = −x for a positive label and x for a negative one,
loss = 0 for z ≤ −1, (z + 1)² / 4 between, z for z ≥ 1.

References: Martins, Astudillo, "From Softmax to Sparsemax", 2016, section 3; Blondel, Martins,
Niculae, "Learning with Fenchel-Young Losses", 2020.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_floats, as_mask, keep, same_shape
from optx_losses._integer_labels import integer_inputs, label_rules
from optx_losses._rounding import not_negative


def sparsemax_loss(
    logits: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """The sparsemax loss of two classes: 0 once the score is beyond ±1 on the right side.

    Args:
      logits: x, scores of the positive class, of any shape.
      labels: 0 or 1 (or booleans), of the same shape.
      where: which entries count, boolean, of the same shape; the others give 0.

    Returns:
      The loss of each entry, of the logits' shape, float32 or wider, at least 0.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import sparsemax_loss
      >>> sparsemax_loss(jnp.array([2.0, 0.0, -3.0]), jnp.array([1, 1, 1]))
      Array([0.  , 0.25, 3.  ], dtype=float32)
    """
    name = "sparsemax_loss"
    x, y = as_floats(name, logits=logits, labels=labels)
    same_shape(name, logits=x, labels=y)
    mask = as_mask(name, where, x, "the logits")
    x = keep(mask, x)
    z = jnp.where(y != 0, -x, x)
    inner = jnp.clip(z, -1, 1)
    loss = jnp.where(z >= 1, z, 0.25 * (jnp.where(jnp.abs(z) < 1, z, inner) + 1) ** 2)
    return keep(mask, loss)


def multiclass_sparsemax_loss(
    scores: ArrayLike, labels: ArrayLike, *, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    """The sparsemax loss: 0 once the right class leads all others by 1.

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
      >>> from optx_losses import multiclass_sparsemax_loss
      >>> multiclass_sparsemax_loss(jnp.array([[2.0, 0.0], [0.0, 0.0]]), jnp.array([0, 0]))
      Array([0.  , 0.25], dtype=float32)
    """
    name = "multiclass_sparsemax_loss"
    s, y, mask, _ = integer_inputs(name, scores, labels, axis, where, 0.0, None)
    s = keep(mask, s, fill=-jnp.inf)
    top = lax.stop_gradient(jnp.max(s, axis=-1, keepdims=True, initial=-jnp.inf))
    s = s - jnp.where(jnp.isfinite(top), top, 0)
    p, support = _sparsemax(s)
    known = (y >= 0) & (y < s.shape[-1])
    right = jnp.where(known, y, 0)[..., None]
    s_right = jnp.take_along_axis(s, right, axis=-1, mode="clip")
    gap = jnp.where(support, s, 0) - jnp.where(support, s_right, 0)
    loss = jnp.sum(p * gap, axis=-1) + 0.5 - 0.5 * jnp.sum(p**2, axis=-1)
    if mask is not None:
        loss = jnp.where(jnp.any(mask, axis=-1), loss, 0)
    return label_rules(not_negative(loss), y, known, None)


def _sparsemax(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The projection on the distributions, along the last axis, and where it is not 0."""
    held = lax.stop_gradient(s)
    ranked = -jnp.sort(-held, axis=-1)
    rank = jnp.arange(1, s.shape[-1] + 1).astype(s.dtype)
    rank = jnp.broadcast_to(rank, s.shape)
    there = ranked > -jnp.inf
    ranked = jnp.where(there, ranked, 0)
    inside = there & (1 + rank * ranked > jnp.cumsum(ranked, axis=-1))
    size = jnp.sum(inside, axis=-1, keepdims=True)
    last = jnp.maximum(size - 1, 0)
    total = jnp.take_along_axis(jnp.cumsum(ranked, axis=-1), last, axis=-1, mode="clip")
    count = jnp.maximum(size, 1).astype(s.dtype)
    support = held > (total - 1) / count
    members = jnp.maximum(jnp.sum(support, axis=-1, keepdims=True), 1).astype(s.dtype)
    inner = jnp.where(support, s, 0)
    threshold = (jnp.sum(inner, axis=-1, keepdims=True) - 1) / members
    return jnp.where(support, inner - threshold, 0), support
