"""How far a count of steps has come, without losing steps to rounding.

A count n is an integer; float32 holds integers only up to 2²⁴ ≈ 1.7e7. So n is clamped and
subtracted as an integer, both from the beginning and to the end, and only then divided:

done = clip(n − begin, 0, steps) / steps,   left = clip(begin + steps − n, 0, steps) / steps

Each of the two is good to a rounding *relative to itself*. A schedule that goes to `end` writes
`start·left + end·done`, never `1 − done`: its last steps are told apart at any length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Progress(NamedTuple):
    """Shares of a stretch of steps, floats in [0, 1].

    Attributes:
      done: the share behind.
      left: the share ahead, 1 − done.
    """

    done: jax.Array
    left: jax.Array


def real(x: Any) -> jax.Array:
    """A value as schedules compute: float32, or float64 where jax_enable_x64 is set."""
    return jnp.asarray(x, jnp.result_type(float))


def as_count(count: Any) -> jax.Array:
    """A count as an array of at least 32 bits, an integer where it was given as one."""
    if isinstance(count, int | np.integer | np.ndarray | np.floating):
        count = np.asarray(count)
        if count.dtype == np.bool_:
            count = count.astype(np.int32)
        if np.issubdtype(count.dtype, np.integer) and count.size:
            limit = jnp.iinfo(jnp.result_type(int)).max
            if count.max() > limit or count.min() < -limit:
                return real(count.astype(np.float64))  # no integer dtype holds it
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
    """Clamps a count between two numbers of steps, each perhaps beyond the count's dtype."""
    return jnp.clip(count, _within(count, low), _within(count, high))


def since(count: jax.Array, begin: Any) -> jax.Array:
    """max(count − begin, 0): the steps since `begin`."""
    begin = _within(count, begin)
    return jnp.maximum(count, begin) - begin


def progress(count: jax.Array, steps: Any, begin: Any = 0) -> Progress:
    """The shares of the stretch from `begin` to `begin + steps` behind and ahead of a count.

    Args:
      count: integer or float array, from `as_count`.
      steps: the length of the stretch, at least 1.
      begin: the first step of the stretch, at least 0.

    Returns:
      A `Progress` of the count's shape.
    """
    beyond = 0
    if isinstance(begin, int) and isinstance(steps, int):
        first, last = _within(count, begin), _within(count, begin + steps)
        if is_whole(count):
            beyond = steps - (int(last) - int(first))
    else:
        first = _within(count, begin)
        last = first + _within(count, steps)
    at = jnp.clip(count, first, last)
    length = real(steps)
    left = real(last - at) + float(beyond) if beyond else real(last - at)
    return Progress(real(at - first) / length, left / length)


def _within(count: jax.Array, x: Any) -> Any:
    """X in the count's dtype: a Python number clamped to its range, an array cast."""
    if isinstance(x, int):
        if not is_whole(count):
            return float(x)
        return min(max(x, jnp.iinfo(count.dtype).min), jnp.iinfo(count.dtype).max)
    return jnp.asarray(x, count.dtype)
