"""Parameters seen as matrices, and equal-shaped matrices as one stack.

An array becomes a stack of matrices (batch, rows, columns): its reduction axes, those that a layer
sums over, make the rows, its output axes the columns, all others the batch. Matrices of one shape
from all over the tree then go through a function together, as a single stack. On a mesh with
Explicit axes each device gets its share of the stack: whole matrices, nothing to communicate inside.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_core import PyTree, at_least_float32


class Axes(NamedTuple):
    """The axes of an array that are batch, rows and columns."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]


_PLAIN = Axes((), (0,), (1,))


def is_placeholder(x: Any) -> bool:
    """Whether a node stands for a missing leaf: None, or an empty NamedTuple (masked)."""
    return x is None or (isinstance(x, tuple) and not x and hasattr(x, "_fields"))


def flatten(tree: PyTree) -> tuple[list[Any], Any]:
    """Flattens a tree, placeholders counted as leaves."""
    return jax.tree_util.tree_flatten(tree, is_leaf=is_placeholder)


def flatten_with_path(tree: PyTree) -> tuple[list[tuple[tuple[Any, ...], Any]], Any]:
    """Flattens a tree with the path of each leaf, placeholders counted as leaves."""
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_placeholder)


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
    if stack.shape == shape and axes == _PLAIN:
        return stack
    order = axes.batch + axes.rows + axes.columns
    x = stack.reshape([shape[axis] for axis in order])
    return (
        x if order == tuple(range(x.ndim)) else x.transpose([order.index(k) for k in range(x.ndim)])
    )


def broadcast_dims(
    where: str, dims: Any, tree: PyTree, is_dims: Callable[[Any], bool]
) -> list[Any]:
    """The dimension numbers of each leaf of a tree, placeholders counted as leaves.

    Args:
      where: the function to name in errors.
      dims: dimension numbers for all leaves; a tree of them or None, of the tree's structure or a
        prefix of it; or a function from the tree to one of these.
      tree: the parameters, or the updates.
      is_dims: tells dimension numbers.

    Returns:
      A list, None where a leaf is no matrix.

    Raises:
      ValueError: if the structures do not fit.
    """
    if callable(dims) and not is_dims(dims):
        dims = dims(tree)
    flat: tuple[list[Any], Any] = jax.tree_util.tree_flatten(
        dims, is_leaf=lambda x: is_dims(x) or is_placeholder(x)
    )
    given, prefix = flat
    try:
        parts = prefix.flatten_up_to(tree)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: the dimension numbers do not have the parameters' structure: {error}"
        ) from None
    return [
        dim if is_dims(dim) else None
        for dim, part in zip(given, parts, strict=True)
        for _ in jax.tree_util.tree_leaves(part, is_leaf=is_placeholder)
    ]


def map_stacks(
    function: Callable[[jax.Array], jax.Array], arrays: Sequence[jax.Array], axes: Sequence[Axes]
) -> list[jax.Array]:
    """Applies a function of a stack of matrices to all arrays, matrices of one shape together.

    Args:
      function: from (n, rows, columns) to an array of that shape and dtype.
      arrays: the arrays, none of them empty.
      axes: how each is a stack of matrices.

    Returns:
      The arrays that come of it, in their order, laid out as they were.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, (x, own) in enumerate(zip(arrays, axes, strict=True)):
        groups.setdefault((matrix_shape(x.shape, own), x.dtype, _layout(x)), []).append(index)
    results: list[Any] = [None] * len(arrays)
    for members in groups.values():
        made = _map_group(function, [arrays[k] for k in members], [axes[k] for k in members])
        for index, x in zip(members, made, strict=True):
            results[index] = x
    return results


def explicit_sharding(x: jax.Array) -> NamedSharding | None:
    """The sharding that is part of an array's type, on a mesh with Explicit axes."""
    sharding = jax.typeof(x).sharding
    explicit = AxisType.Explicit in getattr(sharding.mesh, "axis_types", ())
    return sharding if explicit else None


def on_whole_arrays(leaf: Callable[..., Any]) -> Callable[..., Any]:
    """Lets equations for one array see all of it on every device, on a mesh with Explicit axes.

    What they return lies as what they were given in its place. Eigenvectors, roots and products of
    both sides take whole matrices; on an Auto mesh XLA decides where to gather them.

    Args:
      leaf: equations as for `optx_core.LeafStep`.

    Returns:
      Equations of the same signature.
    """

    @functools.wraps(leaf)
    def run(*arrays: jax.Array, **operands: Any) -> Any:
        layouts = [explicit_sharding(x) for x in arrays]
        if all(layout is None for layout in layouts):
            return leaf(*arrays, **operands)
        there = [
            x if own is None else jax.sharding.reshard(x, NamedSharding(own.mesh, PartitionSpec()))
            for x, own in zip(arrays, layouts, strict=True)
        ]
        made = leaf(*there, **operands)
        made = made if isinstance(made, tuple) else (made,)
        return tuple(
            x if own is None else jax.sharding.reshard(x, own)
            for x, own in zip(made, layouts[: len(made)], strict=True)
        )

    return run


def slots_from(make: Callable[[jax.Array], Any], params: PyTree) -> PyTree:
    """A tree of what `make` makes of each parameter; None where one has no gradient."""

    def slot(p: Any) -> Any:
        if is_placeholder(p):
            return p
        p = jnp.asarray(p)
        return make(p) if jnp.issubdtype(p.dtype, jnp.inexact) else None

    return jax.tree.map(slot, params, is_leaf=is_placeholder)


def is_stack(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape holds matrices with more than one row and column."""
    return len(shape) >= 2 and min(matrix_shape(shape, default_axes(len(shape)))) > 1


def stack_of(p: jax.Array) -> jax.Array:
    """A parameter as a stack of matrices; one of more axes than three is not split over devices."""
    own = explicit_sharding(p)
    if own is not None and p.ndim > 3:
        p = jax.sharding.reshard(p, NamedSharding(own.mesh, PartitionSpec()))
    return to_stack(p, default_axes(p.ndim))


def side_slot(p: jax.Array, side: int, *, identity: bool = False, largest: int) -> jax.Array:
    """Square matrices for the rows (side 0) or the columns (side 1) of a parameter, at zero or 1.

    Args:
      p: the parameter.
      side: 0 or 1.
      identity: whether to start at the identity.
      largest: sides longer than this own none.

    Returns:
      An array (batch, n, n) in at least float32, split over a mesh as the parameter's side is; of
      shape (0, 0, 0) where there is none.
    """
    dtype = at_least_float32(p.dtype)
    if not is_stack(p.shape) or matrix_shape(p.shape, default_axes(p.ndim))[side] > largest:
        return jnp.zeros((0, 0, 0), dtype)
    stack = stack_of(jnp.zeros_like(p, dtype=dtype))
    line = stack.sum(axis=2 - side)
    n = line.shape[1]
    square = jnp.broadcast_to(line[:, :, None], (*line.shape, n))
    return square + jnp.eye(n, dtype=dtype)[None] if identity else square


def _layout(x: jax.Array) -> Hashable:
    placed = None if isinstance(x, jax.core.Tracer) else frozenset(x.sharding.device_set)
    typed = explicit_sharding(x)
    return placed, None if typed is None else (typed.mesh, *typed.spec)


def _map_group(
    function: Callable[[jax.Array], jax.Array], arrays: list[jax.Array], axes: list[Axes]
) -> list[jax.Array]:
    typed = explicit_sharding(arrays[0])
    if typed is None:
        rows, columns = matrix_shape(arrays[0].shape, axes[0])
        # Joined row by row: for plain matrices there is nothing to reshape.
        tables = [_to_table(x, own) for x, own in zip(arrays, axes, strict=True)]
        made = function(_joined(tables).reshape(-1, rows, columns)).reshape(-1, columns)
        return [
            from_stack(part, x.shape, own)
            for part, x, own in zip(_parted(made, tables), arrays, axes, strict=True)
        ]
    # Plain matrices are stacked as they lie, split or not; others in one piece.
    plain = all(own == _PLAIN for own in axes)
    whole = NamedSharding(typed.mesh, PartitionSpec())
    there = [x if plain else jax.sharding.reshard(x, whole) for x in arrays]
    stacks = [to_stack(x, own) for x, own in zip(there, axes, strict=True)]
    made = _on_all_devices(function, _joined(stacks), typed.mesh)
    return [
        jax.sharding.reshard(from_stack(part, x.shape, own), explicit_sharding(x))
        for part, x, own in zip(_parted(made, stacks), arrays, axes, strict=True)
    ]


def _on_all_devices(
    function: Callable[[jax.Array], jax.Array], stack: jax.Array, mesh: Any
) -> jax.Array:
    """The function of the stack, filled up with zeros so that each device has as many matrices."""
    names = [
        name
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
    ]
    n, share = stack.shape[0], math.prod(mesh.shape[name] for name in names)
    # One mesh axis after another moves from the rows and columns to the stack: an exchange each,
    # where XLA would gather everything everywhere to do it at once.
    _, *spec = typed_spec(stack)
    layouts = [((), *spec)]
    for name in [*_names(spec), *names]:
        first, *rest = layouts[-1]
        if name not in first:
            kept = [tuple(other for other in _names([part]) if other != name) for part in rest]
            layouts.append(((*first, name), *kept))
    x = jnp.pad(stack, [(0, -n % share), (0, 0), (0, 0)])
    for layout in layouts:
        x = jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*layout)))
    x = function(x)
    for layout in reversed(layouts):
        x = jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec(*layout)))
    return x[:n]


def typed_spec(x: jax.Array) -> list[Any]:
    """The mesh axes of each dimension, on a mesh with Explicit axes."""
    spec = jax.typeof(x).sharding.spec
    return [*spec, *(None,) * (x.ndim - len(spec))]


def _names(spec: Sequence[Any]) -> list[str]:
    """All mesh axes of a spec, in their order."""
    return [
        name
        for part in spec
        if part is not None
        for name in ((part,) if isinstance(part, str) else part)
    ]


def _to_table(x: jax.Array, axes: Axes) -> jax.Array:
    if axes == _PLAIN:
        return x
    stack = to_stack(x, axes)
    return stack.reshape(-1, stack.shape[2])


def _joined(parts: list[jax.Array]) -> jax.Array:
    return parts[0] if len(parts) == 1 else jax.lax.concatenate(parts, 0)


def _parted(made: jax.Array, parts: list[jax.Array]) -> list[jax.Array]:
    return [made] if len(parts) == 1 else list(jax.lax.split(made, [len(x) for x in parts]))
