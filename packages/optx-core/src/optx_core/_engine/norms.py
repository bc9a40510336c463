"""Norms without overflow or underflow."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core._engine.batched import call_on_rows, rows_of_equals
from optx_core._engine.seen import sees_slices
from optx_core._protocol.absent import is_absent, is_placeholder
from optx_core._protocol.dtypes import (
    abs_squared,
    cast_to_compute,
    common_real_dtype,
    dtype_of,
    is_inexact,
    real_dtype,
)
from optx_core._protocol.overflow import finite_sum
from optx_core._protocol.types import PyTree


class _Range(NamedTuple):
    """The range in which a sum of squares is accurate, and the scaling outside of it.

    Attributes:
      small: lower end; above it no significant square has underflowed.
      large: upper end; below it no square has overflowed.
      unit: outside the range, entries are multiplied or divided by this before they are squared.
      least: added to the scaled entries, too small to change a significant one. Without it XLA would
        square x first, and multiply by the square of the unit afterwards.
    """

    small: float
    large: float
    unit: float
    least: float


_RANGES = {
    "float32": _Range(1e-24, 1e37, 2.0**84, 2.0**-100),
    "float64": _Range(2.0**-900, 2.0**990, 2.0**560, 2.0**-700),
}


def global_norm(updates: PyTree) -> jax.Array:
    """Returns the Euclidean norm √(Σ|x|²) of all numbers of a tree taken together.

    Computed in at least float32, without overflow or underflow, for entries of 1e30 or 1e-30 too. The
    gradient at zero is zero. Each array is read once (on the CPU a second time where the squares would
    overflow or underflow).

    Args:
      updates: a tree of arrays of any shapes; None and masked nodes are ignored.

    Returns:
      A real scalar, float32 (float64 if a leaf is float64). 0 for a tree without numbers, inf or
      NaN if an entry is.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import global_norm
      >>> global_norm({"a": jnp.array([3e30]), "b": jnp.array([4e30])})
      Array(5.e+30, dtype=float32)
    """
    if sees_slices() and not jax.tree_util.all_leaves([updates]):
        raise TypeError(
            "per_slice: the transformation inside takes the norm of all parameters, and is given a slice of "
            "some. Put it outside: chain(clip_by_global_norm(1.0), per_slice(...))"
        )
    leaves = [
        jnp.asarray(x)
        for x in jax.tree_util.tree_leaves(updates, is_leaf=is_placeholder)
        if not is_absent(x)
    ]
    real = common_real_dtype(*map(dtype_of, leaves))
    leaves = [
        cast_to_compute(x if is_inexact(x) else x.astype(real), real) for x in leaves if x.size
    ]
    return _norm_compiled_once(leaves) if leaves else jnp.zeros((), real)


@jax.custom_jvp
def _norm(leaves: list[jax.Array]) -> jax.Array:
    return lax.platform_dependent(leaves, cpu=_by_branch, default=_at_once)


@_norm.defjvp
def _norm_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (leaves,), (moved,) = primals, tangents
    norm = _norm(leaves)
    unit = jnp.where(norm == 0, 1, norm)
    parts = [
        jnp.sum(jnp.real(jnp.conj(x / unit.astype(x.dtype)) * dx))
        for x, dx in zip(leaves, moved, strict=True)
    ]
    return norm, jnp.sum(jnp.stack(parts))


_norm_compiled_once = jax.jit(_norm)  # for un-jitted callers too


def _by_branch(leaves: list[jax.Array]) -> jax.Array:
    """One sum, and a second one only where the first is inaccurate: XLA:CPU reads the arrays for each."""
    total = _total(leaves, _squares)
    return lax.cond(_is_accurate(total), lambda t, _: jnp.sqrt(t), _again, total, leaves)


def _again(total: jax.Array, leaves: list[jax.Array]) -> jax.Array:
    bounds = _RANGES[total.dtype.name]
    unit = jnp.where(total >= bounds.large, bounds.unit, 1 / bounds.unit)
    return jnp.sqrt(_total(leaves, _squares_over, unit)) * unit


def _at_once(leaves: list[jax.Array]) -> jax.Array:
    """All sums in one pass, for devices where a branch costs more than the sums."""
    total, of_large, of_small = _total(leaves, _squares_at_scales)
    _, large, unit, _ = _RANGES[total.dtype.name]
    other = jnp.where(total >= large, jnp.sqrt(of_large) * unit, jnp.sqrt(of_small) / unit)
    return jnp.where(_is_accurate(total), jnp.sqrt(total), other)


def _is_accurate(total: jax.Array) -> jax.Array:
    bounds = _RANGES[total.dtype.name]
    return (total > bounds.small) & (total < bounds.large)


def _total(leaves: list[jax.Array], measure: Any, operands: Any = None) -> Any:
    """Sums what `measure` returns for rows of equal leaves: a number, or several."""
    rows = rows_of_equals(leaves)
    parts = call_on_rows(_row, [measure] * len(rows), rows, arrays=operands)
    return jax.tree.map(lambda *xs: jnp.sum(lax.concatenate(xs, 0)), *parts)


def _row(measure: Any) -> Any:
    def run(row: tuple[jax.Array, ...], _: Any, operands: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(1), measure(row, operands))

    return run


def _squares(row: tuple[jax.Array, ...], _: Any) -> jax.Array:
    return functools.reduce(lax.add, map(_square, row))


def _squares_over(row: tuple[jax.Array, ...], unit: jax.Array) -> jax.Array:
    # One kernel for the row, not one for each array: it rarely runs, but is always compiled.
    return jnp.sum(functools.reduce(lax.add, [_square_over(x, unit) for x in row]))


def _squares_at_scales(row: tuple[jax.Array, ...], _: Any) -> tuple[jax.Array, ...]:
    return functools.reduce(lambda a, b: tuple(map(lax.add, a, b)), map(_square_at_scales, row))


# Traced once per shape.
@jax.jit
def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(abs_squared(x))


@jax.jit
def _square_over(x: jax.Array, unit: jax.Array) -> jax.Array:
    # A division: XLA would move the factor of a product out of the square.
    return abs_squared(x / unit.astype(x.dtype))


@jax.jit
def _square_at_scales(x: jax.Array) -> tuple[jax.Array, ...]:
    _, _, unit, least = _RANGES[real_dtype(x.dtype).name]
    return tuple(map(_square, (x, x * (1 / unit) + least, x * unit + least)))


def safe_norm(
    x: jax.Array,
    min_norm: Any,
    ord: int | float | str | None = None,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
) -> jax.Array:
    """Returns a norm of an array, bounded below, with a gradient that is never NaN.

    Args:
      x: an array.
      min_norm: the lower bound, a scalar.
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
        return _root_above(floor, jnp.sum(abs_squared(x), axis=axis, keepdims=keepdims))
    small = jnp.linalg.norm(x, ord=ord, axis=axis, keepdims=True) <= floor
    kept = jnp.where(small, jnp.ones_like(x), x)
    if not keepdims:
        small = jnp.squeeze(small, axis=axis)
    return jnp.where(small, floor, jnp.linalg.norm(kept, ord=ord, axis=axis, keepdims=keepdims))


def safe_root_mean_squares(x: jax.Array, min_rms: Any) -> jax.Array:
    """Returns the root mean square of an array, bounded below, with a gradient that is never NaN.

    Args:
      x: a non-empty array.
      min_rms: the lower bound, a scalar.

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
    return _root_above(floor, jnp.mean(abs_squared(x)))


def finite_norm(
    x: jax.Array,
    min_norm: Any,
    axis: int | tuple[int, ...] | None = None,
    keepdims: bool = False,
    terms: int | None = None,
    mean: bool = False,
) -> jax.Array:
    """Returns a norm of an array, bounded below, that is finite for every array without NaN.

    For optimizers: entries whose squares would have no finite sum, and infinite ones, count as the largest
    whose squares have one.

    Args:
      x: a floating-point or complex array.
      min_norm: the lower bound, a scalar.
      axis: the axes to take the norm over; all by default.
      keepdims: whether to keep them, at size 1.
      terms: the sum of that many squares is finite, at least `x.size`, which is the default. XLA:CPU writes
        out the limit that two sums of one program share: let one of them have another.
      mean: whether to return the root of the mean square instead, of an array with entries.

    Returns:
      max(norm, min_norm), real; where the norm is at most `min_norm` its gradient is zero.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import finite_norm
      >>> finite_norm(jnp.array([3.0, 4.0]), 0.0)
      Array(5., dtype=float32)
      >>> bool(jnp.isfinite(finite_norm(jnp.array([1e25, 4.0]), 0.0)))
      True
    """
    squares = finite_sum(abs_squared(x), terms or max(x.size, 1))
    floor = jnp.asarray(min_norm, squares.dtype)
    total = jnp.mean if mean else jnp.sum
    return _root_above(floor, total(squares, axis=axis, keepdims=keepdims))


def _root_above(floor: jax.Array, squares: jax.Array) -> jax.Array:
    above = squares > floor * floor
    return jnp.where(above, jnp.sqrt(jnp.where(above, squares, 1)), floor)
