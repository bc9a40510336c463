"""The equations for one array, lifted to leaves whose matrices lie along different axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax import Array

from optx_aliases._matrix.matrices import Axes
from optx_core import tree


def map_by_axes(
    leaf: Callable[..., tuple[Array, ...]],
    axes: Sequence[Axes],
    updates: Sequence[Array],
    *,
    slots: Sequence[Sequence[Array]] = (),
    reduced: Sequence[Sequence[Array]] = (),
    reads: Sequence[Sequence[Array]] = (),
    **operands: Any,
) -> list[list[Array]]:
    """`tree.map_leaves` of a list of arrays, each with its matrix axes.

    Args:
      leaf: `leaf(g, *slots, *reduced, *reads, axes=own, **operands)`; own is a plain tuple.
      axes: the matrix axes of each array.
      updates: the arrays.
      slots, reduced, reads: further lists of arrays, as for `tree.map_leaves`.
      **operands: the leaf's keyword arguments, and `name`.

    Returns:
      The new updates, and the renewed slots and reduced slots, as lists.
    """
    columns = [updates, *slots, *reduced]
    results = [list(x) for x in columns]
    for own in dict.fromkeys(axes):
        members = [k for k, x in enumerate(axes) if x == own]
        part = lambda x: [x[k] for k in members]  # noqa: B023, E731 (called within the loop)
        renewed = tree.map_leaves(
            leaf,
            part(updates),
            *map(part, slots),
            reduced=tuple(map(part, reduced)),
            reads=tuple(map(part, reads)),
            axes=own,
            **operands,
        )
        for column, values in zip(results, renewed, strict=True):
            for k, x in zip(members, values, strict=True):
                column[k] = x
    return results
