"""Text plots of schedules, for docstrings and terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from optx_schedules._checks import whole
from optx_schedules._schedule import check_schedule, values_at


def sketch(schedule: Callable[[Any], Any], steps: int, *, width: int = 60, height: int = 6) -> str:
    """Plots a schedule as text.

    Args:
      schedule: a schedule, or any function of the step.
      steps: the number of steps to show, from step 0; at least 1.
      width: the number of columns, at least 2; there is at most one per step.
      height: the number of rows, at least 2.

    Returns:
      The plot, labeled with the largest and the smallest value.

    Raises:
      TypeError: if `schedule` is not a schedule.
      ValueError: if a size is too small, or a value is not finite.

    Example:
      >>> from optx_schedules import linear_schedule, sketch
      >>> print(sketch(linear_schedule(0.0, 1.0, 20), 40, width=20, height=4))
      1 |         ***********
        |     ****
        |  ***
      0 |**
    """
    check_schedule("sketch", schedule=schedule)
    steps = whole("sketch", "steps", steps, least=1)
    width = min(whole("sketch", "width", width, least=2), steps)
    height = whole("sketch", "height", height, least=2)
    counts = np.round(np.linspace(0, steps - 1, width)).astype(np.int64)
    values = values_at(schedule, counts)
    low, high = (values.min(), values.max()) if np.isfinite(values).all() else (np.nan, np.nan)
    if np.isnan(low):
        raise ValueError("sketch: the schedule has non-finite values")
    if high == low:
        low, high = min(low, 0.0), max(high, 0.0) if high else 1.0
    rows = np.round((values - low) / (high - low) * (height - 1) + 1e-4).astype(int)
    labels = [f"{high:.3g}", *[""] * (height - 2), f"{low:.3g}"]
    margin = max(map(len, labels))
    lines = []
    for label, level in zip(labels, range(height - 1, -1, -1), strict=True):
        dots = "".join("*" if row == level else " " for row in rows)
        lines.append(f"{label:>{margin}} |{dots}".rstrip())
    return "\n".join(lines)
