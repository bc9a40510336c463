"""Exact Hessian diagonals of arbitrary functions, from products with chunks of unit vectors.

∂²L/∂w_i² = e_i·(H e_i). The gradient is linearized once per leaf with the other leaves constant, so that
computations before that leaf are not differentiated. The linear map is applied to `chunk` unit vectors
at once. Memory grows with the chunk, not with the number of parameters.

With a coloring, entries of one color share a product: if H_ij = 0 for all i ≠ j of color c, then
H_ii = (H s)_i for s the sum of the unit vectors of color c. Coleman, Moré, "Estimation of sparse Hessian
matrices and graph coloring problems", 1984.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optx_second_order._leaves import Leaves, as_wide, wide

MAX_LOOPS = 24
"""The maximum number of loops; each is compiled separately."""


def groups_of(sizes: Sequence[int]) -> list[list[int]]:
    """Groups leaves into loops: one per leaf, and one for all the smallest if there are many."""
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
    """Returns the Hessian diagonal of `loss` with respect to the chosen arrays."""
    diagonals: dict[int, jax.Array] = {}
    chosen = list(chosen)
    for group in groups_of([arrays[i].size for i in chosen]):
        members = [chosen[i] for i in group]
        diagonals.update(zip(members, _group_diag(loss, arrays, members, chunk), strict=True))
    return [diagonals[i] for i in chosen]


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


def colored_diag(
    loss: Callable[[Sequence[jax.Array]], jax.Array],
    arrays: Sequence[jax.Array],
    colors: Sequence[np.ndarray],
) -> list[jax.Array]:
    """Returns the Hessian diagonal of `loss` from one product per color."""
    _, product = jax.linearize(jax.grad(loss), list(arrays))
    ids = np.unique(np.concatenate([c.reshape(-1) for c in colors])) if colors else np.zeros(0)
    zero = [jnp.zeros(array.shape, wide(array.dtype)) for array in arrays]

    def add(total: list[jax.Array], color: jax.Array) -> tuple[list[jax.Array], None]:
        selected = [jnp.asarray(c) == color for c in colors]
        v = [s.astype(array.dtype) for s, array in zip(selected, arrays, strict=True)]
        image = product(v)
        return [
            jnp.where(s, as_wide(i), t) for s, i, t in zip(selected, image, total, strict=True)
        ], None

    total, _ = jax.lax.scan(add, zero, jnp.asarray(ids.astype(np.int32)))
    return total


def read_coloring(where: str, coloring: Any, leaves: Leaves) -> list[np.ndarray]:
    """Returns the colors of each selected leaf, checked to be integers of its shape."""
    colors = []
    parts = leaves.selected(coloring, "coloring")
    for path, array, part in zip(leaves.paths, leaves.arrays, parts, strict=True):
        if isinstance(part, jax.core.Tracer):
            raise TypeError(f"{where}: coloring{path} is traced; it must be a NumPy array")
        own = np.asarray(part)
        if own.shape != array.shape or not np.issubdtype(own.dtype, np.integer):
            raise ValueError(
                f"{where}: coloring{path} is {own.dtype}{list(own.shape)}; it must contain "
                f"integers in the parameter's shape {list(array.shape)}"
            )
        colors.append(own.astype(np.int32))
    return colors
