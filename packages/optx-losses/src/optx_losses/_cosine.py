"""Similarity and distance by the angle between two vectors.

u = p / max(‖p‖, epsilon),  v = t / max(‖t‖, epsilon);   cosine_similarity = u·v,   cosine_distance = 1 − u·v

where p are the predictions and t the targets. For unit vectors the distance is ‖u − v‖² / 2, which is
accurate for small angles and never negative.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from optx_core import Scalar
from optx_losses._inputs import Axis, check_number, matching


def cosine_similarity(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: Scalar = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The cosine of the angle between each prediction and its target.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape.
      epsilon: the lower bound on the norms to divide by, at least 0.
      axis: the axis, or axes, of a vector; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); entries that are
        False are treated as 0.

    Returns:
      The cosines, of the predictions' shape without `axis`, at least float32; 0 for a zero vector.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import cosine_similarity
      >>> cosine_similarity(jnp.array([[3.0, 3.0], [0.0, 0.0]]), jnp.array([[1.0, 1.0], [1.0, 0.0]]))
      Array([1., 0.], dtype=float32)
    """
    u, v, axes, _ = _units("cosine_similarity", predictions, targets, epsilon, axis, where)
    return jnp.clip(jnp.sum(u * v, axis=axes), -1, 1)


def cosine_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    epsilon: Scalar = 0.0,
    axis: Axis = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """One minus the cosine of the angle between each prediction and its target.

    Args:
      predictions: p, of any shape.
      targets: t, of the same shape.
      epsilon: the lower bound on the norms to divide by, at least 0.
      axis: the axis, or axes, of a vector; None for all.
      where: boolean mask of the same shape (size 1 along `axis` selects examples); entries that are
        False are treated as 0.

    Returns:
      The distances, in [0, 2], of the predictions' shape without `axis`, at least float32; 1 for a
      zero vector.

    Raises:
      TypeError: if an argument is not an array of real numbers.
      ValueError: if the shapes differ, or the axis is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_losses import cosine_distance
      >>> cosine_distance(jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0]))
      Array(1., dtype=float32)
    """
    u, v, axes, missing = _units("cosine_distance", predictions, targets, epsilon, axis, where)
    return 0.5 * jnp.sum((u - v) ** 2, axis=axes) + missing


def _units(
    name: str,
    predictions: ArrayLike,
    targets: ArrayLike,
    epsilon: Scalar,
    axis: Axis,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, tuple[int, ...], jax.Array]:
    check_number(name, low=0, epsilon=epsilon)
    (p, t), _, axes = matching(name, where, axis, predictions=predictions, targets=targets)
    u, u_missing = unit(p, axes, epsilon)
    v, v_missing = unit(t, axes, epsilon)
    return u, v, axes, u_missing + v_missing


def unit(x: jax.Array, axes: tuple[int, ...], epsilon: Scalar = 0.0) -> tuple[jax.Array, jax.Array]:
    """u = x / max(‖x‖, epsilon), and 1/2 − ‖u‖² / 2, which is 0 for unit vectors.

    A zero vector gives u = 0 with derivative 0.
    """
    # Scaled by a power of two to at most 1: without overflow, underflow or rounding.
    largest = lax.stop_gradient(jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0))
    usable = (largest > 0) & jnp.isfinite(largest)
    _, exponent = jnp.frexp(jnp.where(usable, largest, 1))
    scaled = jnp.ldexp(x, -exponent)
    square = jnp.sum(scaled**2, axis=axes, keepdims=True)
    zero = square == 0
    norm = jnp.sqrt(jnp.where(zero, 1, square))
    least = jnp.ldexp(jnp.full_like(norm, epsilon), -exponent)
    short = zero | (norm < least)
    u = scaled / jnp.where(short & ~zero, least, norm)
    missing = jnp.where(short, 0.5 - 0.5 * jnp.sum(u**2, axis=axes, keepdims=True), 0)
    return u, jnp.sum(missing, axis=axes)
