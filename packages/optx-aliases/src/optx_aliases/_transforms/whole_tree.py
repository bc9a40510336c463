"""What optimizers share that measure all parameters together.

A sum over the whole tree is taken array by array inside leaf equations, as a `reduced` slot that starts
at zero: one pass over each array gives the new moments and the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Params, PyTree, ScalarOrSchedule, tree
from optx_core.build import Decay, Flow, at_least_float32, common_real_dtype, decay_of


def real_dtype_of(params: Params) -> Any:
    """The dtype of a number that belongs to all parameters: float32, or float64 for wide ones."""
    leaves = [getattr(p, "dtype", None) or jnp.result_type(p) for p in jax.tree.leaves(params)]
    return common_real_dtype(*leaves)


def copy_of(params: Params, dtype: Any = None) -> PyTree:
    """The parameters in buffers of their own, in at least float32; None where there is no gradient."""

    def leaf(p: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(p), jnp.inexact):
            return None
        return jnp.copy(jnp.asarray(p)).astype(tree.slot_dtype(p, dtype))

    return jax.tree.map(leaf, params)


def where_masked(
    mask: PyTree | Callable[[Params], PyTree] | None, params: Params, number: jax.Array, where: str
) -> PyTree:
    """The number for each array of a mask, 0 for the others; without a mask for all."""
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


def zero_sums(flow: Flow, real: Any, size: int | None = None) -> PyTree:
    """A zero (or `size` of them) for each array, to add up in."""
    shape = () if size is None else (size,)
    return jax.tree.map(lambda g: jnp.zeros(shape, real), flow.skeleton)


def add_up(sums: PyTree, real: Any, size: int | None = None) -> jax.Array:
    """The sum over all arrays."""
    parts = jax.tree.leaves(sums)
    if not parts:
        return jnp.zeros(() if size is None else (size,), real)
    return jnp.sum(jnp.stack(parts), axis=0)


def total(
    flow: Flow,
    leaf: Callable[..., tuple[jax.Array, jax.Array]],
    *reads: PyTree,
    real: Any,
    size: int | None = None,
    operands: Mapping[str, Any] | None = None,
) -> jax.Array:
    """A sum over the whole tree of updates, before they move on.

    Args:
      flow: the updates.
      leaf: `leaf(g, sums, *reads, **operands)` returns g and what one array adds to `sums`.
      *reads: trees that the leaf reads.
      real: the dtype of the result.
      size: the number of sums; None for one scalar.
      operands: the leaf's keyword arguments.

    Returns:
      A scalar, or an array of shape `(size,)`.
    """
    zeros = zero_sums(flow, real, size)
    _, sums = tree.map_leaves(
        leaf, flow.updates, reduced=(zeros,), reads=reads, name=flow.trail, **(operands or {})
    )
    return add_up(sums, real, size)


def value_at(value: ScalarOrSchedule, count: jax.Array, real: Any = None) -> Any:
    """A number, or a schedule's value at a count, never narrower than float32."""
    if callable(value):
        value = jnp.asarray(value(count))
        if real is None:
            inexact = jnp.issubdtype(value.dtype, jnp.inexact)
            return value.astype(at_least_float32(value.dtype) if inexact else jnp.float32)
    return value if real is None else jnp.asarray(value).astype(real)


def inner_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """Re Σ conj(x)·y of two arrays."""
    if jnp.iscomplexobj(x):
        return jnp.sum(x.real * y.real + x.imag * y.imag)
    return jnp.sum(x * y)


def sum_of_squares(x: jax.Array) -> jax.Array:
    """Σ |x|² of an array."""
    return jnp.sum(tree.abs_squared(x))


def decay_as(value: Any, real: Any) -> Decay:
    """β and 1 − β as arrays, outside of leaf equations."""
    decay = decay_of(value)
    return Decay(jnp.asarray(decay.value).astype(real), jnp.asarray(decay.complement).astype(real))


def quotient(a: jax.Array, b: jax.Array) -> jax.Array:
    """The quotient, 0 where b is not greater than 0; its gradient is never NaN."""
    positive = b > 0
    return jnp.where(positive, a / jnp.where(positive, b, 1), 0)


def root(x: jax.Array) -> jax.Array:
    """√x, with the slope 0 at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
