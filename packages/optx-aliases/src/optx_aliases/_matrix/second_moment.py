"""Second moments of orthogonal updates: their mean square, by which each neuron or entry is divided.

O is the orthogonal update of one matrix (rows × columns), g its gradient, m̂ its momentum, ‖·‖ the Frobenius
norm, b2 = second_moment_beta:

"row"      v ← b2·v + (1 − b2)·mean over the rows of |O|²     (one number for each column, an output)
           Ô = O / (√v + eps),   u = Ô·‖O‖ / ‖Ô‖
"entry"    v ← b2·v + (1 − b2)·|O|²                           (O orthogonalizes sign(m̂))
           Ô = O / (√v + eps),   u = Ô·√min(rows, columns) / ‖Ô‖
"scalar"   v ← b2·v + (1 − b2)·‖g‖²
           u = O·‖m̂‖ / (√(v / (1 − b2ᵗ)) + eps)

In a torch weight (outputs × inputs) NorMuon's numbers belong to the rows, hence the name; in a kernel
(inputs × outputs) they belong to the columns. "row" and "entry" need no bias correction: u has a norm of its
own. Followed by `scale_by_shape(consistent_rms=0.2)`, the step of AdaMuon has its norm 0.2·√(rows·columns).

References: Li et al., "NorMuon: Making Muon more efficient and scalable", 2025, with the norm of O as in the
authors' code (0.2·√(rows·columns) in the paper's algorithm); Si, Zhang, Shen, "AdaMuon: Adaptive Muon
Optimizer", 2025; "scalar" is Adam's ratio of norms, as in NAMO ("Adam Improves Muon", 2026).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from jax import Array

from optx_aliases._matrix.by_axes import map_by_axes
from optx_aliases._matrix.matrices import Axes, matrix_shape
from optx_aliases._matrix.norms import nonzero, root
from optx_core import Params, PyTree, build, tree

SecondMoment: TypeAlias = Literal["row", "entry", "scalar"] | None


def initial_moments(kind: SecondMoment, params: Params, axes: Sequence[Axes | None]) -> PyTree:
    """Returns v = 0 for each parameter: of its shape, with size 1 in place of the axes averaged over."""
    slots, structure = tree.flatten(tree.slots_like(params, real=True))
    return structure.unflatten(
        [
            x if own is None else jnp.sum(x, _averaged(kind, own), keepdims=True)
            for x, own in zip(slots, axes, strict=True)
        ]
    )


def _averaged(kind: SecondMoment, axes: Axes) -> tuple[int, ...]:
    return {"row": axes.rows, "scalar": axes.rows + axes.columns}.get(str(kind), ())


def to_orthogonalize(kind: SecondMoment, momentum: Array) -> Array:
    """Returns what is orthogonalized: the momentum, or its sign."""
    return jnp.sign(momentum) if kind == "entry" else momentum


def rescaled(
    kind: SecondMoment,
    orthogonal: Sequence[Array],
    moments: Sequence[Array],
    grads: Sequence[Array],
    momenta: Sequence[Array],
    axes: Sequence[Axes],
    *,
    where: str,
    **operands: Any,
) -> tuple[list[Array], list[Array]]:
    """Divides orthogonal updates by the root of their second moments, and rescales them.

    Args:
      kind: the second moment.
      orthogonal: O of each leaf.
      moments: v of each leaf, as from `initial_moments`.
      grads: g of each leaf.
      momenta: m̂ of each leaf.
      axes: the matrix axes of each leaf.
      where: the name of the function, for errors.
      **operands: b2, eps and t.

    Returns:
      The updates and the renewed second moments, two lists.
    """
    updates, renewed = map_by_axes(
        _leaf,
        axes,
        orthogonal,
        reduced=(moments,),
        reads=(grads, momenta) if kind == "scalar" else (),
        name=where,
        kind=kind,
        **operands,
    )
    return updates, renewed


def _leaf(
    o: Array, v: Array, *reads: Array, kind: SecondMoment, axes: Axes, b2: Any, eps: Any, t: Any
) -> tuple[Array, Array]:
    axes = Axes(*axes)
    matrix = axes.rows + axes.columns
    if kind == "scalar":
        g, m = (build.squarable(x, x.size) for x in reads)
        v = b2 * v + (1 - b2) * _squares(g, matrix)
        size = root(_squares(m, matrix))
        return o * (size / nonzero(root(v / (1 - b2**t)) + eps)), v
    squares = build.abs_squared(o)
    rows, columns = matrix_shape(o.shape, axes)
    if kind == "row":
        squares = jnp.sum(squares, axes.rows, keepdims=True) / rows
    v = b2 * v + (1 - b2) * squares
    divisor = nonzero(root(v) + eps)
    # ‖Ô‖² (for "row", divided by the rows) from the squares, so that matrices are read only once.
    size = jnp.sum(squares / divisor / divisor, matrix, keepdims=True)
    wanted = jnp.sum(squares, matrix, keepdims=True) if kind == "row" else min(rows, columns)
    return o / divisor * root(wanted / nonzero(size)), v


def _squares(x: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(build.abs_squared(x), axes, keepdims=True)
