"""One cycle: up to a peak, and down to much less than the start.

Reference: Smith, Topin, "Super-Convergence", 2018.
"""

from __future__ import annotations

from typing import Any

from optx_core import Scalar
from optx_core.build import check_number, recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._piecewise import interpolate
from optx_schedules._progress import real
from optx_schedules._schedule import Schedule


@recorded
def cosine_onecycle_schedule(
    transition_steps: int,
    peak_value: Scalar,
    pct_start: float = 0.3,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
) -> Schedule:
    """Rises to a peak and falls again, both along half a cosine wave.

    Args:
      transition_steps: the length of the cycle, at least 1.
      peak_value: the highest value.
      pct_start: the share of the cycle, in [0, 1], at which the peak is reached.
      div_factor: the peak over the value at step 0.
      final_div_factor: the value at step 0 over the last.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_schedules import cosine_onecycle_schedule, sketch
      >>> print(sketch(cosine_onecycle_schedule(55, 1.0), 60))
          1 |             ***********
            |          ***           *******
            |        **                     *****
            |      **                            *****
            |   ***                                   *******
      4e-06 |***                                             ************
    """
    where = "cosine_onecycle_schedule"
    steps = _check(where, transition_steps, peak_value, div_factor, final_div_factor)
    check_number(where, low=0, high=1, pct_start=pct_start)
    down = 1.0 / (div_factor * final_div_factor)
    turns = {int(pct_start * steps): div_factor, steps: down}
    if len(turns) < 2:
        turns = {steps: div_factor * down}
    return interpolate(where, "cosine", _start(peak_value, div_factor), turns)


@recorded
def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: Scalar,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
) -> Schedule:
    """Rises to a peak, falls back to the start, and then on to much less, along straight lines.

    Args:
      transition_steps: the length of the cycle, at least 1.
      peak_value: the highest value.
      pct_start: the share of the cycle, in [0, 1], at which the peak is reached.
      pct_final: the share, from `pct_start` to 1, at which the first value is reached again.
      div_factor: the peak over the value at step 0.
      final_div_factor: the value at step 0 over the last.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_schedules import linear_onecycle_schedule, sketch
      >>> print(sketch(linear_onecycle_schedule(55, 1.0, div_factor=4.0), 60))
            1 |              *******
              |          ****       ********
              |      ****                   ********
              |  ****                               ********
              |**                                           *******
      2.5e-05 |                                                    ********
    """
    where = "linear_onecycle_schedule"
    steps = _check(where, transition_steps, peak_value, div_factor, final_div_factor)
    check_number(where, low=0, high=1, pct_start=pct_start, pct_final=pct_final)
    if pct_final < pct_start:
        raise ValueError(f"{where}: pct_final={pct_final} must be at least pct_start={pct_start}")
    turns: dict[int, Any] = {}
    for step, factor in (
        (int(pct_start * steps), div_factor),
        (int(pct_final * steps), 1.0 / div_factor),
        (steps, 1.0 / final_div_factor),
    ):
        turns[step] = turns.get(step, 1.0) * factor
    return interpolate(where, "linear", _start(peak_value, div_factor), turns)


def _check(
    where: str, transition_steps: Any, peak_value: Any, div_factor: Any, final_div_factor: Any
) -> int:
    check_value(where, peak_value=peak_value)
    check_value(where, above=0, div_factor=div_factor, final_div_factor=final_div_factor)
    steps = whole(where, "transition_steps", transition_steps, least=1)
    if not isinstance(steps, int):
        raise TypeError(f"{where}: transition_steps must be a Python int, not an array")
    return steps


def _start(peak_value: Any, div_factor: Any) -> Any:
    numbers = isinstance(peak_value, int | float) and isinstance(div_factor, int | float)
    return peak_value / div_factor if numbers else real(peak_value) / real(div_factor)
