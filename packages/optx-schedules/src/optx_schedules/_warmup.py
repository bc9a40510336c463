"""Linear warm-up, followed by a constant or a decay.

s(n) = init + (peak − init)·n / warmup for n < warmup
s(n) = decay(n − warmup) from there on

where warmup is the number of steps of the warm-up and decay the constant peak, or a schedule from peak.

Reference: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_after, check_value, whole
from optx_schedules._constant import constant_schedule
from optx_schedules._exponential import exponential
from optx_schedules._join import join
from optx_schedules._polynomial import linear_schedule
from optx_schedules._progress import along_cosine, along_power, between, progress
from optx_schedules._schedule import Schedule


@recorded
def warmup_constant_schedule(init_value: Scalar, peak_value: Scalar, warmup_steps: int) -> Schedule:
    """Warms up linearly, then stays constant.

    Args:
      init_value: the value at step 0.
      peak_value: the value after the warm-up.
      warmup_steps: the length of the warm-up in steps; 0 for none.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import sketch, warmup_constant_schedule
      >>> print(sketch(warmup_constant_schedule(0.0, 1.0, 20), 60))
      1 |                  ******************************************
        |              ****
        |          ****
        |      ****
        |  ****
      0 |**
    """
    return after_warmup(
        "warmup_constant_schedule",
        init_value,
        peak_value,
        warmup_steps,
        constant_schedule(peak_value),
    )


@recorded
def warmup_cosine_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    decay_steps: int,
    end_value: Scalar = 0.0,
    exponent: Scalar = 1.0,
) -> Schedule:
    """Warms up linearly, then decays along half a cosine wave.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: the length of the warm-up in steps; 0 for none.
      decay_steps: the step at which the decay ends, counted from step 0: warm-up and decay together,
        more than `warmup_steps`.
      end_value: the value after the decay.
      exponent: the power to which the wave is raised, at least 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import sketch, warmup_cosine_decay_schedule
      >>> print(sketch(warmup_cosine_decay_schedule(0.0, 1.0, 10, 55), 60))
      1 |         ***********
        |       **           *******
        |     **                    ******
        |   **                            ******
        | **                                    *******
      0 |*                                             **************
    """
    where = "warmup_cosine_decay_schedule"
    check_value(where, end_value=end_value)
    check_value(where, low=0, exponent=exponent)
    steps = _decay_length(where, warmup_steps, decay_steps)

    def tail(count: jax.Array) -> jax.Array:
        share = along_power(along_cosine(progress(count, steps)), exponent)
        return between(peak_value, end_value, share)

    return after_warmup(where, init_value, peak_value, warmup_steps, Schedule(tail, (steps,)))


@recorded
def warmup_polynomial_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    decay_steps: int,
    end_value: Scalar = 0.0,
    power: Scalar = 1.0,
) -> Schedule:
    """Warms up linearly, then decays along a power of the remaining fraction of steps.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: the length of the warm-up in steps; 0 for none.
      decay_steps: the step at which the decay ends, counted from step 0: warm-up and decay together,
        more than `warmup_steps`.
      end_value: the value after the decay.
      power: the exponent, at least 0; with 1 the decay is linear.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import sketch, warmup_polynomial_decay_schedule
      >>> print(sketch(warmup_polynomial_decay_schedule(0.0, 1.0, 10, 55, power=2), 60))
      1 |         ****
        |       **    *****
        |     **           ******
        |   **                   *******
        | **                            **********
      0 |*                                        *******************
    """
    where = "warmup_polynomial_decay_schedule"
    check_value(where, end_value=end_value)
    check_value(where, low=0, power=power)
    steps = _decay_length(where, warmup_steps, decay_steps)

    def tail(count: jax.Array) -> jax.Array:
        return between(peak_value, end_value, along_power(progress(count, steps), power))

    return after_warmup(where, init_value, peak_value, warmup_steps, Schedule(tail, (steps,)))


@recorded
def warmup_exponential_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: Scalar,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: Scalar | None = None,
) -> Schedule:
    """Warms up linearly, then decays exponentially.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: the length of the warm-up in steps; 0 for none.
      transition_steps: the number of steps over which the value is multiplied by `decay_rate`, at
        least 1.
      decay_rate: the factor, greater than 0.
      transition_begin: the number of steps between the end of the warm-up and the decay.
      staircase: whether the value changes only every `transition_steps` steps.
      end_value: the bound on the value, as for `exponential_decay`; None for no bound.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import sketch, warmup_exponential_decay_schedule
      >>> print(sketch(warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.3), 60))
      1 |         ***
        |       **   ****
        |     **         ******
        |   **                 *********
        | **                            ******************
      0 |*                                                ***********
    """
    where = "warmup_exponential_decay_schedule"
    tail = exponential(
        where, peak_value, transition_steps, decay_rate, transition_begin, staircase, end_value
    )
    return after_warmup(where, init_value, peak_value, warmup_steps, tail)


def after_warmup(
    where: str, init_value: Any, peak_value: Any, warmup_steps: Any, tail: Callable[[Any], Any]
) -> Schedule:
    """Joins a linear warm-up to `tail`, which counts its steps from the end of the warm-up."""
    check_value(where, init_value=init_value, peak_value=peak_value)
    steps = whole(where, "warmup_steps", warmup_steps)
    if isinstance(steps, int) and steps == 0:
        return join([tail], [])
    return join([linear_schedule(init_value, peak_value, steps), tail], [steps])


def _decay_length(where: str, warmup_steps: Any, decay_steps: Any) -> Any:
    warmup = whole(where, "warmup_steps", warmup_steps)
    decay = whole(where, "decay_steps", decay_steps)
    check_after(where, decay, warmup)
    return decay - warmup
