"""The losses of rows f·W + b and the gradients of their sum, computed in one pass over the logits.

df_i = Σ_c slope_ic·W_cᵀ,   dW = Σ_i f_iᵀ·slope_i,   db = Σ_i slope_i,   slope = dloss/dx

For one chunk of rows, x fills a buffer of rows × classes, e = exp(x − max x) replaces it, and
p = e / Σ e is computed from e for one block of classes at a time: the slopes never exist all at once.
An accelerator adds a product to a sum in place and treats all classes as one block. A CPU writes the
product first, and a block of it stays in the caches.
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
    class_count,
    even_shares,
    is_class,
    losses_of,
    mean,
    row_slopes,
)
from optx_losses._rows import Plan, joined, logits, split

_CPU_BLOCKS = 8
_LEAST_CLASSES = 1024  # of a block


class _Rows(NamedTuple):
    """The arrays that determine the slopes of a chunk of rows.

    Attributes:
      f: the features.
      target: the labels.
      included: boolean, which rows have a loss.
      held: e, or x if the slopes need it (with smoothing or a bound on x).
      log_z: L.
      total: Σ e, None if `held` is x.
      classes: the number of classes that are not excluded, None without smoothing.
    """

    f: jax.Array
    target: jax.Array
    included: jax.Array
    held: jax.Array
    log_z: jax.Array
    total: jax.Array | None
    classes: jax.Array | None


def unit_gradients(
    plan: Plan,
    moving: tuple[bool, ...],
    f: Any,
    w: Any,
    b: Any,
    numbers: Any,
    target: jax.Array,
    included: jax.Array,
) -> tuple[jax.Array, tuple[Any, ...]]:
    """The losses, and the gradients of their sum with respect to those of f, W and b in `moving`."""
    of_f, of_w, of_b = moving

    def chunk(sums: Any, now: Any) -> tuple[Any, Any]:
        # Tied to the logits, so that the slices of W are not all copied ahead of the loop over chunks.
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
    chunks = split(plan.size, f, target, included)
    if chunks is None:
        (dw, db), (loss, df) = chunk(zeros, (f, target, included))
    else:
        (dw, db), (loss, df) = lax.scan(chunk, zeros, chunks)
        loss = joined(loss, f.shape[0])
        df = joined(df, f.shape[0]) if of_f else None
    return loss, tuple(d for moves, d in zip(moving, (df, dw, db), strict=True) if moves)


def _hold(
    plan: Plan, x: jax.Array, numbers: Any, f: jax.Array, target: jax.Array, included: jax.Array
) -> tuple[jax.Array, _Rows]:
    share, z, cap = numbers
    x_target = at(x, target)
    m = finite_max(x, (1,))[:, 0]
    # Reads x_target first, so that e can overwrite x. (A NaN is the value of its row anyway.)
    m = jnp.where(jnp.isnan(x_target), lax.stop_gradient(x_target), m)
    e = jnp.exp(x - m[:, None])
    total = jnp.sum(e, axis=1)
    total = jnp.where(total == 0, 1, total)
    log_z = jnp.log(total) + m
    loss = losses_of(log_z, x_target, mean(x) if plan.smooth else None, share, z)
    count = class_count(x) if plan.smooth else None
    loss = jnp.where(included, loss, 0)
    if count is None and cap is None:
        return loss, _Rows(f, target, included, e, log_z, total, count)
    return loss, _Rows(f, target, included, x, log_z, None, count)


def _add(plan: Plan, numbers: Any, rows: _Rows, w: jax.Array, blocks: int, sums: Any) -> Any:
    """Adds the gradients of a chunk of rows to df, dW and db, one block of classes at a time."""
    classes = w.shape[1]
    blocks = max(1, min(blocks, classes // _LEAST_CLASSES))
    size = -(-classes // blocks)
    product = functools.partial(jnp.matmul, precision=plan.precision)

    def add_block(i: Any, sums: Any) -> Any:
        df, dw, db = sums
        first = jnp.minimum(i * size, classes - size)
        numbered = first + jnp.arange(size, dtype=jnp.int32)
        slope = _slopes(plan, numbers, rows, first, numbered)
        if classes % size:  # the last block overlaps the one before it
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
    """dloss/dx for the classes `numbered`, which start at `first`."""
    share, z, cap = numbers
    some = lax.dynamic_slice_in_dim(rows.held, first, numbered.size, axis=1)
    if rows.total is None:
        p = jnp.exp(some - rows.log_z[:, None])
    else:
        p = some * (1 / rows.total)[:, None]
    even = None if rows.classes is None else even_shares(some, share, rows.classes)
    slope = row_slopes(p, rows.log_z, is_class(numbered, rows.target), share, z, even)
    if cap is not None:
        present = some > -jnp.inf
        slope = slope * jnp.where(present, 1 - (jnp.where(present, some, 0) / cap) ** 2, 0)
    return jnp.where(rows.included[:, None], slope, 0)


def _add_at(first: Any, sums: jax.Array, more: jax.Array) -> jax.Array:
    """Adds `more` to the classes from `first` on, along the last axis."""
    old = lax.dynamic_slice_in_dim(sums, first, more.shape[-1], axis=-1)
    return lax.dynamic_update_slice_in_dim(sums, old + more, first, axis=-1)
