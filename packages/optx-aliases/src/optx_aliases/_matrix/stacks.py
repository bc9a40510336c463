"""Equal-shaped matrices as one stack.

Matrices of one shape from all over the tree go through a function together, as a single stack. On a
mesh with Explicit axes each device gets its share of the stack: whole matrices, nothing to communicate
inside.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from optx_aliases._matrix.explicit_mesh import explicit_sharding, laid, typed_spec, whole
from optx_aliases._matrix.matrices import PLAIN, Axes, from_stack, matrix_shape, to_stack

PARTS_PER_CALL = 12


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
            for part, x, own in zip(
                _parted(made, tuple(map(len, tables))), arrays, axes, strict=True
            )
        ]
    # Plain matrices are stacked as they lie, split or not; others in one piece.
    plain = all(own == PLAIN for own in axes)
    there = [x if plain else whole(x) for x in arrays]
    stacks = [to_stack(x, own) for x, own in zip(there, axes, strict=True)]
    made = _on_all_devices(function, _joined(stacks), typed.mesh)
    return [
        laid(from_stack(part, x.shape, own), x)
        for part, x, own in zip(
            lax.split(made, [len(x) for x in stacks]), arrays, axes, strict=True
        )
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


def _names(spec: Sequence[Any]) -> list[str]:
    """All mesh axes of a spec, in their order."""
    return [
        name
        for part in spec
        if part is not None
        for name in ((part,) if isinstance(part, str) else part)
    ]


def _to_table(x: jax.Array, axes: Axes) -> jax.Array:
    if axes == PLAIN:
        return x
    stack = to_stack(x, axes)
    return stack.reshape(-1, stack.shape[2])


def _joined(parts: list[jax.Array]) -> jax.Array:
    return parts[0] if len(parts) == 1 else lax.concatenate(parts, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _parted(made: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
    """The parts of a stack.

    A slice at a known offset is a kernel of its own for XLA:CPU, which takes 20 ms to compile; equal
    kernels are compiled once. So there the offsets of many equal parts are unknown to it.
    """
    if len(sizes) == 1:
        return [made]
    if len(sizes) < PARTS_PER_CALL or len(set(sizes)) > 1:
        return list(lax.split(made, sizes))
    parts: list[jax.Array] = []
    while len(parts) < len(sizes):
        offsets = _offsets(np.uint32(len(parts) * sizes[0]), np.uint32(sizes[0]))
        parts += _slices(made, offsets[: len(sizes) - len(parts)], size=sizes[0])
    return parts


@_parted.defjvp
def _parted_jvp(
    sizes: tuple[int, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[list[jax.Array], list[jax.Array]]:
    return _parted(*primals, sizes), list(lax.split(*tangents, sizes))


@functools.partial(jax.jit, static_argnames="size")
def _slices(made: jax.Array, offsets: list[jax.Array], *, size: int) -> list[jax.Array]:
    rest = (np.uint32(0),) * (made.ndim - 1)
    return [lax.dynamic_slice(made, (at, *rest), (size, *made.shape[1:])) for at in offsets]


@jax.jit
def _offsets(start: jax.Array, size: jax.Array) -> list[jax.Array]:
    """start, start + size, ...: on the CPU counted in a loop, which XLA does not look through."""

    def plain(start: jax.Array, size: jax.Array) -> list[jax.Array]:
        return list(itertools.accumulate([start] + [size] * (PARTS_PER_CALL - 1), lax.add))

    def counted(start: jax.Array, size: jax.Array) -> list[jax.Array]:
        last = lax.add(start, lax.mul(size, np.uint32(PARTS_PER_CALL - 1)))
        return lax.while_loop(
            lambda offsets: lax.lt(offsets[-1], last),
            lambda offsets: [*offsets[1:], lax.add(offsets[-1], size)],
            [start] * PARTS_PER_CALL,
        )

    return lax.platform_dependent(start, size, cpu=counted, default=plain)
