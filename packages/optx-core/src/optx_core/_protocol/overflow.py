"""Bounds that keep squares and their sums finite.

The square of 1e25 is infinite in float32, and moments that are computed from it are infinite or NaN for
ever. Every optimizer that squares gradients therefore treats an entry beyond √M / 16, M the largest finite
number (1.2e18 in float32, 8e152 in float64), as one of that magnitude. Other entries keep their bits.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import Array, lax

# Squares of differences, and of sums of a few gradients, are finite too.
_HEADROOM = 16


def squarable(x: Array, terms: int = 1) -> Array:
    """Limits the magnitude of entries so that a sum of that many squares is finite.

    Args:
      x: an array. Infinite entries are limited too, NaN stays. The real and the imaginary part of complex
        entries are limited separately.
      terms: how many squares are added: 1 for squares of single entries, the size of a matrix for
        products with it.

    Returns:
      An array of the same shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import squarable
      >>> jnp.isfinite(jnp.square(squarable(jnp.array([1e25, jnp.inf, 3.0]))))
      Array([ True,  True,  True], dtype=bool)
    """
    if not x.size or not jnp.issubdtype(x.dtype, jnp.inexact):
        return x
    if jnp.iscomplexobj(x):
        return lax.complex(squarable(x.real, 2 * terms), squarable(x.imag, 2 * terms))
    limit = _limit(x, terms)
    # A single operation: XLA:CPU writes out what two results share if it is more.
    return lax.clamp(jnp.asarray(-limit, x.dtype), x, jnp.asarray(limit, x.dtype))


def finite_sum(squares: Array, terms: int = 1) -> Array:
    """Limits squares, or sums of squares, so that the sum of that many is finite; NaN stays.

    The limit is the square of the largest `squarable` entry. Inside a sum XLA:CPU would write out what
    `squarable` returns; it does not write out what this returns.

    Args:
      squares: an array of squares or sums of squares, real.
      terms: how many are added.

    Returns:
      An array of the same shape and dtype.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core.build import finite_sum
      >>> bool(jnp.isfinite(finite_sum(jnp.array(jnp.inf))))
      True
    """
    return jnp.minimum(squares, _limit(squares, terms) ** 2)


def _limit(x: Array, terms: int) -> float:
    return math.sqrt(float(jnp.finfo(x.dtype).max) / terms) / _HEADROOM
