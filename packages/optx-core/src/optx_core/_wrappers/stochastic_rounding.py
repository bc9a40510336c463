"""Stochastic rounding of bf16 parameters.

The sum p + u is rounded up or down at random, so that its expectation is exact.

The random bits are a hash of the bits of the sum, its position and the step, about ten times cheaper
than a random number generator.

Reference: Gupta et al., "Deep Learning with Limited Numerical Precision", 2015, section 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import (
    Params,
    Updates,
    build,
    safe_increment,
    tree,
    with_extra_args_support,
)
from optx_core._training.per_device import is_explicit


class StochasticRoundingState(NamedTuple):
    """State of `stochastic_rounding`.

    Attributes:
      count: uint32 scalar, the seed plus the number of updates so far.
      inner_state: the inner transformation's state.
    """

    count: build.Count
    inner_state: build.InnerState


@build.recorded
def stochastic_rounding(inner: Any, seed: int = 0) -> build.Transformation:
    """Makes `apply_updates` round bf16 parameters stochastically, without bias.

    An alternative to a float32 copy (`master_weights`): as accurate over many steps, with half the memory.
    Parameters of other dtypes are rounded to nearest.

    Args:
      inner: the optimizer; it receives float32 gradients and parameters.
      seed: the seed of the random bits, an int.

    Returns:
      A transformation with a `StochasticRoundingState`; `update` needs the parameters. Its updates
      are float32. Place it last in a chain.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_updates, scale, stochastic_rounding
      >>> tx, params = stochastic_rounding(scale(-1e-3)), jnp.ones(1000, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     updates, state = tx.update(jnp.ones_like(params), state, params)
      ...     params = apply_updates(params, updates)
      >>> round(float(params.astype(jnp.float32).mean()), 2)
      0.9
    """
    build.check_transformation_like("stochastic_rounding", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> StochasticRoundingState:
        count = jnp.full((), seed % 2**32, jnp.uint32)
        return StochasticRoundingState(count, inner.init(build.widened(params)))

    def update(
        updates: Updates, state: StochasticRoundingState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, StochasticRoundingState]:
        build.need_params("stochastic_rounding", params)
        build.check_state("stochastic_rounding", StochasticRoundingState, state)
        moves, inner_state = inner.update(
            build.widened(updates), state.inner_state, build.widened(params), **extra_args
        )
        leaves, structure = build.tree_flatten(moves, is_leaf=tree.is_placeholder)
        new = [
            u if tree.is_placeholder(u) else _rounded_move(p, u, state.count, salt)
            for salt, (u, p) in enumerate(zip(leaves, structure.flatten_up_to(params), strict=True))
        ]
        count = safe_increment(state.count)
        return structure.unflatten(new), StochasticRoundingState(count, inner_state)

    return build.wrapping(init, update)


def _rounded_move(p: jax.Array, u: jax.Array, count: jax.Array, salt: int) -> jax.Array:
    """Returns the float32 update that moves a bf16 parameter to the stochastically rounded p + u."""
    if p.dtype != jnp.bfloat16:
        return u
    total = p.astype(jnp.float32) + u.astype(jnp.float32)
    bits = lax.bitcast_convert_type(total, jnp.uint32)
    noise = _hash(bits ^ _hash(count + jnp.uint32(0x9E3779B9 * (salt + 1) % 2**32)))
    place = jnp.zeros_like(bits)
    for axis in range(p.ndim):
        place = _hash(place ^ (_positions(bits, axis) + jnp.uint32(1)))
    up = bits + (_hash(noise ^ place) >> 16)
    rounded = jnp.where(jnp.isfinite(total), up & jnp.uint32(0xFFFF0000), bits)
    return lax.bitcast_convert_type(rounded, jnp.float32) - p.astype(jnp.float32)


def _positions(x: jax.Array, axis: int) -> jax.Array:
    """Returns the index of each entry along an axis, uint32, with the layout of x."""
    sharding = jax.typeof(x).sharding
    return lax.broadcasted_iota(
        jnp.uint32, x.shape, axis, out_sharding=sharding if is_explicit(sharding) else None
    )


def _hash(x: jax.Array) -> jax.Array:
    """Mixes the bits of 32-bit integers (the finalizer of MurmurHash3)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
