"""Exponential decay.

s(n) = init·rateᵖ,   p = (n − begin) / steps        (with a staircase p = ⌊(n − begin) / steps⌋)

where rate, begin and steps are `decay_rate`, `transition_begin` and `transition_steps`. p is split into its
integer part and a remainder by integer division, so that it is exact at any n.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, is_plain, whole
from optx_schedules._progress import is_whole, rate_power, real, since
from optx_schedules._schedule import Schedule


@recorded
def exponential_decay(
    init_value: Scalar,
    transition_steps: int,
    decay_rate: Scalar,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Decays exponentially: multiplies the value by a constant factor every `transition_steps` steps.

    Args:
      init_value: the value until the decay begins.
      transition_steps: the number of steps over which the value is multiplied by `decay_rate`, at
        least 1.
      decay_rate: the factor, greater than 0; above 1 the value grows.
      transition_begin: the step at which the decay begins.
      staircase: whether the value changes only every `transition_steps` steps.
      end_value: the bound on the value: a lower bound if `decay_rate` is below 1, an upper bound
        otherwise; None for no bound.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import exponential_decay, sketch
      >>> exponential_decay(1.0, 20, 0.5)(40)
      Array(0.25, dtype=float32)
      >>> print(sketch(exponential_decay(1.0, 20, 0.5), 60))
          1 |***
            |   ******
            |         ********
            |                 ***********
            |                            *****************
      0.129 |                                             ***************
      >>> print(sketch(exponential_decay(1.0, 15, 0.5, staircase=True), 60))
          1 |***************
            |
            |
            |               ***************
            |                              ***************
      0.125 |                                             ***************
    """
    return exponential(
        "exponential_decay",
        init_value,
        transition_steps,
        decay_rate,
        transition_begin,
        staircase,
        end_value,
    )


def exponential(
    where: str,
    init_value: Any,
    transition_steps: Any,
    decay_rate: Any,
    transition_begin: Any,
    staircase: bool,
    end_value: Any,
) -> Schedule:
    """Builds `exponential_decay`; errors name the function `where`."""
    check_value(where, init_value=init_value)
    check_value(where, above=0, decay_rate=decay_rate)
    if end_value is not None:
        check_value(where, finite=False, end_value=end_value)
    steps = whole(where, "transition_steps", transition_steps, least=1)
    begin = whole(where, "transition_begin", transition_begin)

    def at(count: jax.Array) -> jax.Array:
        turns, rest = split(since(count, begin), steps)
        value = real(init_value) * rate_power(decay_rate, turns)
        if not staircase:
            value = value * rate_power(decay_rate, rest)
        if end_value is None:
            return value
        end = real(end_value)
        falls = decay_rate < 1 if is_plain(decay_rate) else real(decay_rate) < 1
        return jnp.where(falls, jnp.maximum(value, end), jnp.minimum(value, end))

    return Schedule(at, (begin,) if isinstance(begin, int) and begin else ())


def split(gone: jax.Array, steps: Any) -> tuple[jax.Array, jax.Array]:
    """⌊gone / steps⌋ and the remainder as a fraction of `steps`, both as floats."""
    if is_whole(gone) and isinstance(steps, int) and steps > jnp.iinfo(gone.dtype).max:
        return jnp.zeros_like(real(gone)), real(gone) / real(steps)
    length = jnp.asarray(steps, gone.dtype)
    turns = gone // length
    return real(turns), real(gone - turns * length) / real(length)
