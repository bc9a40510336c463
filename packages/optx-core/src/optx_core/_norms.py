"""Norms that neither overflow nor underflow."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core._absent import is_absent, is_placeholder
from optx_core._dtypes import abs_squared, cast_to_compute, common_real_dtype, dtype_of, real_dtype
from optx_core._types import PyTree

# Sums of squares are trusted between these, where no square can have been lost or have overflowed
# in float32; outside, they are taken again of the scaled values.
_SMALL, _LARGE = 1e-24, 1e37


def global_norm(updates: PyTree) -> jax.Array:
    """The Euclidean norm √(Σ|x|²) of all numbers of a tree taken together.

    Computed in at least float32 and free of overflow and underflow: entries of 1e30 or 1e-30 are
    no trouble. The gradient at zero is zero. The usual case reads each array once.

    Args:
      updates: a tree of arrays of any shapes; None and masked nodes count for nothing.

    Returns:
      A real scalar, float32 (float64 if a leaf is that wide). 0 for a tree without numbers, inf or
      NaN if an entry is.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import global_norm
      >>> global_norm({"a": jnp.array([3e30]), "b": jnp.array([4e30])})
      Array(5.e+30, dtype=float32)
    """
    leaves = [
        jnp.asarray(x)
        for x in jax.tree_util.tree_leaves(updates, is_leaf=is_placeholder)
        if not is_absent(x)
    ]
    real = common_real_dtype(*map(dtype_of, leaves))
    leaves = [x for x in leaves if x.size]
    if not leaves:
        return jnp.zeros((), real)
    total = _sum_of_squares(leaves, real)
    trusted = (total > _SMALL) & (total < _LARGE)
    return lax.cond(trusted, _plain_norm, _scaled_norm, total, leaves)


def _sum_of_squares(leaves: list[jax.Array], real: jnp.dtype) -> jax.Array:
    parts = [jnp.sum(abs_squared(cast_to_compute(x, real)), dtype=real) for x in leaves]
    return jnp.sum(jnp.stack(parts))


def _plain_norm(total: jax.Array, leaves: list[jax.Array]) -> jax.Array:
    del leaves
    return _safe_sqrt(total)


def _scaled_norm(total: jax.Array, leaves: list[jax.Array]) -> jax.Array:
    # A unit for each array: one for all would be broadcast to memory by XLA.
    return _norm_in_units(jnp.stack([_norm_in_units(x, total.dtype) for x in leaves]), total.dtype)


def _norm_in_units(x: jax.Array, real: jnp.dtype) -> jax.Array:
    """The norm of one array, its entries divided by the largest before they are squared."""
    x = cast_to_compute(x, real)
    parts = (x.real, x.imag) if jnp.iscomplexobj(x) else (x,)
    largest = lax.stop_gradient(jnp.max(jnp.stack([jnp.max(jnp.abs(part)) for part in parts])))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    squares = [jnp.sum((part / unit) * (part / unit)) for part in parts]
    return unit * _safe_sqrt(jnp.sum(jnp.stack(squares)))


def _safe_sqrt(x: jax.Array) -> jax.Array:
    """√x with the derivative 0 at 0."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def safe_norm(
    x: jax.Array,
    min_norm: Any,
    ord: int | float | str | None = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> jax.Array:
    """A norm of an array that never falls below a bound, with a gradient that is never NaN.

    Args:
      x: an array.
      min_norm: the least value returned, a scalar.
      ord: as for `jnp.linalg.norm`.
      axis: the axes to take the norm over; all by default.
      keepdims: whether to keep them, at size 1.

    Returns:
      max(norm, min_norm), real; where the norm is at most `min_norm` its gradient is zero.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_core import safe_norm
      >>> jax.grad(lambda x: safe_norm(x, 0.0))(jnp.zeros(2))
      Array([0., 0.], dtype=float32)
    """
    x = jnp.asarray(x)
    floor = jnp.asarray(min_norm, real_dtype(x.dtype))
    if ord is None:
        squares = jnp.sum(abs_squared(x), axis=axis, keepdims=keepdims)
        above = squares > floor * floor
        return jnp.where(above, jnp.sqrt(jnp.where(above, squares, 1)), floor)
    small = jnp.linalg.norm(x, ord=ord, axis=axis, keepdims=True) <= floor
    kept = jnp.where(small, jnp.ones_like(x), x)
    if not keepdims:
        small = jnp.squeeze(small, axis=axis)
    return jnp.where(small, floor, jnp.linalg.norm(kept, ord=ord, axis=axis, keepdims=keepdims))


def safe_root_mean_squares(x: jax.Array, min_rms: Any) -> jax.Array:
    """The root of the mean square, never below a bound, with a gradient that is never NaN.

    Args:
      x: an array, not empty.
      min_rms: the least value returned, a scalar.

    Returns:
      max(√(mean |x|²), min_rms), a real scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import safe_root_mean_squares
      >>> safe_root_mean_squares(jnp.array([3.0, -3.0]), 1.0)
      Array(3., dtype=float32)
    """
    x = jnp.asarray(x)
    floor = jnp.asarray(min_rms, real_dtype(x.dtype))
    mean = jnp.mean(abs_squared(x))
    above = mean > floor * floor
    return jnp.where(above, jnp.sqrt(jnp.where(above, mean, 1)), floor)
