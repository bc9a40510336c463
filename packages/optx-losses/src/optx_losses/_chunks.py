"""The losses of rows f·W + b, a chunk of rows at a time, and their derivatives.

With g the cotangents of the losses, dW = Σ_i g_i·f_iᵀ·slope_i needs every row's slopes, and g is
known only after the way forward. Two ways round keeping all slopes:

recomputed:          the logits of each chunk are computed again going back (Chen et al., "Training
                     Deep Nets with Sublinear Memory Cost", 2016). Four matrix products.
with_unit_gradients: the way forward adds up dW and df for g = 1 while it holds the slopes. Nearly
                     always the losses are summed or averaged, so that all g_i are one number, and
                     going back multiplies by it. Three matrix products. Where they are not all
                     equal (looked at when running), the first way is taken.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero, linear_call

from optx_losses._row_losses import LOG_NORMALIZER, log_normalizer, row_losses, row_slopes


class Plan(NamedTuple):
    """What is decided before tracing.

    Attributes:
      size: rows in a chunk.
      smooth: whether labels are smoothed.
      precision: of the matrix products.
    """

    size: int
    smooth: bool
    precision: Any


def recomputed(
    plan: Plan, f: Any, w: Any, b: Any, numbers: Any, right: jax.Array, counts: jax.Array
) -> jax.Array:
    """The losses of rows (0 where one does not count), computed again going back."""
    share, z, cap = numbers

    def chunk_loss(f: jax.Array, right: jax.Array, counts: jax.Array) -> jax.Array:
        x = _logits(plan, f, w, b, cap)
        return jnp.where(counts, row_losses(plan.smooth, x, right, share, z), 0)

    split = _split(plan.size, f, right, counts)
    if split is None:
        return chunk_loss(f, right, counts)
    policy = jax.checkpoint_policies.save_only_these_names(LOG_NORMALIZER)
    chunk_loss = jax.checkpoint(chunk_loss, policy=policy, prevent_cse=False)
    loss = lax.scan(lambda _, chunk: (None, chunk_loss(*chunk)), None, split)[1]
    return loss.reshape(-1)[: f.shape[0]]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def with_unit_gradients(
    plan: Plan, f: Any, w: Any, b: Any, numbers: Any, right: jax.Array, counts: jax.Array
) -> jax.Array:
    """The losses of rows (0 where one does not count); their gradients are made going forward."""
    return recomputed(plan, f, w, b, numbers, right, counts)


def _jvp(plan: Plan, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    f, w, b, numbers, right, counts = primals
    layer, d_layer = (f, w, b), tangents[:3]
    moving = tuple(d is not None and not isinstance(d, SymbolicZero) for d in d_layer)

    # What the two functions of `linear_call` need comes as residuals: one of them runs in a later
    # trace, where nothing of this one may be closed over.
    def losses(rest: Any, *some: Any) -> jax.Array:
        still, numbers, right, counts = rest
        moved, kept = iter(some), iter(still)
        f, w, b = (next(moved) if moves else next(kept) for moves in moving)
        return recomputed(plan, f, w, b, numbers, right, counts)

    some = tuple(x for moves, x in zip(moving, layer, strict=True) if moves)
    still = tuple(x for moves, x in zip(moving, layer, strict=True) if not moves)
    rest = (still, numbers, right, counts)
    if some:
        loss, units = _units(plan, moving, f, w, b, numbers, right, counts)
    else:
        loss, units = recomputed(plan, f, w, b, numbers, right, counts), ()
    tangent = jnp.zeros_like(loss)

    def forward(res: Any, d_some: Any) -> jax.Array:
        _, some, rest = res
        return jax.jvp(functools.partial(losses, rest), some, d_some)[1]

    def back(res: Any, g: jax.Array) -> Any:
        units, some, rest = res
        counts = rest[-1]
        low = jnp.min(jnp.where(counts, g, jnp.inf))
        high = jnp.max(jnp.where(counts, g, -jnp.inf))

        def scaled(g: jax.Array) -> Any:
            del g
            return jax.tree.map(lambda unit: unit * high, units)

        def again(g: jax.Array) -> Any:
            return jax.vjp(functools.partial(losses, rest), *some)[1](g)

        return lax.cond((low == high) & jnp.isfinite(high), scaled, again, g)

    if some:
        d_some = tuple(d for moves, d in zip(moving, d_layer, strict=True) if moves)
        tangent = tangent + linear_call(forward, back, (units, some, rest), d_some)
    d_numbers = tangents[3]
    if any(d is not None and not isinstance(d, SymbolicZero) for d in d_numbers):
        of_numbers = functools.partial(recomputed, plan, f, w, b)
        d_numbers = tuple(
            jnp.zeros_like(x) if isinstance(d, SymbolicZero) else d
            for x, d in zip(numbers, d_numbers, strict=True)
        )
        tangent = (
            tangent + jax.jvp(lambda n: of_numbers(n, right, counts), (numbers,), (d_numbers,))[1]
        )
    return loss, tangent


with_unit_gradients.defjvp(_jvp, symbolic_zeros=True)


def _units(
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
    share, z, cap = numbers
    of_f, of_w, of_b = moving

    def chunk(f: jax.Array, right: jax.Array, counts: jax.Array) -> tuple[Any, Any, Any, Any]:
        x = _logits(plan, f, w, b, cap)
        loss = jnp.where(counts, row_losses(plan.smooth, x, right, share, z), 0)
        slope = row_slopes(plan.smooth, x, log_normalizer(x), right, share, z)
        if cap is not None:
            slope = slope * jnp.where(
                x > -jnp.inf, 1 - (jnp.where(x > -jnp.inf, x, 0) / cap) ** 2, 0
            )
        slope = jnp.where(counts[:, None], slope, 0)
        df = jnp.matmul(slope, w.T, precision=plan.precision) if of_f else None
        dw = jnp.matmul(f.T, slope, precision=plan.precision) if of_w else None
        return loss, df, dw, jnp.sum(slope, axis=0) if of_b else None

    split = _split(plan.size, f, right, counts)
    if split is None:
        loss, df, dw, db = chunk(f, right, counts)
    else:

        def step(sums: Any, now: Any) -> tuple[Any, Any]:
            loss, df, *more = chunk(*now)
            return jax.tree.map(jnp.add, sums, tuple(more)), (loss, df)

        zero = (jnp.zeros_like(w) if of_w else None, jnp.zeros_like(b) if of_b else None)
        (dw, db), (loss, df) = lax.scan(step, zero, split)
        loss = loss.reshape(-1)[: f.shape[0]]
        df = df.reshape(-1, f.shape[1])[: f.shape[0]] if of_f else None
    return loss, tuple(d for moves, d in zip(moving, (df, dw, db), strict=True) if moves)


def _logits(plan: Plan, f: jax.Array, w: jax.Array, b: Any, cap: Any) -> jax.Array:
    x = jnp.matmul(f, w, precision=plan.precision)
    if b is not None:
        x = x + b[None, :]
    if cap is not None:
        there = x > -jnp.inf
        x = jnp.where(there, cap * jnp.tanh(jnp.where(there, x, 0) / cap), -jnp.inf)
    return x


def _split(size: int, f: jax.Array, right: jax.Array, counts: jax.Array) -> Any:
    """The rows in chunks of `size` or a few less, the last filled up; None for a single chunk."""
    rows = f.shape[0]
    chunks = -(-rows // size)
    if chunks == 1:
        return None
    size = -(-rows // chunks)
    spare = chunks * size - rows
    return (
        jnp.pad(f, ((0, spare), (0, 0))).reshape(chunks, size, f.shape[1]),
        jnp.pad(right, (0, spare)).reshape(chunks, size),
        jnp.pad(counts, (0, spare)).reshape(chunks, size),
    )
