"""State of optimizers that see matrices: a slot for each parameter, one for each of its sides.

A slot that is not used holds one number, as no checkpoint keeps an empty array; it is told by its one
axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._matrix.explicit_mesh import whole
from optx_aliases._matrix.matrices import default_axes, is_stack, matrix_shape, to_stack
from optx_core import PyTree, tree
from optx_core.build import at_least_float32


def slots_from(make: Callable[[jax.Array], Any], params: PyTree) -> PyTree:
    """A tree of what `make` makes of each parameter; None where one has no gradient."""

    def slot(p: Any) -> Any:
        if tree.is_placeholder(p):
            return p
        p = jnp.asarray(p)
        return make(p) if jnp.issubdtype(p.dtype, jnp.inexact) else None

    return jax.tree.map(slot, params, is_leaf=tree.is_placeholder)


def stack_of(p: jax.Array) -> jax.Array:
    """A parameter as a stack of matrices; one of more axes than three is not split over devices."""
    return to_stack(whole(p) if p.ndim > 3 else p, default_axes(p.ndim))


def unused_slot(p: jax.Array, dtype: Any) -> jax.Array:
    """One zero, of shape (1,), where a parameter needs no slot; it lies on the parameter's mesh."""
    return jnp.zeros_like(jnp.reshape(jnp.sum(p), (1,)), dtype=dtype)


def is_used(slot: jax.Array) -> bool:
    """Whether a slot holds matrices or their diagonals, and not the one number of `unused_slot`."""
    return slot.ndim > 1


def side_slot(p: jax.Array, side: int, *, identity: bool = False, largest: int) -> jax.Array:
    """Square matrices for the rows (side 0) or the columns (side 1) of a parameter, at zero or 1.

    Args:
      p: the parameter.
      side: 0 or 1.
      identity: whether to start at the identity.
      largest: sides longer than this own none.

    Returns:
      An array (batch, n, n) in at least float32, split over a mesh as the parameter's side is; an
      `unused_slot` where there is none.
    """
    dtype = at_least_float32(p.dtype)
    if not is_stack(p.shape) or matrix_shape(p.shape, default_axes(p.ndim))[side] > largest:
        return unused_slot(p, dtype)
    stack = stack_of(jnp.zeros_like(p, dtype=dtype))
    line = stack.sum(axis=2 - side)
    n = line.shape[1]
    square = jnp.broadcast_to(line[:, :, None], (*line.shape, n))
    return square + jnp.eye(n, dtype=dtype)[None] if identity else square
