"""The Kullback-Leibler divergence of targets t from predictions q, given as log q.

KL(t, q) = Σ t·(log t − log q)
convex:   KL(t, q) = Σ (t·(log t − log q) − t + q)

The second is non-negative for any non-negative t and q, the first if both have the same sum. 0·log 0 is 0.
Values that rounding would make negative are 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_losses._inputs import Axis, keep, matching
from optx_losses._rounding import not_negative


def kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence of target distributions from predicted distributions.

    Args:
      log_predictions: log q, shape [..., classes].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False add 0.

    Returns:
      The divergence of each example, of the shape without `axis`, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kl_divergence
      >>> kl_divergence(jnp.log(jnp.array([0.5, 0.5])), jnp.array([1.0, 0.0]))
      Array(0.6931472, dtype=float32)
    """
    name = "kl_divergence"
    (log_q, t), _, axes = matching(
        name, where, axis, log_predictions=log_predictions, targets=targets
    )
    return _sum_up(_plain(t, _log(t), log_q), t, axes)


def kl_divergence_with_log_targets(
    log_predictions: ArrayLike,
    log_targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence of target distributions given by their logarithms.

    Args:
      log_predictions: log q, shape [..., classes].
      log_targets: log t, of the same shape; −inf for a target of 0.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False add 0.

    Returns:
      The divergence of each example, of the shape without `axis`, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import kl_divergence_with_log_targets
      >>> log_q = jnp.log(jnp.array([0.5, 0.5]))
      >>> kl_divergence_with_log_targets(log_q, jnp.array([0.0, -jnp.inf]))
      Array(0.6931472, dtype=float32)
    """
    name = "kl_divergence_with_log_targets"
    (log_q, log_t), mask, axes = matching(
        name, where, axis, log_predictions=log_predictions, log_targets=log_targets
    )
    present = log_t != -jnp.inf
    if mask is not None:
        present = present & mask
    log_t = jnp.where(present, log_t, 0)
    t = jnp.where(present, jnp.exp(log_t), 0)
    return _sum_up(_plain(t, log_t, log_q), t, axes)


def convex_kl_divergence(
    log_predictions: ArrayLike,
    targets: ArrayLike,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The divergence with terms that make it convex and non-negative for unnormalized arguments too.

    Args:
      log_predictions: log q, shape [..., classes].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, of the classes; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); classes that are
        False add 0.

    Returns:
      Σ t·(log t − log q) − t + q of each example, of the shape without `axis`, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
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

    An alias of `convex_kl_divergence`, under its name in matrix factorization.

    Args:
      log_predictions: log q, shape [..., entries].
      targets: t, at least 0, of the same shape.
      axis: the axis, or axes, to sum over; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); entries that are
        False add 0.

    Returns:
      Σ t·(log t − log q) − t + q of each example, of the shape without `axis`, at least float32.

    Raises:
      TypeError: if an argument is not an array of real numbers.
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
    (log_q, t), mask, axes = matching(
        name, where, axis, log_predictions=log_predictions, targets=targets
    )
    log_q = keep(mask, log_q, fill=-jnp.inf)  # exp(−inf) adds nothing
    terms = _plain(t, _log(t), log_q) - t + jnp.exp(log_q)
    return not_negative(jnp.sum(not_negative(terms, _noise(terms, t)), axis=axes))


def _log(t: jax.Array) -> jax.Array:
    """log t; 0, with derivative 0, at t = 0."""
    zero = t == 0
    return jnp.where(zero, 0, jnp.log(jnp.where(zero, 1, t)))


def _plain(t: jax.Array, log_t: jax.Array, log_q: jax.Array) -> jax.Array:
    """t·(log t − log q), and 0 where t is 0 and log q is −inf."""
    return t * (log_t - jnp.where((t == 0) & (log_q == -jnp.inf), 0, log_q))


def _noise(*parts: jax.Array) -> jax.Array:
    sizes = sum((jnp.abs(part) for part in parts), jnp.zeros_like(parts[0]))
    return lax.stop_gradient(8 * jnp.finfo(sizes.dtype).eps * sizes)


def _sum_up(terms: jax.Array, t: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    noise = jnp.sum(_noise(terms, t), axis=axes)
    return not_negative(jnp.sum(terms, axis=axes), noise)
