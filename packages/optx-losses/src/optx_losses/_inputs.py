"""What losses do with their arguments before the mathematics: dtypes, shapes, axes, masks.

Arrays are taken to float32 (float64 where one of them is that wide). Shapes must agree exactly:
a (N, 1) prediction against (N,) targets is an error, not an N × N table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from optx_core.build import common_real_dtype

Axis: TypeAlias = int | Sequence[int] | None


def as_floats(name: str, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays in one real dtype, float32 at least.

    Raises:
      TypeError: if one is complex, or no array of numbers at all.
    """
    made = {label: as_array(name, label, array) for label, array in arrays.items()}
    dtype = common_real_dtype(*(array.dtype for array in made.values()))
    return [array.astype(dtype) for array in made.values()]


def as_array(name: str, label: str, array: Any) -> jax.Array:
    """An array of real numbers or booleans."""
    if array is None or isinstance(array, str | dict):
        raise TypeError(f"{name}: {label} must be an array, not {array!r}")
    array = jnp.asarray(array)
    if not any(
        jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    ):
        raise TypeError(f"{name}: {label} must be real, not of dtype {array.dtype}")
    return array


def as_integers(name: str, label: str, array: Any, hint: str = "") -> jax.Array:
    """An array of integers, of at least 32 bits."""
    array = as_array(name, label, array)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: {label} must be integers, not {array.dtype}{hint}")
    if array.dtype.itemsize < 4:
        return array.astype(jnp.int32)
    return array


def same_shape(name: str, **arrays: jax.Array) -> None:
    """Refuses arrays of different shapes.

    Raises:
      ValueError: if a shape differs from the first.
    """
    (first, reference), *rest = arrays.items()
    for label, array in rest:
        if array.shape != reference.shape:
            raise ValueError(
                f"{name}: {first} is {reference.shape}, {label} is {array.shape}; they must have "
                f"the same shape{_cure(first, reference.shape, label, array.shape)}"
            )


def has_shape(name: str, label: str, array: jax.Array, shape: tuple[int, ...], why: str) -> None:
    """Refuses an array that is not of a given shape."""
    if array.shape != shape:
        raise ValueError(f"{name}: {label} is {array.shape}, it must be {shape} ({why})")


def axes_of(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Axes as sorted numbers from 0; None means all."""
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    for one in given:
        if not -ndim <= one < ndim:
            raise ValueError(f"{name}: axis={axis} is out of range for an array of {ndim} axes")
    axes = tuple(sorted(one % ndim for one in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis={axis} names an axis twice")
    return axes


def without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that is left when axes are summed over."""
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def as_mask(name: str, where: Any, like: jax.Array, label: str = "the inputs") -> Any:
    """`where` as a boolean array of the same shape as `like`, or None."""
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"{name}: where must be boolean, not {where.dtype}; write where > 0, say")
    if where.shape != like.shape:
        raise ValueError(
            f"{name}: where is {where.shape}, {label} are {like.shape}; they must have the same "
            "shape (jnp.broadcast_to makes one of it)"
        )
    return where


def keep(mask: jax.Array | None, *arrays: jax.Array, fill: float = 0) -> Any:
    """The arrays with `fill` where the mask is False: one array, or a list of several.

    Applied to what goes into a function, so that neither a value nor a derivative can be NaN there.
    """
    kept = [a if mask is None else jnp.where(mask, a, jnp.asarray(fill, a.dtype)) for a in arrays]
    return kept[0] if len(kept) == 1 else kept


def class_last(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Moves axes to the end, as one."""
    rest = [i for i in range(x.ndim) if i not in axes]
    if axes == (x.ndim - 1,):
        return x
    moved = jnp.transpose(x, (*rest, *axes))
    size = 1
    for i in axes:
        size *= x.shape[i]
    return moved.reshape(*(x.shape[i] for i in rest), size)


def _cure(a: str, a_shape: tuple[int, ...], b: str, b_shape: tuple[int, ...]) -> str:
    if a_shape == (*b_shape, 1):
        return f"; write {a}[..., 0]"
    if b_shape == (*a_shape, 1):
        return f"; write {b}[..., 0]"
    return ""
