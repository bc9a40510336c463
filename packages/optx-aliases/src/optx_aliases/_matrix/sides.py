"""Slots with square matrices for the sides of a parameter: its rows and its columns.

A slot that a parameter does not need holds one number, since checkpoints do not keep empty arrays; its
single axis distinguishes it from a stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from optx_aliases._matrix.explicit_mesh import whole
from optx_aliases._matrix.matrices import default_axes, side_lengths, to_stack
from optx_aliases._matrix.owners import OwnerAxes, kept_by_owners
from optx_core import PyTree, build

ROUNDING_ERRORS = 32


def unused_slot(p: jax.Array, dtype: Any) -> jax.Array:
    """Returns one zero, of shape (1,), on the parameter's mesh."""
    return jnp.zeros_like(jnp.reshape(jnp.sum(p), (1,)), dtype=dtype)


def is_used(slot: jax.Array) -> bool:
    """Returns False for an `unused_slot`, True for stacks of matrices or diagonals."""
    return slot.ndim > 1


def stack_of(p: jax.Array) -> jax.Array:
    """Reshapes a parameter to a stack of matrices; gathers one of more than three axes."""
    return to_stack(whole(p) if p.ndim > 3 else p, default_axes(p.ndim))


def side_matrices(p: jax.Array, side: int, largest: int, *, identity: bool = False) -> jax.Array:
    """Returns square matrices (batch, n, n) for a side of a parameter of at most `largest` entries.

    Args:
      p: the parameter.
      side: 0 for the rows, 1 for the columns.
      largest: the length of the longest side that has matrices.
      identity: whether to return identity matrices instead of zeros.

    Returns:
      An array of at least float32, laid over a mesh as the parameter's side is, or an `unused_slot`.
    """
    dtype, n = build.at_least_float32(p.dtype), side_lengths(p.shape)[side]
    if not 0 < n <= largest:
        return unused_slot(p, dtype)
    line = stack_of(jnp.zeros_like(p, dtype=dtype)).sum(axis=2 - side)
    square = jnp.broadcast_to(line[:, :, None], (*line.shape, n))
    return square + jnp.eye(n, dtype=dtype)[None] if identity else square


def side_slot(side: int, *, identity: bool = False) -> build.Slot:
    """Declares `side_matrices`, kept by their owners, as a slot.

    The optimizer has the arguments `max_precond_dim` and `owner_axes`. It may have the argument `one_sided`:
    whether only the shorter side has matrices.
    """

    def init(
        p: Any,
        *,
        max_precond_dim: int,
        owner_axes: OwnerAxes,
        one_sided: bool = False,
        **_: Any,
    ) -> jax.Array:
        rows, columns = side_lengths(p.shape)
        left_out = one_sided and side == (columns >= rows)
        largest = 0 if left_out else max_precond_dim
        return kept_by_owners(side_matrices(p, side, largest, identity=identity), p, owner_axes)

    return build.slot(init=init, exact=True)


OfRows: TypeAlias = Annotated[PyTree, side_slot(0)]
"""A field with matrices for the rows of each parameter, zero at first."""
OfColumns: TypeAlias = Annotated[PyTree, side_slot(1)]
"""A field with matrices for the columns."""
IdentityOfRows: TypeAlias = Annotated[PyTree, side_slot(0, identity=True)]
"""A field with matrices for the rows, the identity at first."""
IdentityOfColumns: TypeAlias = Annotated[PyTree, side_slot(1, identity=True)]
"""The same for the columns."""


def adjoint(x: jax.Array) -> jax.Array:
    """Returns the conjugate transpose of each matrix; an unused slot unchanged."""
    return jnp.conj(jnp.swapaxes(x, -1, -2)) if is_used(x) else x


def rotated(left: jax.Array, x: jax.Array, right: jax.Array) -> jax.Array:
    """Returns left·x·right for stacks, without unused factors."""
    x = product(left, x) if is_used(left) else x
    return product(x, right) if is_used(right) else x


def covariances(left: Any, right: Any, x: jax.Array, kept: Any, new: Any) -> tuple[Any, Any]:
    """Returns kept·left + new·x·xᴴ and kept·right + new·xᴴ·x; unused slots unchanged."""
    left = kept * left + new * product(x, adjoint(x)) if is_used(left) else left
    right = kept * right + new * product(adjoint(x), x) if is_used(right) else right
    return left, right


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns x·y at the highest precision: with TF32 products, bases leave the span of the gradients."""
    return jnp.matmul(x, y, precision=lax.Precision.HIGHEST)


def without_rounding(x: jax.Array) -> jax.Array:
    """Sets entries of projected matrices to zero that may be rounding errors.

    A gradient of less than full rank has zeros in its eigenbasis; computed, they are of the size of the
    rounding error of the largest entry, and an optimizer that divides by a root of squares would enlarge them
    to full steps.
    """
    size = lax.stop_gradient(jnp.abs(x))
    largest = jnp.max(size, axis=(-2, -1), keepdims=True)
    return jnp.where(size > ROUNDING_ERRORS * jnp.finfo(x.dtype).eps * largest, x, 0)


def map_sides(
    function: Callable[..., jax.Array], first: tuple[Any, Any], last: tuple[Any, Any]
) -> tuple[jax.Array, jax.Array]:
    """Applies `function(x, y)` to the slots of both sides; returns y where x is unused."""
    left, right = (function(x, y) if is_used(x) else y for x, y in zip(first, last, strict=True))
    return left, right
