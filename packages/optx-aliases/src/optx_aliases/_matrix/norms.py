"""Norms over some axes, of entries of any size."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from optx_core import build


def root(x: Array) -> Array:
    """√x, with slope 0 at 0; NaN stays."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def nonzero(x: Array) -> Array:
    """Returns x with 1 in place of 0, as a divisor."""
    return jnp.where(x == 0, 1, x)


def norm_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Returns the norms over some axes, which keep size 1, of entries of any size."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0))
    unit = nonzero(largest)
    scaled = x / unit.astype(x.dtype)
    return unit * root(jnp.sum(build.abs_squared(scaled), axes, keepdims=True))
