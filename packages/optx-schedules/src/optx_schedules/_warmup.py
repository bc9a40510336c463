"""Warm-up along a straight line, then something else.

s(n) = init + (peak − init)·n / warmup for n < warmup; after that a constant, or a decay from peak
(Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_after, check_value, whole
from optx_schedules._constant import constant_schedule
from optx_schedules._cosine import cosine_tail
from optx_schedules._exponential import exponential
from optx_schedules._join import join
from optx_schedules._polynomial import linear_schedule, power_weights
from optx_schedules._progress import progress, real
from optx_schedules._schedule import Schedule


@recorded
def warmup_constant_schedule(init_value: Scalar, peak_value: Scalar, warmup_steps: int) -> Schedule:
    """Rises along a straight line, then stays.

    Args:
      init_value: the value at step 0.
      peak_value: the value from the end of the warm-up on.
      warmup_steps: how many steps the warm-up takes; 0 for none.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    """Rises along a straight line, then falls along half a cosine wave.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: how many steps the warm-up takes; 0 for none.
      decay_steps: the step at which `end_value` is reached: counted from step 0, the warm-up
        included, so more than `warmup_steps`.
      end_value: the value from there on.
      exponent: the power the wave is raised to, greater than 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    check_value(where, above=0, exponent=exponent)
    steps = _decay_length(where, warmup_steps, decay_steps)
    tail = Schedule(lambda n: cosine_tail(n, peak_value, end_value, steps, exponent), (steps,))
    return after_warmup(where, init_value, peak_value, warmup_steps, tail)


@recorded
def warmup_polynomial_decay_schedule(
    init_value: Scalar,
    peak_value: Scalar,
    warmup_steps: int,
    decay_steps: int,
    end_value: Scalar = 0.0,
    power: Scalar = 1.0,
) -> Schedule:
    """Rises along a straight line, then falls along a power of the share of steps still ahead.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: how many steps the warm-up takes; 0 for none.
      decay_steps: the step at which `end_value` is reached: counted from step 0, the warm-up
        included, so more than `warmup_steps`.
      end_value: the value from there on.
      power: the exponent, greater than 0; 1 falls along a straight line.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    check_value(where, above=0, power=power)
    steps = _decay_length(where, warmup_steps, decay_steps)

    def tail(count: jax.Array) -> jax.Array:
        ahead, behind = power_weights(progress(count, steps), power)
        return real(peak_value) * ahead + real(end_value) * behind

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
    """Rises along a straight line, then falls exponentially.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: how many steps the warm-up takes; 0 for none.
      transition_steps: in how many steps the value is multiplied by `decay_rate`, at least 1.
      decay_rate: that factor, greater than 0.
      transition_begin: how many steps after the warm-up the decay begins.
      staircase: whether the value changes only every `transition_steps` steps.
      end_value: where the decay stops; None for nowhere.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

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
    """A straight line from `init_value` to `peak_value`, then `tail`, which counts from there."""
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
