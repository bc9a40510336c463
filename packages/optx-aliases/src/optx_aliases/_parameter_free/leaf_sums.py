"""Sums over all parameters, taken array by array in the pass that renews the moments.

Equations add what one array contributes to `sums`, a slot that holds zeros; the sums over the tree are
handed back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import Params, PyTree, build, tree


def inner_product(x: Array, y: Array) -> Array:
    """Re Σ conj(x)·y of two arrays."""
    if jnp.iscomplexobj(x):
        return jnp.sum(x.real * y.real + x.imag * y.imag)
    return jnp.sum(x * y)


def sum_of_squares(x: Array) -> Array:
    """Σ |x|² of an array."""
    return jnp.sum(build.abs_squared(x))


def zero_sums(flow: build.Flow, number: int, dtype: Any) -> PyTree:
    """`number` zeros for each array."""
    return jax.tree.map(lambda _: jnp.zeros(number, dtype), flow.skeleton)


def add_up(sums: PyTree, number: int, dtype: Any) -> Array:
    """The sums over all arrays, of shape `(number,)`."""
    parts = jax.tree.leaves(sums)
    return jnp.sum(jnp.stack(parts), axis=0) if parts else jnp.zeros(number, dtype)


def measured(
    flow: build.Flow,
    leaf: Callable[..., Any],
    number: int,
    dtype: Any,
    *,
    slots: tuple[PyTree, ...] = (),
    reads: tuple[PyTree, ...] = (),
    operands: Mapping[str, Any] | None = None,
) -> tuple[Any, ...]:
    """Measures all arrays now, before the updates move on.

    Args:
      flow: the updates.
      leaf: `leaf(g, *slots, sums, *reads, **operands)` returns g, the renewed slots and `sums` with what
        this array adds.
      number: the number of sums.
      dtype: their dtype.
      slots: trees of arrays that the leaf renews.
      reads: trees of arrays that it reads.
      operands: its keyword arguments.

    Returns:
      The sums over the tree, an array of shape `(number,)`, and the renewed slots.
    """
    step = build.LeafStep(
        leaf,
        slots=slots,
        reduced=(zero_sums(flow, number, dtype),),
        reads=reads,
        close=lambda *renewed: renewed,
        operands=operands or {},
    )
    *renewed, sums = flow.push(step)()
    return add_up(sums, number, dtype), *renewed


def where_masked(mask: build.Mask, params: Params, number: Array, where: str) -> PyTree:
    """The number for each array that a mask selects, 0 for the others; without a mask for all."""
    leaves, structure = tree.flatten(params)
    flags = [True] * len(leaves)
    if mask is not None:
        flags = structure.flatten_up_to(tree.mask_like(mask, params, where))
    zero = jnp.zeros_like(number)
    return structure.unflatten(
        [
            leaf if tree.is_placeholder(leaf) else number if flag else zero
            for leaf, flag in zip(leaves, flags, strict=True)
        ]
    )
