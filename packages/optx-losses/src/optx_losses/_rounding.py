"""Values that rounding must not carry below zero, powers that are finite at zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def not_negative(x: jax.Array, bound: Any = jnp.inf) -> jax.Array:
    """x, lifted to 0 where it lies in (−bound, 0); the derivative is left as it is."""
    return x + lax.stop_gradient(jnp.where((x < 0) & (x > -bound), -x, 0))


def power(x: jax.Array, exponent: Any) -> jax.Array:
    """X to a power at least 0, for x at least 0; at x = 0 its derivative is 0."""
    exponent = jnp.asarray(exponent, x.dtype)
    positive = x > 0
    at_zero = jnp.where(exponent == 0, 1, 0).astype(x.dtype)
    return jnp.where(positive, jnp.where(positive, x, 1) ** exponent, at_zero)
