"""Equations of one matrix that need all matrices of its stack, which may be on other devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array, lax

from optx_aliases._matrix.mesh_layouts import gathered, index_of

MATRICES = "matrices of this device"
"""The name of the axis of the matrices that a device owns (`jax.vmap`)."""


class Spread(NamedTuple):
    """The places of the matrices of a stack, for equations that see one of them.

    Attributes:
      home: the mesh axes that the stack is split over where it lies.
      moved: the mesh axes over which its parts are shared out.
      size: the number of matrices in each part.
      leaves: the number of stacks that are shared out together.
    """

    home: tuple[str, ...]
    moved: tuple[str, ...]
    size: int
    leaves: int


def over_leaf(reduce: Callable[[Array], Array], x: Array, spread: Any) -> Array:
    """Reduces an array, or the arrays of all matrices of a stack, to one number.

    Args:
      reduce: such as `jnp.max`: a reduction whose result for a stack is that of its matrices' results.
      x: the array; inside `on_owners`, that of one matrix.
      spread: the `Spread` that the equations got, if x belongs to one of several matrices.

    Returns:
      A scalar, the same for all matrices of the stack.
    """
    own = reduce(x)
    if not isinstance(spread, Spread):
        return own
    everyone, place = lax.all_gather(own, MATRICES), place_of(spread)
    everyone = gathered(everyone, spread.moved).reshape(-1)[: spread.size * spread.leaves]
    table = everyone.reshape(spread.size, spread.leaves)
    stack = lax.dynamic_index_in_dim(table, place % spread.leaves, 1, keepdims=False)
    return reduce(gathered(stack, spread.home).reshape(-1))


def part_of_leaf(make: Callable[[tuple[int, ...]], Array], x: Array, spread: Any) -> Array:
    """Returns `make(shape)` for a stack x; for one of its matrices, this matrix of it.

    Args:
      make: makes an array of a shape, such as random numbers.
      x: the stack, (n, rows, columns); inside `on_owners`, one matrix (1, rows, columns).
      spread: as for `over_leaf`.

    Returns:
      An array of x's shape.
    """
    if not isinstance(spread, Spread):
        return make(x.shape)
    homes = lax.axis_size(spread.home) if spread.home else 1
    stack = make((homes * spread.size, *x.shape[1:]))
    place = index_of(spread.home) * spread.size + place_of(spread) // spread.leaves
    return lax.dynamic_index_in_dim(stack, place)


def place_of(spread: Spread) -> Array:
    """Returns the place of this matrix among those that are shared out together."""
    return index_of(spread.moved) * lax.axis_size(MATRICES) + lax.axis_index(MATRICES)
