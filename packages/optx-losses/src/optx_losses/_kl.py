"""Kullback and Leibler's divergence of predictions q from targets t, of which log q is given.

plain:     Σ t·(log t − log q)
convex:    Σ t·(log t − log q) − t + q

The second is at least 0 for any t and q at least 0, the first where both sum to the same; 0·log 0
is 0. What rounding would carry below zero is zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, as_floats, as_mask, axes_of, keep, same_shape
from optx_losses._rounding import not_negative


def kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence of predicted distributions from target distributions.

    Args:
      log_predictions: log q, shape [..., classes].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes count, boolean, of the same shape; the others add 0.

    Returns:
      The divergence of each example, of the shape without `axis`, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kl_divergence
      >>> kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0]))
      Array(0.6931472, dtype=float32)
    """
    name = "kl_divergence"
    log_q, t = as_floats(name, log_predictions=log_predictions, targets=targets)
    same_shape(name, log_predictions=log_q, targets=t)
    axes = axes_of(name, axis, t.ndim)
    log_q, t = keep(as_mask(name, where, t, "the targets"), log_q, t)
    return _sum_up(_plain(t, _log(t), log_q), t, axes)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike,
    log_targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The same divergence, with the logarithm of the targets given too.

    Args:
      log_predictions: log q, shape [..., classes].
      log_targets: log t, of the same shape; −inf for a target of 0.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes count, boolean, of the same shape; the others add 0.

    Returns:
      The divergence of each example, of the shape without `axis`, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kl_divergence_with_log_targets
      >>> log_q = jnp.log(jnp.array([0.5, 0.5]))
      >>> kl_divergence_with_log_targets(log_q, jnp.array([0.0, -jnp.inf]))
      Array(0.6931472, dtype=float32)
    """
    name = "kl_divergence_with_log_targets"
    log_q, log_t = as_floats(name, log_predictions=log_predictions, log_targets=log_targets)
    same_shape(name, log_predictions=log_q, log_targets=log_t)
    axes = axes_of(name, axis, log_t.ndim)
    mask = as_mask(name, where, log_t, "the targets")
    log_q = keep(mask, log_q)
    there = log_t > -jnp.inf
    if mask is not None:
        there = there & mask
    log_t = jnp.where(there, log_t, 0)
    t = jnp.where(there, jnp.exp(log_t), 0)
    return _sum_up(_plain(t, log_t, log_q), t, axes)


def convex_kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence with terms that make it convex and at least 0 off the distributions too.

    Args:
      log_predictions: log q, shape [..., classes].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: which classes count, boolean, of the same shape; the others add 0.

    Returns:
      Σ t·(log t − log q) − t + q of each example, of the shape without `axis`, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import convex_kl_divergence
      >>> convex_kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([0.5, 0.5]))
      Array(0., dtype=float32)
    """
    return _convex("convex_kl_divergence", log_predictions, targets, axis, where)


def generalized_kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence of positive measures, which need not sum to 1 (the I-divergence).

    The same as `convex_kl_divergence`, under the name it has in matrix factorization.

    Args:
      log_predictions: log q, shape [..., entries].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, to sum over; None for all.
      where: which entries count, boolean, of the same shape; the others add 0.

    Returns:
      Σ t·(log t − log q) − t + q of each example, of the shape without `axis`, float32 or wider.

    Raises:
      TypeError: if an argument is no array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import generalized_kl_divergence
      >>> generalized_kl_divergence(jnp.array([0.0, 0.0]), jnp.array([1.0, 0.0]))
      Array(1., dtype=float32)
    """
    return _convex("generalized_kl_divergence", log_predictions, targets, axis, where)


def _convex(
    name: str, log_predictions: ArrayLike, targets: ArrayLike, axis: Axis, where: ArrayLike | None
) -> jax.Array:
    log_q, t = as_floats(name, log_predictions=log_predictions, targets=targets)
    same_shape(name, log_predictions=log_q, targets=t)
    axes = axes_of(name, axis, t.ndim)
    mask = as_mask(name, where, t, "the targets")
    t, log_q = keep(mask, t), keep(mask, log_q, fill=-jnp.inf)  # exp(−inf) adds nothing
    terms = _plain(t, _log(t), log_q) - t + jnp.exp(log_q)
    return not_negative(jnp.sum(not_negative(terms, _noise(terms, t)), axis=axes))


def _log(t: jax.Array) -> jax.Array:
    """Log t; 0, with derivative 0, at 0."""
    zero = t == 0
    return jnp.where(zero, 0, jnp.log(jnp.where(zero, 1, t)))


def _plain(t: jax.Array, log_t: jax.Array, log_q: jax.Array) -> jax.Array:
    """t·(log t − log q), 0 where t is 0 and log q is −inf."""
    return t * (log_t - jnp.where((t == 0) & (log_q == -jnp.inf), 0, log_q))


def _noise(*parts: jax.Array) -> jax.Array:
    sizes = sum((jnp.abs(part) for part in parts), jnp.zeros_like(parts[0]))
    return lax.stop_gradient(8 * jnp.finfo(sizes.dtype).eps * sizes)


def _sum_up(terms: jax.Array, t: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    noise = jnp.sum(_noise(terms, t), axis=axes)
    return not_negative(jnp.sum(terms, axis=axes), noise)
