"""The losses of rows f·W + b and the gradients of their sum, made while the logits are there.

df_i = Σ_c slope_ic·W_cᵀ,   dW = Σ_i f_iᵀ·slope_i,   db = Σ_i slope_i,   slope = dloss/dx

Of one chunk of rows, x takes a buffer of rows × classes; e = exp(x − max x) takes its place, and
p = e / Σ e is made from that for a block of classes at a time, so that the slopes are never all
there. An accelerator adds a product to a sum in place and takes all classes in one block. The CPU
writes the product first, and a block of it stays in its caches.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_losses._log_softmax import finite_max
from optx_losses._row_losses import (
    at,
    even_shares,
    is_class,
    losses_of,
    mean,
    row_slopes,
    there_count,
)
from optx_losses._rows import Plan, joined, logits, split

_CPU_BLOCKS = 8
_LEAST_CLASSES = 1024  # in a block


class _Rows(NamedTuple):
    """What the slopes of a chunk of rows are made of, apart from numbers of the call.

    Attributes:
      f: the features.
      right: the right classes.
      counts: whether a row counts.
      held: e, or x where the slopes need it: with smoothing or a bound on x.
      log_z: L.
      total: Σ e, None where x is held.
      there: how many classes are there, None without smoothing.
    """

    f: jax.Array
    right: jax.Array
    counts: jax.Array
    held: jax.Array
    log_z: jax.Array
    total: jax.Array | None
    there: jax.Array | None


def unit_gradients(
    plan: Plan,
    moving: tuple[bool, ...],
    f: Any,
    w: Any,
    b: Any,
    numbers: Any,
    right: jax.Array,
    counts: jax.Array,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """The losses, and the gradients of their sum by those of f, W, b that move."""
    of_f, of_w, of_b = moving

    def chunk(sums: Any, now: Any) -> tuple[Any, Any]:
        # Tied to the logits, the slices of W are not all made ahead of the loop over the chunks.
        x, w_here = lax.optimization_barrier((logits(plan, now[0], w, b, numbers[2]), w))
        loss, rows = _hold(plan, x, numbers, *now)
        zero = jnp.zeros_like(rows.f) if of_f else None
        add = functools.partial(_add, plan, numbers, rows, w_here)
        df, *sums = lax.platform_dependent(
            (zero, *sums),
            cpu=functools.partial(add, _CPU_BLOCKS),
            default=functools.partial(add, 1),
        )
        return tuple(sums), (loss, df)

    zeros = (jnp.zeros_like(w) if of_w else None, jnp.zeros_like(b) if of_b else None)
    chunks = split(plan.size, f, right, counts)
    if chunks is None:
        (dw, db), (loss, df) = chunk(zeros, (f, right, counts))
    else:
        (dw, db), (loss, df) = lax.scan(chunk, zeros, chunks)
        loss = joined(loss, f.shape[0])
        df = joined(df, f.shape[0]) if of_f else None
    return loss, tuple(d for moves, d in zip(moving, (df, dw, db), strict=True) if moves)


def _hold(
    plan: Plan, x: jax.Array, numbers: Any, f: jax.Array, right: jax.Array, counts: jax.Array
) -> tuple[jax.Array, _Rows]:
    share, z, cap = numbers
    x_right = at(x, right)
    m = finite_max(x, (1,))[:, 0]
    # After x_right has been read, so that e can be written over x. (NaN is the row's value anyway.)
    m = jnp.where(jnp.isnan(x_right), lax.stop_gradient(x_right), m)
    e = jnp.exp(x - m[:, None])
    total = jnp.sum(e, axis=1)
    total = jnp.where(total == 0, 1, total)
    log_z = jnp.log(total) + m
    loss = losses_of(log_z, x_right, mean(x) if plan.smooth else None, share, z)
    there = there_count(x) if plan.smooth else None
    loss = jnp.where(counts, loss, 0)
    if there is None and cap is None:
        return loss, _Rows(f, right, counts, e, log_z, total, there)
    return loss, _Rows(f, right, counts, x, log_z, None, there)


def _add(plan: Plan, numbers: Any, rows: _Rows, w: jax.Array, blocks: int, sums: Any) -> Any:
    """Adds the gradients of a chunk of rows to df, dW and db, a block of classes after another."""
    classes = w.shape[1]
    blocks = max(1, min(blocks, classes // _LEAST_CLASSES))
    size = -(-classes // blocks)
    product = functools.partial(jnp.matmul, precision=plan.precision)

    def add_block(i: Any, sums: Any) -> Any:
        df, dw, db = sums
        first = jnp.minimum(i * size, classes - size)
        numbered = first + jnp.arange(size, dtype=jnp.int32)
        slope = _slopes(plan, numbers, rows, first, numbered)
        if classes % size:  # the last block begins among the classes of the one before
            slope = jnp.where(numbered[None, :] >= i * size, slope, 0)
        if df is not None:
            df = df + product(slope, lax.dynamic_slice_in_dim(w, first, size, axis=1).T)
        if dw is not None:
            dw = _add_at(first, dw, product(rows.f.T, slope))
        if db is not None:
            db = _add_at(first, db, jnp.sum(slope, axis=0))
        return df, dw, db

    if blocks == 1:
        return add_block(jnp.int32(0), sums)
    return lax.fori_loop(0, blocks, add_block, sums)


def _slopes(plan: Plan, numbers: Any, rows: _Rows, first: Any, numbered: jax.Array) -> jax.Array:
    """Dloss/dx for the classes `numbered`, which begin with `first`."""
    share, z, cap = numbers
    some = lax.dynamic_slice_in_dim(rows.held, first, numbered.size, axis=1)
    if rows.total is None:
        p = jnp.exp(some - rows.log_z[:, None])
    else:
        p = some * (1 / rows.total)[:, None]
    even = None if rows.there is None else even_shares(some, share, rows.there)
    slope = row_slopes(p, rows.log_z, is_class(numbered, rows.right), share, z, even)
    if cap is not None:
        there = some > -jnp.inf
        slope = slope * jnp.where(there, 1 - (jnp.where(there, some, 0) / cap) ** 2, 0)
    return jnp.where(rows.counts[:, None], slope, 0)


def _add_at(first: Any, sums: jax.Array, more: jax.Array) -> jax.Array:
    """Adds to the classes from `first`; they are the last axis."""
    old = lax.dynamic_slice_in_dim(sums, first, more.shape[-1], axis=-1)
    return lax.dynamic_update_slice_in_dim(sums, old + more, first, axis=-1)
