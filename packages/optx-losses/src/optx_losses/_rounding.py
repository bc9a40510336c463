"""Values that rounding must not make negative, and powers that are finite at zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def not_negative(x: jax.Array, bound: Any = jnp.inf) -> jax.Array:
    """x, with values in (−bound, 0) raised to 0; the derivative is unchanged."""
    return x + lax.stop_gradient(jnp.where((x < 0) & (x > -bound), -x, 0))


def power(x: jax.Array, exponent: Any) -> jax.Array:
    """x to a non-negative power, for x at least 0.

    The derivatives are 0 where x is so small that 1 / x² would overflow, unless the exponent is 1.
    """
    exponent = jnp.asarray(exponent, x.dtype)
    large = ~(x <= 10 * float(jnp.finfo(x.dtype).tiny) ** 0.5)  # NaN stays
    held = lax.stop_gradient(x)
    small = jnp.where(held > 0, held, 1) ** lax.stop_gradient(exponent)
    small = jnp.where(held > 0, small, jnp.where(exponent == 0, 1, 0))
    result = jnp.where(large, jnp.where(large, x, 1) ** exponent, small)
    return jnp.where(exponent == 1, x, result)


def divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b, and 0 where b is 0."""
    zero = b == 0
    return jnp.where(zero, 0, a / jnp.where(zero, 1, b))


def bounded_exp(x: jax.Array, of: Callable[[jax.Array], jax.Array] = jnp.exp) -> jax.Array:
    """exp x, or expm1 x, continued by its tangent beyond 40: large x give finite values and slopes."""
    inside = x < 40
    return of(jnp.where(inside, x, 40)) + math.exp(40) * jnp.where(inside, 0, x - 40)
