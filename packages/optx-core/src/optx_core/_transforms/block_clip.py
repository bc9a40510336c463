"""Clipping of each array separately.

clip_by_block_rms:   u = g / max(1, rms(g) / threshold)
adaptive_grad_clip:  u = g · min(1, clipping · max(‖p‖, eps) / ‖g‖), unit by unit

Entries whose squares have no finite sum count as the largest whose squares have one. Infinite entries stay.

References: Shazeer, Stern, "Adafactor", 2018, section 6; Brock, De, Smith, Simonyan, "High-Performance
Large-Scale Image Recognition Without Normalization", 2021, equation 3.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar, build, safe_norm
from optx_core._training.per_device import laid_out_as


@build.rule()
def clip_by_block_rms(g: jax.Array, /, threshold: build.Positive) -> jax.Array:
    """Scales each array down if its root mean square exceeds a bound.

    Args:
      threshold: the largest root mean square, a scalar above 0, or a schedule.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import clip_by_block_rms
      >>> tx = clip_by_block_rms(1.0)
      >>> tx.update({"a": jnp.full(2, 4.0), "b": jnp.full(2, 0.5)}, tx.init(None))[0]
      {'a': Array([1., 1.], dtype=float32), 'b': Array([0.5, 0.5], dtype=float32)}
    """
    if not g.size:
        return g
    largest = threshold * math.sqrt(g.size)
    return _at_most(largest, g / jnp.maximum(1.0, build.finite_norm(g, 0.0) / largest))


@build.rule(params=True)
def adaptive_grad_clip(
    g: jax.Array,
    p: jax.Array,
    /,
    clipping: build.Positive,
    eps: build.Nonnegative = 1e-3,
    axis: int | tuple[int, ...] | None = None,
) -> jax.Array:
    """Scales each unit's update down if it is large relative to the unit's weights.

    Args:
      clipping: the largest ratio of the norms of update and weights, a scalar above 0, or a
        schedule.
      eps: a lower bound of the weights' norms, so that zero weights can change.
      axis: the axes over which a unit's norm is taken; by default as in `unitwise_norm`.

    Returns:
      A transformation with an `EmptyState`. `update` needs the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import adaptive_grad_clip
      >>> tx = adaptive_grad_clip(0.1)
      >>> tx.update(jnp.full(2, 10.0), tx.init(None), jnp.array([1.0, 0.0]))[0]
      Array([0.07071068, 0.07071068], dtype=float32)
    """
    if not g.size:
        return g
    of_p = functools.partial(build.finite_norm, terms=2 * p.size)
    largest = clipping * jnp.maximum(_of_units(of_p, p, axis), eps)
    norm = _of_units(build.finite_norm, g, axis)
    size = jnp.where(norm < largest, jnp.inf, largest)
    return _at_most(size, unitwise_clip(norm, largest, g))


def _at_most(size: jax.Array, x: jax.Array) -> jax.Array:
    """Limits magnitudes to what the norm admits: only entries beyond what it counted are larger."""
    if jnp.iscomplexobj(x):
        limited = x * jnp.minimum(1, size / jnp.abs(x))
    else:
        limited = jnp.clip(x, -size, size)
    return jnp.where(jnp.isfinite(x), limited, x)


def unitwise_norm(x: jax.Array, axis: int | tuple[int, ...] | None = None) -> jax.Array:
    """Returns the norm of each output unit's weights.

    Args:
      x: an array of weights. A vector (or scalar) is one unit; the last axis of a matrix or a
        convolution kernel indexes the units.
      axis: the axes to take the norm over instead.

    Returns:
      The norms, with the reduced axes kept at size 1, broadcast to the shape of `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import unitwise_norm
      >>> unitwise_norm(jnp.array([[3.0, 0.0], [4.0, 1.0]]))
      Array([[5., 1.],
             [5., 1.]], dtype=float32)
    """
    return _of_units(safe_norm, x, axis)


def _of_units(norm: Any, x: jax.Array, axis: int | tuple[int, ...] | None) -> jax.Array:
    if axis is None:
        squeezed = sum(n > 1 for n in x.shape)
        axis = tuple(range(x.ndim)) if squeezed <= 1 else tuple(range(x.ndim - 1))
    return laid_out_as(x, jnp.broadcast_to(norm(x, 0.0, axis=axis, keepdims=True), x.shape))


def unitwise_clip(
    g_norm: jax.Array, max_norm: jax.Array, grad: jax.Array, div_eps: Scalar = 1e-6
) -> jax.Array:
    """Scales down the entries of units whose norm exceeds a bound.

    Args:
      g_norm: norms of the units, of the shape of `grad`, as returned by `unitwise_norm`.
      max_norm: the largest norms, of the same shape.
      grad: the array to clip.
      div_eps: a lower bound of the norm in the division.

    Returns:
      An array of the shape of `grad`.

    Raises:
      ValueError: if the shapes differ.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import unitwise_clip
      >>> unitwise_clip(jnp.array([4.0]), jnp.array([1.0]), jnp.array([4.0]))
      Array([1.], dtype=float32)
    """
    if not g_norm.shape == max_norm.shape == grad.shape:
        raise ValueError(
            f"unitwise_clip: g_norm is {g_norm.shape}, max_norm {max_norm.shape}, grad {grad.shape}; "
            "they must agree"
        )
    scaled = grad * (max_norm / jnp.maximum(g_norm, div_eps))
    return jnp.where(g_norm < max_norm, grad, scaled)
