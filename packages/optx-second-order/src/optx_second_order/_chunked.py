"""Exact Hessian diagonals of any function, a chunk of unit vectors at a time.

∂²L/∂w_i² = e_i·(H e_i). The gradient is linearized once for each leaf, the others being constants, so
that what comes before that leaf is not differentiated; then unit vectors go through the linear map,
`chunk` of them at once. Memory grows with the chunk, not with the number of parameters.

With a colouring, entries of one colour share a product: if H_ij = 0 for i ≠ j of the same colour c,
then H_ii = (H s)_i for s the sum of the unit vectors of colour c. Coleman, Moré, "Estimation of sparse
Hessian matrices and graph coloring problems", 1984.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_second_order._leaves import Leaves, as_wide, wide

MAX_LOOPS = 24
"""More leaves than this share loops: each loop is a program of its own to compile."""


def groups_of(sizes: Sequence[int]) -> list[list[int]]:
    """Leaves to be treated in one loop: each alone, the smallest together if there are many."""
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    groups = [[i] for i in order[: MAX_LOOPS - 1]]
    rest = order[MAX_LOOPS - 1 :]
    return [*groups, rest] if rest else groups


def chunked_diag(
    loss: Callable[[Sequence[jax.Array]], jax.Array],
    arrays: Sequence[jax.Array],
    chosen: Sequence[int],
    chunk: int,
) -> list[jax.Array]:
    """The Hessian diagonal of `loss` in the chosen arrays."""
    found: dict[int, jax.Array] = {}
    chosen = list(chosen)
    for group in groups_of([arrays[i].size for i in chosen]):
        members = [chosen[i] for i in group]
        found.update(zip(members, _group_diag(loss, arrays, members, chunk), strict=True))
    return [found[i] for i in chosen]


def _group_diag(
    loss: Callable[[Sequence[jax.Array]], jax.Array],
    arrays: Sequence[jax.Array],
    members: Sequence[int],
    chunk: int,
) -> list[jax.Array]:
    def restricted(part: Sequence[jax.Array]) -> jax.Array:
        full = list(arrays)
        for i, array in zip(members, part, strict=True):
            full[i] = array
        return loss(full)

    own = [arrays[i] for i in members]
    bounds = np.cumsum([0, *(array.size for array in own)])
    total = int(bounds[-1])
    if total == 0:
        return [jnp.zeros(array.shape, wide(array.dtype)) for array in own]
    _, product = jax.linearize(jax.grad(restricted), own)
    dtype = wide(*[array.dtype for array in own])

    def probe(p: jax.Array) -> jax.Array:
        direction = [
            (jnp.arange(array.size) == p - int(start)).astype(array.dtype).reshape(array.shape)
            for array, start in zip(own, bounds[:-1], strict=True)
        ]
        value = jnp.zeros((), dtype)
        for v, image, start in zip(direction, product(direction), bounds[:-1], strict=True):
            if v.size == 0:
                continue
            at = p - int(start)
            entry = image.reshape(-1)[jnp.clip(at, 0, v.size - 1)].astype(dtype)
            value = value + jnp.where((at >= 0) & (at < v.size), entry, jnp.zeros((), dtype))
        return value

    values = jax.lax.map(probe, jnp.arange(total), batch_size=min(chunk, total))
    return [
        values[start:stop].reshape(array.shape).astype(wide(array.dtype))
        for array, start, stop in zip(own, bounds[:-1], bounds[1:], strict=True)
    ]


def coloured_diag(
    loss: Callable[[Sequence[jax.Array]], jax.Array],
    arrays: Sequence[jax.Array],
    colours: Sequence[np.ndarray],
) -> list[jax.Array]:
    """The Hessian diagonal of `loss`, one product for each colour."""
    _, product = jax.linearize(jax.grad(loss), list(arrays))
    ids = np.unique(np.concatenate([c.reshape(-1) for c in colours])) if colours else np.zeros(0)
    zero = [jnp.zeros(array.shape, wide(array.dtype)) for array in arrays]

    def add(total: list[jax.Array], colour: jax.Array) -> tuple[list[jax.Array], None]:
        here = [jnp.asarray(c) == colour for c in colours]
        v = [h.astype(array.dtype) for h, array in zip(here, arrays, strict=True)]
        image = product(v)
        return [
            jnp.where(h, as_wide(i), t) for h, i, t in zip(here, image, total, strict=True)
        ], None

    total, _ = jax.lax.scan(add, zero, jnp.asarray(ids.astype(np.int32)))
    return total


def read_colouring(where: str, coloring: Any, leaves: Leaves) -> list[np.ndarray]:
    """The colours of each leaf's entries, checked to be integers of its shape."""
    found = []
    shaped = leaves.tree([0] * len(leaves.arrays))
    try:
        structure: Any = jax.tree.structure(shaped)
        parts = structure.flatten_up_to(coloring)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{where}: coloring must be a tree of integer arrays with the structure of params: "
            f"{error}"
        ) from None
    for path, array, part in zip(leaves.paths, leaves.arrays, parts, strict=True):
        if isinstance(part, jax.core.Tracer):
            raise TypeError(f"{where}: coloring{path} is traced; it must be a NumPy array")
        colours = np.asarray(part)
        if colours.shape != array.shape or not np.issubdtype(colours.dtype, np.integer):
            raise ValueError(
                f"{where}: coloring{path} is {colours.dtype}{list(colours.shape)}, it must hold "
                f"integers in the shape {list(array.shape)} of the parameter"
            )
        found.append(colours.astype(np.int32))
    return found
