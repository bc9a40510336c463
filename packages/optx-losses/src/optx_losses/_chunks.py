"""The losses of rows f·W + b, one chunk of rows at a time, and their derivatives.

With g the cotangents of the losses, dW = Σ_i g_i·f_iᵀ·slope_i needs the slopes of all rows, and g is
known only after the forward pass. Two methods avoid storing all slopes:

recomputed:          the backward pass recomputes the logits of each chunk (Chen et al., "Training
                     Deep Nets with Sublinear Memory Cost", 2016). Four matrix products.
with_unit_gradients: the forward pass accumulates dW and df for g = 1 while it holds the slopes.
                     Losses are nearly always summed or averaged, so that all g_i are equal, and the
                     backward pass multiplies by their value. Three matrix products. If the g_i
                     differ (which is checked at run time), and for second derivatives, the logits
                     are recomputed.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from optx_core.build import run_if
from optx_losses._linear_map import linear_map
from optx_losses._row_losses import LOG_NORMALIZER, row_losses
from optx_losses._rows import Plan, joined, logits, split
from optx_losses._unit_gradients import unit_gradients


def recomputed(
    plan: Plan, f: Any, w: Any, b: Any, numbers: Any, target: jax.Array, included: jax.Array
) -> jax.Array:
    """The losses of rows, 0 for excluded rows; the backward pass recomputes them."""
    share, z, cap = numbers

    def chunk_loss(f: jax.Array, target: jax.Array, included: jax.Array) -> jax.Array:
        x = logits(plan, f, w, b, cap)
        return jnp.where(included, row_losses(plan.smooth, x, target, share, z), 0)

    chunks = split(plan.size, f, target, included)
    if chunks is None:
        return chunk_loss(f, target, included)
    policy = jax.checkpoint_policies.save_only_these_names(LOG_NORMALIZER)
    chunk_loss = jax.checkpoint(chunk_loss, policy=policy, prevent_cse=False)
    loss = lax.scan(lambda _, chunk: (None, chunk_loss(*chunk)), None, chunks)[1]
    return joined(loss, f.shape[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def with_unit_gradients(
    plan: Plan, f: Any, w: Any, b: Any, numbers: Any, target: jax.Array, included: jax.Array
) -> jax.Array:
    """The losses of rows, 0 for excluded rows; the forward pass computes their gradients."""
    return recomputed(plan, f, w, b, numbers, target, included)


def _jvp(plan: Plan, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    f, w, b, numbers, target, included = primals
    layer, d_layer, d_numbers = (f, w, b), tangents[:3], tangents[3]
    moving = tuple(d is not None and not isinstance(d, SymbolicZero) for d in d_layer)
    if any(moving):
        loss, units = unit_gradients(plan, moving, f, w, b, numbers, target, included)
        some = tuple(x for moves, x in zip(moving, layer, strict=True) if moves)
        still = tuple(x for moves, x in zip(moving, layer, strict=True) if not moves)
        d_some = tuple(d for moves, d in zip(moving, d_layer, strict=True) if moves)
        tangent = linear_map(
            functools.partial(_forward, (plan, moving)),
            functools.partial(_back, (plan, moving)),
            (units, some, (still, numbers, target, included)),
            d_some,
            loss,
        )
    else:
        loss = recomputed(plan, *layer, numbers, target, included)
        tangent = jnp.zeros_like(loss)
    if any(d is not None and not isinstance(d, SymbolicZero) for d in d_numbers):
        d_numbers = tuple(
            jnp.zeros_like(x) if isinstance(d, SymbolicZero) else d
            for x, d in zip(numbers, d_numbers, strict=True)
        )
        of_numbers = functools.partial(recomputed, plan, *layer)
        tangent = (
            tangent
            + jax.jvp(lambda n: of_numbers(n, target, included), (numbers,), (d_numbers,))[1]
        )
    return loss, tangent


with_unit_gradients.defjvp(_jvp, symbolic_zeros=True)


def _losses(static: Any, some: Any, rest: Any) -> jax.Array:
    """The losses as a function of those of f, W and b that are differentiated."""
    plan, moving = static
    still, numbers, target, included = rest
    moved, kept = iter(some), iter(still)
    f, w, b = (next(moved) if moves else next(kept) for moves in moving)
    return recomputed(plan, f, w, b, numbers, target, included)


def _forward(static: Any, given: Any, d_some: Any) -> jax.Array:
    _, some, rest = given
    return jax.jvp(lambda some: _losses(static, some, rest), (some,), (d_some,))[1]


def _recomputed_gradients(static: Any, some: Any, rest: Any, g: jax.Array) -> Any:
    plan, moving = static
    # In smaller chunks: this memory is reserved but rarely used, and must not dominate.
    static = plan._replace(size=max(1, plan.size // 4)), moving
    return jax.vjp(lambda some: _losses(static, some, rest), some)[1](g)[0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _back(static: Any, given: Any, g: jax.Array) -> Any:
    """The gradients for the cotangents g: a multiple of the unit gradients if all g are equal."""
    units, some, rest = given
    included = rest[-1]
    low = jnp.min(jnp.where(included, g, jnp.inf))
    high = jnp.max(jnp.where(included, g, -jnp.inf))
    same = (low == high) & jnp.isfinite(high)
    scaled = jax.tree.map(lambda unit: unit * high, units)
    return run_if(~same, lambda _: _recomputed_gradients(static, some, rest, g), scaled)


@_back.defjvp
def _back_jvp(static: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    # All g are equal at this point only, not in a neighbourhood of it.
    given, g = primals
    (_, *d_given), d_g = tangents
    recompute = functools.partial(_recomputed_gradients, static)
    return _back(static, given, g), jax.jvp(recompute, (*given[1:], g), (*d_given, d_g))[1]
