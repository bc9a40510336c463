"""Numbers of 24 bits, kept as a bfloat16 and an int8.

A float32 without its last 8 bits is an integer of 24 bits: the sign, and a magnitude m that counts the
numbers from 0 upwards. Adjacent numbers differ by 1 in m, also at powers of two, and a bfloat16 is a
multiple of 256:

m = 256·h + e,   h the magnitude of the bfloat16, −128 ≤ e ≤ 127

h is m/256 rounded to nearest (ties away from zero), so that the bfloat16 is the rounded number, and e the
error in units of 1/256 of its last place. Infinities and NaN have no error.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

_SIGN = 0x8000_0000
_INFINITY = 0x7F80  # the magnitude of the bfloat16; greater ones are NaN
_NAN = 0x7FC0


@jax.jit
def joined(p: jax.Array, e: jax.Array) -> jax.Array:
    """Returns the number of 24 bits as a float32.

    Args:
      p: a bfloat16 array, or its float32 values.
      e: its error, int8, of the same shape. An error that does not fit p (which was changed in the meantime),
        below zero or beyond infinity, is taken as 0.

    Returns:
      A float32 array, equal to p where e is 0.
    """
    bits = _bits(p.astype(jnp.float32))
    h = (bits & ~jnp.uint32(_SIGN)) >> 16
    fits = (h < _INFINITY) & ((h > 0) | (e >= 0))
    error = jnp.where(fits, e, jnp.zeros_like(e)).astype(jnp.int32)
    return lax.bitcast_convert_type(bits + (error << 8).astype(jnp.uint32), jnp.float32)


@jax.jit
def split(p: jax.Array, master: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the step from a bfloat16 parameter to a rounded master, and the error that remains.

    Args:
      p: the parameter, bfloat16.
      master: the new master, float32, of the same shape.

    Returns:
      The step u, float32, and the int8 error of the bfloat16 p + u.
    """
    bits = _bits(master)
    sign, magnitude = bits & jnp.uint32(_SIGN), bits & ~jnp.uint32(_SIGN)
    m = (magnitude + 0x80) >> 8
    h = jnp.where(magnitude > _INFINITY << 16, jnp.uint32(_NAN), (m + 0x80) >> 8)
    wide = p.astype(jnp.float32)
    u = lax.bitcast_convert_type(sign | (h << 16), jnp.float32) - wide
    # What `apply_updates` will find: p + u is rounded where p and the master are of very different sizes.
    after = _bits((wide + u).astype(jnp.bfloat16)).astype(jnp.uint32)
    h = after & 0x7FFF
    error = jnp.clip(m.astype(jnp.int32) - (h << 8).astype(jnp.int32), -128, 127)
    fits = (h < _INFINITY) & (after >> 15 == sign >> 31) & ((h > 0) | (error >= 0))
    return u, jnp.where(fits, error, jnp.zeros_like(error)).astype(jnp.int8)


def _bits(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.uint32 if x.dtype.itemsize == 4 else jnp.uint16)
