"""Polynomial change from one value to another, the straight line among them.

w = left^power,   s(n) = init·w + end·(1 − w)

with left the share of the transition still ahead: 1 until `transition_begin`, 0 from
`transition_begin + transition_steps` on.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import Progress, progress, real
from optx_schedules._schedule import Schedule


@recorded
def polynomial_schedule(
    init_value: Scalar,
    end_value: Scalar,
    power: Scalar,
    transition_steps: int,
    transition_begin: int = 0,
) -> Schedule:
    """Goes from one value to another along a power of the share of steps still ahead.

    Args:
      init_value: the value until the transition begins.
      end_value: the value after it.
      power: the exponent, greater than 0: 1 is a straight line, more falls faster at first.
      transition_steps: how many steps the transition takes, at least 1.
      transition_begin: the step at which it begins.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    """Goes from one value to another along a straight line.

    Args:
      init_value: the value until the transition begins.
      end_value: the value after it.
      transition_steps: how many steps the transition takes, at least 1.
      transition_begin: the step at which it begins.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_schedules import linear_schedule, sketch
      >>> linear_schedule(1.0, 0.0, 10**8)(10**8 - 3)  # the last steps are told apart
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
    check_value(where, above=0, power=power)
    steps = whole(where, "transition_steps", steps, least=1)
    begin = whole(where, "transition_begin", begin)

    def at(count: jax.Array) -> jax.Array:
        ahead, behind = power_weights(progress(count, steps, begin), power)
        return real(init_value) * ahead + real(end_value) * behind

    ends = (begin, begin + steps) if isinstance(begin, int) and isinstance(steps, int) else ()
    return Schedule(at, ends if begin else ends[1:])


def power_weights(share: Progress, power: Any) -> tuple[jax.Array, jax.Array]:
    """W = left^power and 1 − w, each good to a rounding relative to itself."""
    if isinstance(power, int | float) and power == 1:
        return share.left, share.done
    power = real(power)
    w = share.left**power
    near = jnp.minimum(share.done, 0.5)
    return w, jnp.where(share.done < 0.5, -jnp.expm1(power * jnp.log1p(-near)), 1 - w)
