"""Polynomial and linear transitions from one value to another.

w = left^power,   s(n) = init·w + end·(1 − w)

where left is the remaining fraction of the transition: 1 until `transition_begin`, 0 from
`transition_begin + transition_steps` on.
"""

from __future__ import annotations

from typing import Any

import jax

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import along_power, between, progress
from optx_schedules._schedule import Schedule


@recorded
def polynomial_schedule(
    init_value: Scalar,
    end_value: Scalar,
    power: Scalar,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    """Changes from one value to another along a power of the remaining fraction of steps.

    Args:
      init_value: the value until the transition begins.
      end_value: the value after the transition.
      power: the exponent, at least 0: with 1 the change is linear, above 1 it is fastest at first, with 0
        the value stays at `init_value`.
      transition_steps: the length of the transition in steps, at least 1.
      transition_begin: the step at which the transition begins.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import polynomial_schedule, sketch
      >>> schedule_fn = polynomial_schedule(
      ...     init_value=1., end_value=0., power=1, transition_steps=5)
      >>> [round(float(schedule_fn(step_count)), 1) for step_count in range(6)]
      [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
      >>> print(sketch(polynomial_schedule(1.0, 0.0, 3, 50), 60))
      1 |**
        |  ****
        |      *****
        |           ******
        |                 **********
      0 |                           *********************************
    """
    return _polynomial(
        "polynomial_schedule", init_value, end_value, power, transition_steps, transition_begin
    )


@recorded
def linear_schedule(
    init_value: Scalar, end_value: Scalar, transition_steps: int, transition_begin: int = 0
) -> Schedule:
    """Changes linearly from one value to another.

    Args:
      init_value: the value until the transition begins.
      end_value: the value after the transition.
      transition_steps: the length of the transition in steps, at least 1.
      transition_begin: the step at which the transition begins.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import linear_schedule, sketch
      >>> linear_schedule(1.0, 0.0, 10**8)(10**8 - 3)  # the last steps stay distinct
      Array(3.e-08, dtype=float32)
      >>> print(sketch(linear_schedule(1.0, 0.25, 50), 60))
         1 |******
           |      **********
           |                **********
           |                          **********
           |                                    **********
      0.25 |                                              **************
    """
    return _polynomial(
        "linear_schedule", init_value, end_value, 1, transition_steps, transition_begin
    )


def _polynomial(
    where: str, init_value: Any, end_value: Any, power: Any, steps: Any, begin: Any
) -> Schedule:
    check_value(where, init_value=init_value, end_value=end_value)
    check_value(where, low=0, power=power)
    steps = whole(where, "transition_steps", steps, least=1)
    begin = whole(where, "transition_begin", begin)

    def at(count: jax.Array) -> jax.Array:
        share = along_power(progress(count, steps, begin), power)
        return between(init_value, end_value, share)

    ends = (begin, begin + steps) if isinstance(begin, int) and isinstance(steps, int) else ()
    return Schedule(at, ends if begin else ends[1:])
