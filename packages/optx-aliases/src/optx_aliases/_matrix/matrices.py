"""Arrays as stacks of matrices.

An array becomes a stack of matrices (batch, rows, columns): its reduction axes, those that a layer
sums over, become the rows, its output axes the columns, all others the batch.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from optx_core import Params, PyTree, build, tree


class Axes(NamedTuple):
    """The batch, row and column axes of an array."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """All axes, in the order of a stack."""
        return self.batch + self.rows + self.columns


PLAIN = Axes((), (0,), (1,))


def flatten_with_path(params: PyTree) -> tuple[list[tuple[tuple[Any, ...], Any]], Any]:
    """Flattens a tree to pairs of path and leaf, placeholders included."""
    return jax.tree_util.tree_flatten_with_path(params, is_leaf=tree.is_placeholder)


def shapes_of(flow: build.Flow, params: Params) -> PyTree:
    """Returns a tree with the shapes of all leaves: the parameters, or the updates, which may lack some."""
    given = params is not None and flow.has_structure_of(params)
    return params if given else flow.skeleton


def default_axes(ndim: int) -> Axes:
    """Returns the default axes: of a matrix, a stack (ndim 3), or a convolution (4 or more, outputs last)."""
    if ndim == 3:
        return Axes((0,), (1,), (2,))
    return Axes((), tuple(range(ndim - 1)), (ndim - 1,))


def matrix_shape(shape: tuple[int, ...], axes: Axes) -> tuple[int, int]:
    """Returns the numbers of rows and columns."""
    rows, columns = (math.prod(shape[axis] for axis in part) for part in axes[1:])
    return rows, columns


def side_lengths(shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns the numbers of rows and columns; zeros if either is less than 2 or the array is empty."""
    rows, columns = matrix_shape(shape, default_axes(len(shape))) if len(shape) > 1 else (0, 0)
    return (rows, columns) if min(rows, columns) > 1 and 0 not in shape else (0, 0)


def to_stack(x: jax.Array, axes: Axes) -> jax.Array:
    """Reshapes an array to a stack of matrices, (batch, rows, columns)."""
    stack = (math.prod(x.shape[axis] for axis in axes.batch), *matrix_shape(x.shape, axes))
    plain = axes.order == tuple(range(x.ndim))
    return (x if plain else x.transpose(axes.order)).reshape(stack)


def from_stack(stack: jax.Array, shape: tuple[int, ...], axes: Axes) -> jax.Array:
    """Inverts `to_stack`; the matrices may also be joined along their rows."""
    x = stack.reshape([shape[axis] for axis in axes.order])
    places = [axes.order.index(axis) for axis in range(x.ndim)]
    return x if places == [*range(x.ndim)] else x.transpose(places)
