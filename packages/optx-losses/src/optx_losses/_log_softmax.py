"""The logarithm of the softmax, finite at masked logits in value and in derivatives.

m = max x,   S = Σ exp(x − m),   log p = (x − m) − log S ≤ 0
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def centred(
    x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x − m, log S and m, the last two with the axes kept.

    An entry that is −inf or masked is excluded: it gets no probability and no gradient. If all entries
    are excluded, log S and m are 0.
    """
    if mask is not None:
        x = jnp.where(mask, x, -jnp.inf)
    m = finite_max(x, axes)
    x = x - m
    total = jnp.sum(jnp.exp(x), axis=axes, keepdims=True)
    return x, jnp.log(jnp.where(total == 0, 1, total)), m


def finite_max(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """m with the axes kept, 0 where it is not finite; it has no gradient."""
    m = lax.stop_gradient(jnp.max(x, axis=axes, keepdims=True, initial=-jnp.inf))
    return jnp.where(jnp.isfinite(m), m, 0)


def log_softmax(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None = None) -> jax.Array:
    """log p, −inf where an entry is excluded."""
    x, log_sum, _ = centred(x, axes, mask)
    return x - log_sum


def log_sum_exp(x: jax.Array, axes: tuple[int, ...], mask: jax.Array | None = None) -> jax.Array:
    """log Σ exp(x) without the axes; −inf where all entries are excluded."""
    x, log_sum, m = centred(x, axes, mask)
    empty = jnp.all(x == -jnp.inf, axis=axes)
    return jnp.where(empty, -jnp.inf, jnp.squeeze(log_sum + m, axes))


def times_infinite(weight: jax.Array, x: jax.Array) -> jax.Array:
    """weight · x, where 0 · inf is 0."""
    return weight * jnp.where((weight == 0) & (x == jnp.inf), 0, x)


def times_log(weight: jax.Array, log: jax.Array) -> jax.Array:
    """weight · log, where 0 · −inf is 0."""
    return weight * jnp.where((weight == 0) & (log == -jnp.inf), 0, log)
