"""Validation of the arguments of losses: dtypes, shapes, axes and masks.

Arrays are converted to float32, or to float64 if one of them is float64. Shapes must agree exactly:
a prediction of shape (N, 1) against targets of shape (N,) is an error, not an N × N table.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from optx_core import build
from optx_core.build import common_real_dtype

Axis: TypeAlias = int | Sequence[int] | None


def as_floats(name: str, **arrays: ArrayLike) -> list[jax.Array]:
    """Arrays of one real dtype, at least float32.

    Python numbers, and lists of them, take the dtype of the arrays beside them.

    Raises:
      TypeError: if an argument is complex, or not an array of numbers.
    """
    converted = [as_array(name, label, array) for label, array in arrays.items()]
    dtypes = [
        array.dtype
        for given, array in zip(arrays.values(), converted, strict=True)
        if any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(given))
    ]
    dtype = common_real_dtype(*(dtypes or [array.dtype for array in converted]))
    return [array.astype(dtype) for array in converted]


def as_array(name: str, label: str, array: Any) -> jax.Array:
    """An array of real numbers or booleans."""
    if array is None or isinstance(array, str | dict):
        raise TypeError(f"{name}: {label} must be an array, not {array!r}")
    try:
        array = jnp.asarray(array)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {label} must be an array of real numbers: {error}") from error
    if not any(
        jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    ):
        raise TypeError(f"{name}: {label} must be real, not of dtype {array.dtype}")
    return array


def as_integers(name: str, label: str, array: Any, hint: str = "") -> jax.Array:
    """A signed integer array of at least 32 bits; larger values saturate, they do not wrap around."""
    array = _saturated(array)
    array = as_array(name, label, array)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: {label} must be integers, not {array.dtype}{hint}")
    if jnp.issubdtype(array.dtype, jnp.unsignedinteger) and array.dtype.itemsize >= 4:
        signed = jnp.dtype(f"int{8 * array.dtype.itemsize}")
        return jnp.minimum(array, jnp.iinfo(signed).max).astype(signed)
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def _saturated(array: Any) -> Any:
    """Host integers of 64 bits, clipped to 32 bits unless JAX keeps 64."""
    if isinstance(array, int | list | tuple) and all(
        isinstance(leaf, int) and not isinstance(leaf, bool) for leaf in jax.tree.leaves(array)
    ):
        try:
            array = np.asarray(array, np.int64)
        except (OverflowError, ValueError):
            return array
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        return array
    if array.dtype.itemsize < 8 or jax.dtypes.canonicalize_dtype(np.int64) == np.int64:
        return array
    limits = np.iinfo(np.int32)
    return np.clip(array, limits.min if array.dtype.kind == "i" else 0, limits.max).astype(np.int32)


def as_index(name: str, ignore_index: Any) -> int | None:
    """`ignore_index` as a Python integer, or None."""
    if ignore_index is None:
        return None
    try:
        return operator.index(ignore_index)
    except TypeError as error:
        raise TypeError(
            f"{name}: ignore_index must be an integer or None, not {ignore_index!r}"
        ) from error


check_number = build.check_scalar


def check_number_or_none(name: str, **given: Any) -> None:
    """`check_number` for arguments that may be left out."""
    check_number(name, **{label: value for label, value in given.items() if value is not None})


def is_integer(x: Any) -> bool:
    """Returns whether a value is a Python or NumPy integer, and no bool."""
    return isinstance(x, int | np.integer) and not isinstance(x, bool)


def as_pair(name: str, **given: Any) -> tuple[Any, Any]:
    """One argument that is a pair.

    Raises:
      ValueError: if it is not a tuple or list of two.
    """
    ((label, value),) = given.items()
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name}: {label} must be a pair, not {value!r}")
    first, second = value
    return first, second


def as_count(name: str, unit: str, **given: Any) -> int:
    """One argument that is a positive number of something, as a Python integer.

    Raises:
      ValueError: if it is not an integer, or not positive.
    """
    ((label, value),) = given.items()
    if not is_integer(value) or value < 1:
        raise ValueError(f"{name}: {label} must be a positive number of {unit}, not {value!r}")
    return int(value)


def check_together(name: str, **given: Any) -> None:
    """Refuses one of two optional arguments without the other.

    Raises:
      ValueError: if only one is given.
    """
    if len({value is None for value in given.values()}) > 1:
        raise ValueError(f"{name}: {' and '.join(given)} go together; give both or neither")


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
    """Refuses an array whose shape is not `shape`."""
    if array.shape != shape:
        cure = _cure(label, array.shape, "", shape)
        if array.ndim == 2 and array.shape == shape[::-1]:
            cure = f"; write {label}.T"
        raise ValueError(f"{name}: {label} is {array.shape}, it must be {shape} ({why}){cure}")


def axes_of(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes as non-negative integers, in the order given; None stands for all axes."""
    if axis is None:
        return tuple(range(ndim))
    given = tuple(axis) if isinstance(axis, Iterable) else (axis,)
    for one in given:
        if not is_integer(one):
            raise TypeError(f"{name}: axis must be an integer, several, or None, not {axis!r}")
        if not -ndim <= one < ndim:
            raise ValueError(f"{name}: axis={axis} is out of range for an array of {ndim} axes")
    axes = tuple(one % ndim for one in given)
    if len(set(axes)) != len(axes):
        raise ValueError(f"{name}: axis={axis} repeats an axis")
    return axes


def without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that remains after a reduction over axes."""
    return tuple(size for i, size in enumerate(shape) if i not in axes)


def as_mask(
    name: str,
    where: Any,
    like: jax.Array,
    label: str = "the inputs",
    axes: tuple[int, ...] = (),
    *,
    of_examples: bool = False,
) -> Any:
    """`where` as a boolean array of the shape of `like`, or None.

    Along `axes`, which the loss reduces over, the mask may have size 1: it then selects examples. With
    `of_examples` it may also have the shape without `axes`.
    """
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"{name}: where must be boolean, not {where.dtype}; write where > 0, say")
    if of_examples and axes and where.shape == without(like.shape, axes):
        where = jnp.expand_dims(where, axes)
    if where.ndim == like.ndim and all(
        mask_size == size or (mask_size == 1 and i in axes)
        for i, (mask_size, size) in enumerate(zip(where.shape, like.shape, strict=True))
    ):
        return jnp.broadcast_to(where, like.shape)
    or_one = ", or have size 1 along the axes that are summed over" if axes else ""
    cure = _cure("where", where.shape, "", like.shape) or "; use jnp.broadcast_to"
    raise ValueError(
        f"{name}: where is {where.shape}, {label} are {like.shape}; they must have the same "
        f"shape{or_one}{cure}"
    )


def matching(
    name: str, where: Any, axis: Axis = (), *, of_examples: bool = False, **arrays: ArrayLike
) -> tuple[list[jax.Array], jax.Array | None, tuple[int, ...]]:
    """Arrays of one dtype and shape, 0 where masked; the mask; and the axes that a loss reduces over."""
    converted = as_floats(name, **arrays)
    same_shape(name, **dict(zip(arrays, converted, strict=True)))
    axes = axes_of(name, axis, converted[0].ndim)
    label = f"the {next(iter(arrays))}"
    mask = as_mask(name, where, converted[0], label, axes, of_examples=of_examples)
    if mask is not None:
        converted = [keep(mask, array) for array in converted]
    return converted, mask, axes


def keep(mask: jax.Array | None, *arrays: jax.Array, fill: float = 0) -> Any:
    """The arrays, with `fill` where the mask is False: one array, or a list of several.

    Applied to the inputs of a function, so that neither its values nor its derivatives can be NaN
    there.
    """
    kept = [a if mask is None else jnp.where(mask, a, jnp.asarray(fill, a.dtype)) for a in arrays]
    return kept[0] if len(kept) == 1 else kept


def class_last(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The array with `axes` merged, in their order, into one axis, the last."""
    rest = [i for i in range(x.ndim) if i not in axes]
    if axes == (x.ndim - 1,):
        return x
    moved = jnp.transpose(x, (*rest, *axes))
    size = 1
    for i in axes:
        size *= x.shape[i]
    return moved.reshape(*(x.shape[i] for i in rest), size)


def class_weights_of(
    name: str, class_weights: Any, shape: tuple[int, ...], dtype: Any
) -> jax.Array | None:
    """`class_weights` as an array of a shape and dtype, or None."""
    if class_weights is None:
        return None
    (weights,) = as_floats(name, class_weights=class_weights)
    has_shape(name, "class_weights", weights, shape, "one weight for each class")
    return weights.astype(dtype)


def _cure(a: str, a_shape: tuple[int, ...], b: str, b_shape: tuple[int, ...]) -> str:
    """Returns the advice to drop a last axis of size 1, of b only if b has a name."""
    if a_shape == (*b_shape, 1):
        return f"; write {a}[..., 0]"
    if b and b_shape == (*a_shape, 1):
        return f"; write {b}[..., 0]"
    return ""
