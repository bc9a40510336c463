"""The values of schedules as a text table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optx_schedules._checks import whole
from optx_schedules._schedule import boundaries_of, check_schedule, values_at

Schedules = (
    Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | Mapping[str, Callable[[Any], Any]]
)


def table(schedule: Schedules, steps: int | Sequence[int], *, rows: int = 11) -> str:
    """Tabulates the values of one or several schedules.

    Args:
      schedule: a schedule, a list of schedules, or a dict from names to schedules.
      steps: the number of steps, from step 0; or a sequence of steps.
      rows: the number of evenly spaced steps to show if `steps` is a number. The schedules'
        boundaries are shown in addition.

    Returns:
      The table. A `*` marks a step at which a schedule's formula changes.

    Raises:
      TypeError: if an element is not a schedule.
      ValueError: if there are no schedules or no steps.

    Example:
      >>> from optx_schedules import constant_schedule, linear_schedule, table
      >>> rates = {"rate": linear_schedule(1.0, 0.0, 3), "momentum": constant_schedule(0.9)}
      >>> print(table(rates, 5))
       step  rate      momentum
          0  1         0.9
          1  0.666667  0.9
          2  0.333333  0.9
          3* 0         0.9
          4  0         0.9
    """
    named = name_schedules("table", schedule)
    marks = boundaries_within(named, np.iinfo(np.int64).max)
    counts = choose_steps("table", steps, rows, marks)
    columns = []
    for name, one in named.items():
        values = values_at(one, counts)
        texts = [name, *(f"{value:.6g}" for value in values)]
        columns.append([text.ljust(max(map(len, texts))) for text in texts])
    first = ["step", *map(str, counts)]
    margin = max(4, *map(len, first)) + 1
    starred = [" ", *("*" if count in marks else " " for count in counts)]
    lines = [
        f"{step:>{margin}}{star} {'  '.join(cells)}".rstrip()
        for step, star, *cells in zip(first, starred, *columns, strict=True)
    ]
    return "\n".join(lines)


def name_schedules(where: str, schedule: Schedules) -> dict[str, Callable[[Any], Any]]:
    """Returns a dict from names to schedules; by default a schedule is named by the call it prints as."""
    if isinstance(schedule, Mapping):
        named = {str(name): one for name, one in schedule.items()}
    elif isinstance(schedule, Sequence):
        named = {}
        for one in schedule:
            label = repr(one)
            named[label if label not in named else f"{label} ({len(named)})"] = one
    else:
        check_schedule(where, schedule=schedule)
        named = {"value": schedule}
    if not named:
        raise ValueError(f"{where}: there are no schedules")
    check_schedule(where, **named)
    return named


def boundaries_within(named: Mapping[str, Any], last: int) -> set[int]:
    """Returns the boundaries of all schedules up to a step."""
    return {b for one in named.values() for b in boundaries_of(one) if 0 <= b <= last}


def choose_steps(where: str, steps: Any, rows: int, marks: set[int]) -> np.ndarray:
    """Returns the steps to show."""
    if isinstance(steps, Sequence | np.ndarray | range):
        chosen = [
            whole(where, f"steps[{i}]", step.item() if hasattr(step, "item") else step)
            for i, step in enumerate(steps)
        ]
    else:
        last = whole(where, "steps", steps, least=1) - 1
        rows = whole(where, "rows", rows, least=1)
        even = np.round(np.linspace(0, last, min(rows, last + 1))).astype(np.int64)
        chosen = sorted({*even.tolist(), *(b for b in marks if b <= last)})
    if not chosen:
        raise ValueError(f"{where}: there are no steps to show")
    return np.array(chosen, dtype=np.int64)
