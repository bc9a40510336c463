"""Parameters seen as matrices.

An array becomes a stack of matrices (batch, rows, columns): its reduction axes, those that a layer
sums over, make the rows, its output axes the columns, all others the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from optx_core import PyTree, tree


class Axes(NamedTuple):
    """The axes of an array that are batch, rows and columns."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


PLAIN = Axes((), (0,), (1,))


def flatten_with_path(params: PyTree) -> tuple[list[tuple[tuple[Any, ...], Any]], Any]:
    """Flattens a tree with the path of each leaf, placeholders counted as leaves."""
    return jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_placeholder)


def default_axes(ndim: int) -> Axes:
    """Two axes: a matrix. Three: a stack of matrices. More: a convolution, its last axis the output."""
    if ndim == 3:
        return Axes((0,), (1,), (2,))
    return Axes((), tuple(range(ndim - 1)), (ndim - 1,))


def axes_of(where: str, ndim: int, dims: Any) -> Axes:
    """The axes that dimension numbers (`reduction_axis`, `output_axis`) name.

    Args:
      where: the function and the leaf to name in errors.
      ndim: the number of the array's axes, at least 2.
      dims: a pair with the two fields, each an int or a sequence of ints.

    Returns:
      The axes, counted from 0; those that are not named are batch.

    Raises:
      ValueError: if an axis does not exist or is named twice.
    """

    def counted(axes: int | Sequence[int]) -> tuple[int, ...]:
        named = (axes,) if isinstance(axes, int) else tuple(axes)
        if not named or not all(-ndim <= axis < ndim for axis in named):
            raise ValueError(f"{where}: an array of {ndim} axes has no {dims}")
        return tuple(axis % ndim for axis in named)

    rows, columns = counted(dims.reduction_axis), counted(dims.output_axis)
    if len({*rows, *columns}) < len(rows) + len(columns):
        raise ValueError(f"{where}: {dims} names an axis of an array of {ndim} axes twice")
    batch = tuple(axis for axis in range(ndim) if axis not in {*rows, *columns})
    return Axes(batch, rows, columns)


def matrix_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, int]:
    """The number of rows and of columns."""
    rows, columns = (math.prod(shape[axis] for axis in part) for part in axes[1:])
    return rows, columns


def to_stack(x: jax.Array, axes: Axes) -> jax.Array:
    """The array as a stack of matrices, (batch, rows, columns)."""
    order = axes.batch + axes.rows + axes.columns
    if order != tuple(range(x.ndim)):
        x = x.transpose(order)
    batch = math.prod(x.shape[: len(axes.batch)])
    rows = math.prod(x.shape[len(axes.batch) : len(order) - len(axes.columns)])
    return x.reshape(batch, rows, -1) if x.size else x.reshape(batch, rows, 0)


def from_stack(stack: jax.Array, shape: tuple[int, ...], axes: Axes) -> jax.Array:
    """The array of that shape whose stack of matrices, or rows of them all, this is."""
    if stack.shape == shape and axes == PLAIN:
        return stack
    order = axes.batch + axes.rows + axes.columns
    x = stack.reshape([shape[axis] for axis in order])
    return (
        x if order == tuple(range(x.ndim)) else x.transpose([order.index(k) for k in range(x.ndim)])
    )


def broadcast_dims(
    where: str, dims: Any, params: PyTree, is_dims: Callable[[Any], bool]
) -> list[Any]:
    """The dimension numbers of each leaf of a tree, placeholders counted as leaves.

    Args:
      where: the function to name in errors.
      dims: dimension numbers for all leaves; a tree of them or None, of the tree's structure or a
        prefix of it; or a function from the tree to one of these.
      params: the parameters, or the updates.
      is_dims: tells dimension numbers.

    Returns:
      A list, None where a leaf is no matrix.

    Raises:
      ValueError: if the structures do not fit.
    """
    if callable(dims) and not is_dims(dims):
        dims = dims(params)
    flat: tuple[list[Any], Any] = jax.tree_util.tree_flatten(
        dims, is_leaf=lambda x: is_dims(x) or tree.is_placeholder(x)
    )
    given, prefix = flat
    try:
        parts = prefix.flatten_up_to(params)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: the dimension numbers do not have the parameters' structure: {error}"
        ) from None
    return [
        dim if is_dims(dim) else None
        for dim, part in zip(given, parts, strict=True)
        for _ in tree.flatten(part)[0]
    ]


def is_stack(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape holds matrices with more than one row and column."""
    return len(shape) >= 2 and min(matrix_shape(shape, default_axes(len(shape)))) > 1
