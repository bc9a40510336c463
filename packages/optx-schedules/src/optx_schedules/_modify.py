"""Schedules derived from another: scaled, shifted in time, clamped.

scale_schedule:   s(n) = factor·r(n)
shift_schedule:   s(n) = r(max(n + steps, 0))
clamp:            s(n) = min(max(r(n), low), high)

where r is the given schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, is_plain, whole
from optx_schedules._progress import plus, real
from optx_schedules._schedule import Schedule, boundaries_of, check_schedule, value_at


@recorded
def scale_schedule(schedule: Callable[[Any], Any], factor: Scalar) -> Schedule:
    """Multiplies a schedule by a number.

    Args:
      schedule: a schedule, or any function of the step.
      factor: the factor.

    Returns:
      A schedule: s(n) = factor·schedule(n).

    Raises:
      TypeError: if `schedule` is not a schedule, or `factor` not a number.

    Example:
      >>> from optx_schedules import linear_schedule, scale_schedule, sketch
      >>> print(sketch(scale_schedule(linear_schedule(1.0, 0.0, 50), 0.5), 60))
      0.5 |******
          |      **********
          |                **********
          |                          **********
          |                                    **********
        0 |                                              **************
    """
    check_schedule("scale_schedule", schedule=schedule)
    check_value("scale_schedule", factor=factor)
    return Schedule(lambda n: real(factor) * value_at(schedule, n), boundaries_of(schedule))


@recorded
def shift_schedule(schedule: Callable[[Any], Any], steps: int) -> Schedule:
    """Shifts a schedule in time, to resume a run or to delay a start.

    Args:
      schedule: a schedule, or any function of the step.
      steps: the step at which the schedule starts; if negative, the number of steps for which its
        first value is held.

    Returns:
      A schedule: s(n) = schedule(max(n + steps, 0)).

    Raises:
      TypeError: if `schedule` is not a schedule, or `steps` not a whole number.

    Example:
      >>> from optx_schedules import cosine_decay_schedule, shift_schedule, sketch
      >>> shift_schedule(cosine_decay_schedule(1.0, 100), 25)(25).round(3)
      Array(0.5, dtype=float32)
      >>> print(sketch(shift_schedule(cosine_decay_schedule(1.0, 50), -10), 60))
             1 |*********************
               |                     ********
               |                             ******
               |                                   *******
               |                                          ********
      0.000987 |                                                  **********
    """
    check_schedule("shift_schedule", schedule=schedule)
    by = whole("shift_schedule", "steps", steps, least=-(2**62))

    def at(count: jax.Array) -> jax.Array:
        return value_at(schedule, jnp.maximum(plus(count, by), 0))

    if not isinstance(by, int):
        return Schedule(at)
    return Schedule(at, tuple(b - by for b in boundaries_of(schedule) if b > by))


@recorded
def clamp(
    schedule: Callable[[Any], Any], low: Scalar | None = None, high: Scalar | None = None
) -> Schedule:
    """Clamps the values of a schedule.

    Args:
      schedule: a schedule, or any function of the step.
      low: the lower bound; None for none.
      high: the upper bound, at least `low`; None for none.

    Returns:
      A schedule: s(n) = min(max(schedule(n), low), high).

    Raises:
      TypeError: if `schedule` is not a schedule, or a bound not a number.
      ValueError: if both bounds are None, or `low` exceeds `high`.

    Example:
      >>> from optx_schedules import clamp, exponential_decay, sketch
      >>> print(sketch(clamp(exponential_decay(1.0, 20, 0.3), low=0.25), 60))
         1 |**
           |  ***
           |     ***
           |        *****
           |             ******
      0.25 |                   *****************************************
    """
    check_schedule("clamp", schedule=schedule)
    if low is None and high is None:
        raise ValueError("clamp: give low, high or both")
    for name, bound in (("low", low), ("high", high)):
        if bound is not None:
            check_value("clamp", finite=False, **{name: bound})  # type: ignore[arg-type]
    if is_plain(low, high) and low > high:  # type: ignore[operator]
        raise ValueError(f"clamp: low={low} must not exceed high={high}")

    def at(count: jax.Array) -> jax.Array:
        value = value_at(schedule, count)
        value = value if low is None else jnp.maximum(value, real(low))
        return value if high is None else jnp.minimum(value, real(high))

    return Schedule(at, boundaries_of(schedule))
