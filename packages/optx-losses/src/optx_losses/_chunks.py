"""The values of rows f·W + b, one chunk of rows at a time, and their derivatives.

With g the cotangents of the values, dW = Σ_i g_i·f_iᵀ·slope_i needs the slopes of all rows, and g is
known only after the forward pass. Two methods avoid storing all slopes:

recomputed:          the backward pass recomputes the logits of each chunk (Chen et al., "Training
                     Deep Nets with Sublinear Memory Cost", 2016). Four matrix products.
with_unit_gradients: the forward pass accumulates dW and df for g = 1 while it holds the slopes.
                     Losses are nearly always summed or averaged, so that all g_i are equal, and the
                     backward pass multiplies by their value. Three matrix products. If the g_i
                     differ (which is checked at run time), the logits are recomputed.

`traced` holds the equations, which JAX differentiates; second derivatives come from it.
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
from optx_losses._row_gradients import row_gradients
from optx_losses._row_losses import LOG_NORMALIZER
from optx_losses._rows import Plan, joined, logits, of_included, split


def traced(plan: Plan, f: Any, w: Any, b: Any, given: Any) -> jax.Array:
    """The values of rows, 0 for excluded rows; `given` are bounds, numbers, other arrays, included."""
    bounds, numbers, rows, included = given

    def chunk_values(f: jax.Array, rows: Any, included: jax.Array) -> jax.Array:
        x = logits(plan, f, w, b, bounds)
        return of_included(included, plan.rule.values(plan, x, numbers, rows))

    chunks = split(plan.size, (f, rows, included))
    if chunks is None:
        return chunk_values(f, rows, included)
    policy = jax.checkpoint_policies.save_only_these_names(LOG_NORMALIZER)
    chunk_values = jax.checkpoint(chunk_values, policy=policy, prevent_cse=False)
    values = lax.scan(lambda _, chunk: (None, chunk_values(*chunk)), None, chunks)[1]
    return joined(values, f.shape[0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _chunked(units: bool, plan: Plan, f: Any, w: Any, b: Any, given: Any) -> jax.Array:
    del units
    return traced(plan, f, w, b, given)


recomputed = functools.partial(_chunked, False)
"""The values of rows; the backward pass recomputes the logits."""
with_unit_gradients = functools.partial(_chunked, True)
"""The values of rows, shape [rows]; the forward pass computes their gradients."""


def _jvp(units: bool, plan: Plan, primals: Any, tangents: Any) -> tuple[jax.Array, Any]:
    f, w, b, given = primals
    layer = (f, w, b)
    *d_layer, d_given = tangents
    moving = tuple(d is not None and not isinstance(d, SymbolicZero) for d in d_layer)
    if any(moving):
        if units:
            values, gradients = row_gradients(plan, moving, f, w, b, given)
        else:
            values, gradients = traced(plan, f, w, b, given), None
        some = tuple(x for moves, x in zip(moving, layer, strict=True) if moves)
        still = tuple(x for moves, x in zip(moving, layer, strict=True) if not moves)
        d_some = tuple(d for moves, d in zip(moving, d_layer, strict=True) if moves)
        tangent = linear_map(
            functools.partial(_forward, (plan, moving)),
            functools.partial(_back, (plan, moving)),
            (gradients, some, (still, given)),
            d_some,
            values,
        )
    else:
        values = traced(plan, f, w, b, given)
        tangent = jnp.zeros_like(values)
    # The bounds and the numbers of the rule; the other arrays have no derivative.
    d_numbers = jax.tree.leaves(d_given[:2])
    if any(not isinstance(d, SymbolicZero) for d in d_numbers):
        numbers, tree = jax.tree.flatten(given[:2])
        d_numbers = [
            jnp.zeros_like(x) if isinstance(d, SymbolicZero) else d
            for x, d in zip(numbers, d_numbers, strict=True)
        ]

        def of_numbers(numbers: Any) -> jax.Array:
            return traced(plan, f, w, b, (*jax.tree.unflatten(tree, numbers), *given[2:]))

        tangent = tangent + jax.jvp(of_numbers, (numbers,), (d_numbers,))[1]
    return values, tangent


_chunked.defjvp(_jvp, symbolic_zeros=True)


def _values(static: Any, some: Any, rest: Any) -> jax.Array:
    """The values as a function of those of f, W and b that are differentiated."""
    plan, moving = static
    f, w, b = _layer(moving, some, rest[0])
    return traced(plan, f, w, b, rest[1])


def _layer(moving: tuple[bool, ...], some: Any, still: Any) -> list[Any]:
    moved, kept = iter(some), iter(still)
    return [next(moved) if moves else next(kept) for moves in moving]


def _forward(static: Any, given: Any, d_some: Any) -> jax.Array:
    _, some, rest = given
    return jax.jvp(lambda some: _values(static, some, rest), (some,), (d_some,))[1]


def _recomputed_gradients(static: Any, some: Any, rest: Any, g: jax.Array) -> Any:
    plan, moving = static
    still, given = rest
    f, w, b = _layer(moving, some, still)
    return row_gradients(plan, moving, f, w, b, given, g)[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _back(static: Any, given: Any, g: jax.Array) -> Any:
    """The gradients for the cotangents g: a multiple of the unit gradients if all g are equal."""
    units, some, rest = given
    if units is None:
        return _recomputed_gradients(static, some, rest, g)
    included = rest[1][-1]
    low = jnp.min(jnp.where(included, g, jnp.inf))
    high = jnp.max(jnp.where(included, g, -jnp.inf))
    same = (low == high) & jnp.isfinite(high)
    scaled = jax.tree.map(lambda unit: unit * high, units)
    # In smaller chunks: this memory is reserved but rarely used, and must not dominate.
    plan, moving = static
    static = plan._replace(size=max(1, plan.size // 4)), moving
    return run_if(~same, lambda _: _recomputed_gradients(static, some, rest, g), scaled)


@_back.defjvp
def _back_jvp(static: Any, primals: Any, tangents: Any) -> tuple[Any, Any]:
    # All g are equal at this point only, not in a neighbourhood of it.
    given, g = primals
    (_, *d_given), d_g = tangents

    def gradients(some: Any, rest: Any, g: jax.Array) -> Any:
        return jax.vjp(lambda some: _values(static, some, rest), some)[1](g)[0]

    return _back(static, given, g), jax.jvp(gradients, (*given[1:], g), (*d_given, d_g))[1]
