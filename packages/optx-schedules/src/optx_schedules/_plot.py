"""Plots of schedules with matplotlib: `pip install optx-schedules[plot]`."""

from __future__ import annotations

from typing import Any

from optx_schedules._checks import whole
from optx_schedules._schedule import values_at
from optx_schedules._table import Schedules, boundaries_within, choose_steps, name_schedules

_POINTS = 2000


def plot(schedule: Schedules, steps: Any, *, ax: Any = None) -> Any:
    """Plots one or several schedules on the same axes and marks their boundaries.

    Args:
      schedule: a schedule, a list of schedules, or a dict from names to schedules.
      steps: the number of steps, from step 0; or a sequence of steps.
      ax: the matplotlib axes to plot on; the current ones by default.

    Returns:
      The axes.

    Raises:
      ImportError: if matplotlib is not installed.
      TypeError: if an element is not a schedule.
      ValueError: if there are no schedules or no steps.

    Example:
      >>> from optx_schedules import cosine_decay_schedule, linear_schedule, plot
      >>> rates = {"linear": linear_schedule(1.0, 0.0, 90), "cosine": cosine_decay_schedule(1.0, 90)}
      >>> ax = plot(rates, 100)  # doctest: +SKIP
    """
    named = name_schedules("plot", schedule)
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "plot needs matplotlib: pip install 'optx-schedules[plot]'"
            ) from error
        ax = plt.gca()
    number = isinstance(steps, int | float)
    last = whole("plot", "steps", steps, least=1) - 1 if number else int(max(steps))
    marks = boundaries_within(named, last)
    around = marks | {b - 1 for b in marks if b}  # so that a jump is vertical
    counts = choose_steps("plot", steps, _POINTS, around if number else set())
    for label, one in named.items():
        ax.plot(counts, values_at(one, counts), label=label)
    for boundary in sorted(marks):
        ax.axvline(boundary, color="0.7", linestyle=":", linewidth=1, zorder=0)
    ax.set_xlabel("step")
    if len(named) > 1 or next(iter(named)) != "value":
        ax.legend()
    return ax
