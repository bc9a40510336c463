"""Functions of stacks of matrices, on one device and on a mesh.

`stacked` passes an array to its equations as a stack (batch, rows, columns), replicated on every device.
`map_stacks` applies a function to the matrices of one shape in all arrays as a single stack; on a
mesh each device applies it to the matrices that it owns.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from optx_aliases._matrix.explicit_mesh import laid, whole
from optx_aliases._matrix.matrices import (
    PLAIN,
    Axes,
    default_axes,
    from_stack,
    matrix_shape,
    side_lengths,
    to_stack,
)
from optx_aliases._matrix.owners import OwnerAxes, mesh_of, on_owners

Function = Callable[..., Array]
PARTS_PER_CALL = 12


def stacked(equations: Callable[..., Any]) -> Callable[..., Any]:
    """Passes an array to its equations as a stack of matrices (batch, rows, columns).

    The array and the slots of its shape are reshaped to stacks (by `default_axes`), and the results
    back. Slots of other shapes and arrays that hold no matrices stay as they are. On a mesh with
    Explicit axes every array is replicated for the equations.

    Args:
      equations: `(g, *slots) -> (update, *slots)`; a decorator for `optx_core.build.rule`.

    Returns:
      Equations of the same signature.
    """

    @functools.wraps(equations)
    def run(*arrays: Array, **operands: Any) -> tuple[Array, ...]:
        shape = arrays[0].shape
        axes = default_axes(len(shape))
        held = [x.shape == shape and any(side_lengths(shape)) for x in arrays]
        given = [
            to_stack(whole(x), axes) if own else whole(x)
            for x, own in zip(arrays, held, strict=True)
        ]
        results = equations(*given, **operands)  # of the update and of the slots that are renewed
        return tuple(
            laid(from_stack(x, shape, axes) if own else x, like)
            for x, own, like in zip(results, held, arrays, strict=False)
        )

    return run


def map_stacks(
    function: Function,
    arrays: Sequence[Array],
    axes: Sequence[Axes],
    shared: Sequence[Array] = (),
    *,
    where: str,
    owner_axes: OwnerAxes = None,
) -> list[Array]:
    """Applies a function of a stack of matrices to all arrays, matrices of one shape together.

    On a mesh each device applies it to the matrices that it owns.

    Args:
      function: `function(stack, *shared)`, from (n, rows, columns) to an array of that shape and dtype.
      arrays: the arrays, none of them empty.
      axes: the matrix axes of each.
      shared: further arrays for the function.
      where: the name of the function, for errors.
      owner_axes: the mesh axes whose devices may own matrices.

    Returns:
      The results, in the same order and with the layouts of the arrays.
    """
    mesh = mesh_of(arrays)
    if mesh is not None:
        rows = on_owners(
            lambda stacks, shared: (function(*stacks, *shared),),
            [(x,) for x in arrays],
            [(own,) for own in axes],
            where=where,
            shared=shared,
            owner_axes=owner_axes,
            mesh=mesh,
        )
        return [x for (x,) in rows]
    alone = lambda stack: function(stack, *shared)  # noqa: E731
    groups: dict[Hashable, list[int]] = {}
    for index, (x, own) in enumerate(zip(arrays, axes, strict=True)):
        placed = None if isinstance(x, jax.core.Tracer) else frozenset(x.sharding.device_set)
        groups.setdefault((matrix_shape(x.shape, own), x.dtype, placed), []).append(index)
    results: list[Any] = [None] * len(arrays)
    for members in groups.values():
        group = _map_group(alone, [arrays[k] for k in members], [axes[k] for k in members])
        for index, x in zip(members, group, strict=True):
            results[index] = x
    return results


def _map_group(function: Function, arrays: list[Array], axes: list[Axes]) -> list[Array]:
    rows, columns = matrix_shape(arrays[0].shape, axes[0])
    # Joined row by row: for plain matrices there is nothing to reshape.
    tables = [_to_table(x, own) for x, own in zip(arrays, axes, strict=True)]
    table = function(_joined(tables).reshape(-1, rows, columns)).reshape(-1, columns)
    parts = _parted(table, tuple(map(len, tables)))
    return [
        from_stack(part, x.shape, own) for part, x, own in zip(parts, arrays, axes, strict=True)
    ]


def _to_table(x: Array, axes: Axes) -> Array:
    if axes == PLAIN:
        return x
    stack = to_stack(x, axes)
    return stack.reshape(-1, stack.shape[2])


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _parted(stack: Array, sizes: tuple[int, ...]) -> list[Array]:
    """Splits a stack.

    XLA:CPU compiles a kernel for each slice at a constant offset (20 ms each), but equal kernels only
    once. Many equal parts are therefore sliced at offsets that are computed at run time.
    """
    if len(sizes) == 1:
        return [stack]
    if len(sizes) < PARTS_PER_CALL or len(set(sizes)) > 1:
        return list(lax.split(stack, sizes))
    parts: list[Array] = []
    while len(parts) < len(sizes):
        offsets = _offsets(np.uint32(len(parts) * sizes[0]), np.uint32(sizes[0]))
        parts += _slices(stack, offsets[: len(sizes) - len(parts)], size=sizes[0])
    return parts


@_parted.defjvp
def _parted_jvp(
    sizes: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[list[Array], list[Array]]:
    return _parted(*primals, sizes), list(lax.split(*tangents, sizes))


@functools.partial(jax.jit, static_argnames="size")
def _slices(stack: Array, offsets: list[Array], *, size: int) -> list[Array]:
    rest = (np.uint32(0),) * (stack.ndim - 1)
    return [lax.dynamic_slice(stack, (at, *rest), (size, *stack.shape[1:])) for at in offsets]


@jax.jit
def _offsets(start: Array, size: Array) -> list[Array]:
    """Returns start, start + size, ...; on the CPU from a loop, which XLA does not evaluate."""

    def plain(start: Array, size: Array) -> list[Array]:
        return list(itertools.accumulate([start] + [size] * (PARTS_PER_CALL - 1), lax.add))

    def counted(start: Array, size: Array) -> list[Array]:
        last = lax.add(start, lax.mul(size, np.uint32(PARTS_PER_CALL - 1)))
        return lax.while_loop(
            lambda offsets: lax.lt(offsets[-1], last),
            lambda offsets: [*offsets[1:], lax.add(offsets[-1], size)],
            [start] * PARTS_PER_CALL,
        )

    return lax.platform_dependent(start, size, cpu=counted, default=plain)
