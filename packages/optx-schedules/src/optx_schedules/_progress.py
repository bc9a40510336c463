"""Progress through a stretch of steps, and powers of it, accurate at any step count.

A count n is an integer; float32 holds all integers only up to 2²⁴ ≈ 1.7e7. So n is clamped and
subtracted as an integer, and only then divided:

done = clip(n − begin, 0, steps) / steps,   left = clip(begin + steps − n, 0, steps) / steps

Both have a small *relative* error. A schedule that ends at `end` computes `start·left + end·done`,
never `1 − done`, so that its last steps stay distinct at any length.

A rate is rounded before it is raised to a power: float32(0.99999)ⁿ is 1.3 % off at n = 10⁶. The rounding
error is known when the schedule is built and is corrected: rateⁿ = rate₃₂ⁿ·exp(n·log(rate / rate₃₂)).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optx_schedules._checks import is_plain


class Progress(NamedTuple):
    """Fractions of a stretch of steps, floats in [0, 1].

    Attributes:
      done: the fraction completed.
      left: the fraction remaining, 1 − done.
    """

    done: jax.Array
    left: jax.Array


def real(x: Any) -> jax.Array:
    """Converts a value to float32, or to float64 if jax_enable_x64 is set."""
    return jnp.asarray(x, jnp.result_type(float))


def as_count(count: Any) -> jax.Array:
    """Converts a count to an array of at least 32 bits; integers stay integers."""
    if isinstance(count, int | np.integer | np.ndarray | np.floating):
        count = np.asarray(count)
        if count.dtype == np.bool_:
            count = count.astype(np.int32)
        if np.issubdtype(count.dtype, np.integer) and count.size:
            limit = jnp.iinfo(jnp.result_type(int)).max
            if count.max() > limit or count.min() < -limit - 1:
                return real(count.astype(np.float64))  # too large for the integer dtype
    elif isinstance(count, list | tuple):
        return as_count(np.asarray(count))
    count = jnp.asarray(count)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        if jnp.issubdtype(count.dtype, jnp.bool_):
            return count.astype(jnp.int32)
        if not jnp.issubdtype(count.dtype, jnp.floating):
            raise TypeError(f"a schedule takes a count of steps, not an array of {count.dtype}")
        return real(count)
    signed = jnp.result_type(int)
    if jnp.issubdtype(count.dtype, jnp.unsignedinteger):
        limit = jnp.iinfo(signed).max
        if jnp.iinfo(count.dtype).max > limit:
            count = jnp.minimum(count, jnp.asarray(limit, count.dtype))
    return count.astype(signed)


def is_whole(x: Any) -> bool:
    """Whether x is an integer or an array of integers."""
    return isinstance(x, int) or jnp.issubdtype(jnp.result_type(x), jnp.integer)


def clip_count(count: jax.Array, low: Any, high: Any) -> jax.Array:
    """Clamps a count between two step counts, which may exceed the count's dtype."""
    return jnp.clip(count, within(count, low), within(count, high))


def since(count: jax.Array, begin: Any) -> jax.Array:
    """max(count − begin, 0): the steps since `begin`."""
    begin = within(count, begin)
    return jnp.maximum(count, begin) - begin


def plus(count: jax.Array, by: Any) -> jax.Array:
    """Adds a number of steps to a count; the sum saturates at the limits of the dtype."""
    if not is_whole(count):
        return count + real(by)
    limits = jnp.iinfo(count.dtype)
    if isinstance(by, int):
        if by > limits.max or by < -limits.max:
            return real(count) + float(by)
        if by >= 0:
            return jnp.minimum(count, limits.max - by) + by
        return jnp.maximum(count, limits.min - by) + by
    by = jnp.asarray(by, count.dtype)
    most, least = limits.max - jnp.maximum(by, 0), limits.min - jnp.minimum(by, 0)
    return jnp.clip(count, least, most) + by


def progress(count: jax.Array, steps: Any, begin: Any = 0) -> Progress:
    """Returns the progress of a count through the steps from `begin` to `begin + steps`.

    Args:
      count: integer or float array, from `as_count`.
      steps: the length, at least 1.
      begin: the first step, at least 0.

    Returns:
      A `Progress` of the count's shape.
    """
    whole = within(count, steps)
    gone = jnp.minimum(since(count, begin), whole)
    left = real(whole - gone)
    if isinstance(steps, int) and is_whole(count):
        left = left + float(steps - whole)  # past the largest number of the count's dtype
    length = real(steps)
    return Progress(real(gone) / length, left / length)


def within(count: jax.Array, x: Any) -> Any:
    """Converts a number of steps to the count's dtype; Python integers are clamped to its range."""
    if isinstance(x, int):
        if not is_whole(count):
            return float(x)
        return min(max(x, jnp.iinfo(count.dtype).min), jnp.iinfo(count.dtype).max)
    return jnp.asarray(x, count.dtype)


def along_cosine(share: Progress) -> Progress:
    """Progress along half a cosine wave instead of a straight line: sin²(π·done / 2)."""
    done, left = (jnp.sin(x * (math.pi / 2)) ** 2 for x in share)
    return Progress(done, left)


def along_power(share: Progress, exponent: Any) -> Progress:
    """Progress along a power, with left^exponent remaining; its derivative is 0 where left is 0."""
    if isinstance(exponent, int | float) and exponent == 1:
        return share
    exponent = real(exponent)
    some = share.left > 0
    left = jnp.where(some, share.left, 1) ** exponent
    left = jnp.where(some | (exponent == 0), left, 0)
    early = share.done < 0.5  # there 1 − left loses digits
    near = jnp.log1p(-jnp.where(early, share.done, 0.5))
    return Progress(jnp.where(early, -jnp.expm1(exponent * near), 1 - left), left)


def between(start: Any, end: Any, share: Progress) -> jax.Array:
    """The value at some progress from `start` to `end`."""
    return real(start) * share.left + real(end) * share.done


def rate_power(rate: Any, n: jax.Array) -> jax.Array:
    """rateⁿ for n ≥ 0, without the error from rounding the rate to float32."""
    rounded = real(rate)
    positive = rounded > 0
    value = jnp.where(positive, rounded, 1) ** n
    if is_plain(rate) and rate > 0:
        stored = float(np.asarray(rate, rounded.dtype))
        correction = math.log1p((float(rate) - stored) / stored)
        if correction:
            value = value * jnp.exp(n * correction)
    return jnp.where(positive, value, jnp.where(n > 0, 0.0, 1.0).astype(value.dtype))
