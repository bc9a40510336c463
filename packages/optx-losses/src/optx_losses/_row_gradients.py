"""The gradients of the values of rows f·W + b, computed in one pass over the logits.

df_i = Σ_c slope_ic·W_cᵀ,   dW = Σ_i f_iᵀ·slope_i,   db = Σ_i slope_i,   slope = g·dvalue/dx

For one chunk of rows, x fills a buffer of rows × classes, and the slopes are computed for one block of
classes at a time: they never exist all at once. An accelerator adds a product to a sum in place and
treats all classes as one block. A CPU writes the product first, and a block of it stays in the caches.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_losses._rows import Held, Plan, joined, logits, of_included, split, through_bounds

_CPU_BLOCKS = 8
_LEAST_CLASSES = 1024  # of a block


def row_gradients(
    plan: Plan,
    moving: tuple[bool, ...],
    f: Any,
    w: Any,
    b: Any,
    given: Any,
    g: jax.Array | None = None,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """The values, and the gradients with respect to those of f, W and b in `moving`.

    They are the gradients of Σ g·values, or without g of the sum of the values.
    """
    of_f, of_w, of_b = moving
    bounds, numbers, rows, included = given

    def chunk(sums: Any, now: Any) -> tuple[Any, Any]:
        # Tied to the logits, so that the slices of W are not all copied ahead of the loop over chunks.
        f, rows, included, g = now
        x, w_here = lax.optimization_barrier((logits(plan, f, w, b, bounds), w))
        values, held = plan.rule.hold(plan, x, numbers, rows, bounds.cap is not None)

        def slopes(held: Held, classes: jax.Array) -> jax.Array:
            slope = plan.rule.slopes(numbers, rows, held, classes, g)
            return jnp.where(included[:, None], through_bounds(slope, held.wide[0], bounds), 0)

        add = functools.partial(_add, plan, slopes, held, f, w_here)
        zero = jnp.zeros_like(f) if of_f else None
        df, *sums = lax.platform_dependent(
            (zero, *sums),
            cpu=functools.partial(add, _CPU_BLOCKS),
            default=functools.partial(add, 1),
        )
        return tuple(sums), (of_included(included, values), df)

    zeros = (jnp.zeros_like(w) if of_w else None, jnp.zeros_like(b) if of_b else None)
    all_rows = (f, rows, included, g)
    chunks = split(plan.size, all_rows)
    if chunks is None:
        (dw, db), (values, df) = chunk(zeros, all_rows)
    else:
        (dw, db), (values, df) = lax.scan(chunk, zeros, chunks)
        values = joined(values, f.shape[0])
        df = joined(df, f.shape[0]) if of_f else None
    return values, tuple(d for moves, d in zip(moving, (df, dw, db), strict=True) if moves)


def _add(
    plan: Plan, slopes: Any, held: Held, f: jax.Array, w: jax.Array, blocks: int, sums: Any
) -> Any:
    """Adds the gradients of a chunk of rows to df, dW and db, one block of classes at a time."""
    classes = w.shape[1]
    blocks = max(1, min(blocks, classes // _LEAST_CLASSES))
    size = -(-classes // blocks)
    product = functools.partial(jnp.matmul, precision=plan.precision)

    def add_block(i: Any, sums: Any) -> Any:
        df, dw, db = sums
        first = jnp.minimum(i * size, classes - size)
        numbered = first + jnp.arange(size, dtype=jnp.int32)
        cut = functools.partial(
            lax.dynamic_slice_in_dim, start_index=first, slice_size=size, axis=1
        )
        slope = slopes(held._replace(wide=tuple(map(cut, held.wide))), numbered)
        if classes % size:  # the last block overlaps the one before it
            slope = jnp.where(numbered[None, :] >= i * size, slope, 0)
        if df is not None:
            df = df + product(slope, cut(w).T)
        if dw is not None:
            dw = _add_at(first, dw, product(f.T, slope))
        if db is not None:
            db = _add_at(first, db, jnp.sum(slope, axis=0))
        return df, dw, db

    if blocks == 1:
        return add_block(jnp.int32(0), sums)
    return lax.fori_loop(0, blocks, add_block, sums)


def _add_at(first: Any, sums: jax.Array, more: jax.Array) -> jax.Array:
    """Adds `more` to the classes from `first` on, along the last axis."""
    old = lax.dynamic_slice_in_dim(sums, first, more.shape[-1], axis=-1)
    return lax.dynamic_update_slice_in_dim(sums, old + more, first, axis=-1)
