"""One cycle: a rise to a peak and a decay far below the initial value.

s(n) = init → peak until pct_start·steps,   peak → init until pct_final·steps,   init → final until steps
init = peak / div_factor,   final = init / final_div_factor

where each → is a straight line of `linear_onecycle_schedule`. `cosine_onecycle_schedule` has two stretches,
half a cosine wave each: init → peak and peak → final.

Boundaries are rounded down to whole steps, so that two of them can coincide. The value at such a step is
that of the first boundary, and the next stretch starts from the last: the peak is always reached.

Reference: Smith, Topin, "Super-Convergence", 2018.
"""

from __future__ import annotations

from typing import Any

from optx_core import Scalar
from optx_core.build import check_scalar, recorded
from optx_schedules._checks import check_value, is_plain, whole
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
    """Rises to a peak and decays, both along half a cosine wave.

    Args:
      transition_steps: the length of the cycle in steps, at least 1.
      peak_value: the highest value.
      pct_start: the fraction of the cycle after which the peak is reached, in [0, 1]. With 1 the final
        value follows at the step after the cycle.
      div_factor: the ratio of the peak to the initial value, greater than 0.
      final_div_factor: the ratio of the initial to the final value, greater than 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

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
    steps, start, end = _check(where, transition_steps, peak_value, div_factor, final_div_factor)
    check_scalar(where, low=0, high=1, pct_start=pct_start)
    return interpolate("cosine", start, [(int(pct_start * steps), peak_value), (steps, end)])


@recorded
def linear_onecycle_schedule(
    transition_steps: int,
    peak_value: Scalar,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: Scalar = 25.0,
    final_div_factor: Scalar = 1e4,
) -> Schedule:
    """Rises to a peak, returns to the initial value and decays further, linearly.

    Args:
      transition_steps: the length of the cycle in steps, at least 1.
      peak_value: the highest value.
      pct_start: the fraction of the cycle after which the peak is reached, in [0, 1].
      pct_final: the fraction after which the initial value is reached again, from `pct_start` to 1.
        Where it equals `pct_start` the value drops from the peak; with 1 the final value follows at the
        step after the cycle.
      div_factor: the ratio of the peak to the initial value, greater than 0.
      final_div_factor: the ratio of the initial to the final value, greater than 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

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
    steps, start, end = _check(where, transition_steps, peak_value, div_factor, final_div_factor)
    check_scalar(where, low=0, high=1, pct_start=pct_start, pct_final=pct_final)
    if pct_final < pct_start:
        raise ValueError(f"{where}: pct_final={pct_final} must be at least pct_start={pct_start}")
    knots = [(int(pct_start * steps), peak_value), (int(pct_final * steps), start), (steps, end)]
    return interpolate("linear", start, knots)


def _check(
    where: str, transition_steps: Any, peak_value: Any, div_factor: Any, final_div_factor: Any
) -> tuple[int, Any, Any]:
    """Checks the arguments; returns the length, the initial and the final value."""
    check_value(where, peak_value=peak_value)
    check_value(where, above=0, div_factor=div_factor, final_div_factor=final_div_factor)
    steps = whole(where, "transition_steps", transition_steps, least=1)
    if not isinstance(steps, int):
        raise TypeError(f"{where}: transition_steps must be a Python int, not an array")
    if not is_plain(peak_value, div_factor, final_div_factor):
        peak_value, div_factor, final_div_factor = map(
            real, (peak_value, div_factor, final_div_factor)
        )
    return steps, peak_value / div_factor, peak_value / div_factor / final_div_factor
