"""Dimension numbers: the axes of a leaf that are the rows and columns of its matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from optx_aliases._matrix.attention import attention_axes
from optx_aliases._matrix.matrices import Axes, default_axes, flatten_with_path
from optx_core import Params, PyTree, build, tree


class MuonDimensionNumbers(NamedTuple):
    """The axes of the rows and columns of an array's matrices; all other axes are a batch.

    Attributes:
      reduction_axis: the axis, or axes, that the layer sums over: the rows.
      output_axis: the axis, or axes, of its outputs: the columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


class GaLoreDimensionNumbers(NamedTuple):
    """The axes of the rows and columns of an array's matrix; together they are all axes.

    Attributes:
      reduction_axis: the axis, or axes, that the layer sums over: the rows.
      output_axis: the axis, or axes, of its outputs: the columns.
    """

    reduction_axis: int | Sequence[int] = 0
    output_axis: int | Sequence[int] = 1


_LARGEST_WINDOW = 16  # of a vision transformer's patches

DimensionNumbers: TypeAlias = MuonDimensionNumbers | PyTree | Callable[[Params], PyTree]


class NumberedLeaf(NamedTuple):
    """A leaf and its dimension numbers.

    Attributes:
      name: its name in errors.
      shape: its shape; None for a leaf without a gradient.
      dims: its dimension numbers, or None.
    """

    name: str
    shape: tuple[int, ...] | None
    dims: Any


def numbered(where: str, dims: Any, params: PyTree) -> PyTree:
    """Returns a tree of bools, True for leaves with dimension numbers; arguments as for `numbered_leaves`."""
    flags = [dim is not None for _, _, dim in numbered_leaves(where, dims, params)]
    return tree.flatten(params)[1].unflatten(flags)


def numbered_leaves(where: str, dims: Any, params: PyTree) -> list[NumberedLeaf]:
    """Pairs the leaves of a tree, placeholders included, with their dimension numbers.

    Args:
      where: the name of the function, for errors.
      dims: dimension numbers for all leaves; a tree of them and None, of the tree's structure or a
        prefix of it; or a function from the tree to one of these.
      params: the parameters, or the updates.

    Returns:
      A list with one entry for each leaf.

    Raises:
      TypeError: if the tree has other leaves.
      ValueError: if the structures do not fit.
    """
    if callable(dims) and not _is_dims(dims):
        dims = dims(params)
    given, prefix = build.tree_flatten(dims, lambda x: _is_dims(x) or tree.is_placeholder(x))
    for x in given:
        if not (_is_dims(x) or tree.is_placeholder(x)):
            raise TypeError(
                f"{where}: dimension numbers must be MuonDimensionNumbers or the like, or None, not "
                f"{build.short_repr(x)}"
            )
    try:
        parts = prefix.flatten_up_to(params)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: the dimension numbers do not have the parameters' structure: {error}"
        ) from None
    spread = [dim for dim, part in zip(given, parts, strict=True) for _ in tree.flatten(part)[0]]
    return [
        NumberedLeaf(
            f"{where}: the leaf{jax.tree_util.keystr(path)}",
            None if tree.is_placeholder(x) or not build.is_inexact(x) else jnp.shape(x),
            dim if _is_dims(dim) else None,
        )
        for (path, x), dim in zip(flatten_with_path(params)[0], spread, strict=True)
    ]


def axes_of_leaves(where: str, dims: Any, updates: PyTree) -> list[Axes | None]:
    """Returns the matrix axes of each leaf of Muon; None for absent leaves."""
    axes: list[Axes | None] = []
    leaves = numbered_leaves(where, dims, updates)
    attention = attention_axes(updates)
    for place, (name, shape, dim) in enumerate(leaves):
        if shape is None:
            axes.append(None)
        elif len(shape) < 2:
            raise ValueError(
                f"{name} of shape {shape} is not a matrix. Use muon, which gives it to Adam, or "
                "leave it out with optx_core.masked"
            )
        elif dims is not None and dim is None:
            raise ValueError(
                f"{name} has no dimension numbers. Leave it out with optx_core.masked, or use muon"
            )
        elif dim is None:
            if len(shape) > 3 and not _is_kernel(name, shape):
                raise ValueError(
                    f"{name} of shape {shape} may be a convolution's kernel, or a stack of matrices "
                    "such as (layers, experts, rows, columns). Say which axes are its rows and columns: "
                    "MuonDimensionNumbers(-2, -1) for a stack, MuonDimensionNumbers((0, 1, 2), 3) "
                    "for a kernel. The layers of a stack, such as attentions, by themselves: "
                    "optx_core.per_slice"
                )
            axes.append(attention.get(place, default_axes(len(shape))))
        else:
            axes.append(axes_of(name, shape, dim))
    return axes


def _is_kernel(name: str, shape: tuple[int, ...]) -> bool:
    """Returns whether an array of four or more axes is a convolution's kernel, by its name or window."""
    window, path = shape[:-2], name.lower()
    small = len(set(window)) == 1 and window[0] <= _LARGEST_WINDOW
    return "conv" in path or (small and "expert" not in path)


def axes_of(name: str, shape: tuple[int, ...], dims: Any) -> Axes:
    """Converts dimension numbers to nonnegative axes; unnamed axes are the batch.

    Args:
      name: the names of the function and the leaf, for errors.
      shape: the leaf's shape, of at least two axes.
      dims: its dimension numbers.

    Returns:
      The axes.

    Raises:
      TypeError: if an axis is no int.
      ValueError: if an axis does not exist or is named twice.
    """
    ndim = len(shape)
    rows, columns = (
        tuple(axes) if isinstance(axes, Sequence) else (axes,)
        for axes in (dims.reduction_axis, dims.output_axis)
    )
    if not all(isinstance(axis, int) for axis in rows + columns):
        raise TypeError(f"{name}: axes must be ints, not as in {dims}")
    if not rows or not columns or not all(-ndim <= axis < ndim for axis in rows + columns):
        raise ValueError(f"{name}: an array of {ndim} axes has no {dims}")
    rows, columns = (tuple(axis % ndim for axis in axes) for axes in (rows, columns))
    batch = tuple(axis for axis in range(ndim) if axis not in rows + columns)
    if len({*rows, *columns}) < len(rows + columns):
        raise ValueError(f"{name}: {dims} names an axis of an array of {ndim} axes twice")
    return Axes(batch, rows, columns)


def _is_dims(x: Any) -> bool:
    """Returns whether x is a tuple of dimension numbers, of this package or of optax."""
    return isinstance(x, tuple) and getattr(x, "_fields", ()) == MuonDimensionNumbers._fields
