"""One schedule after another.

s(n) = sᵢ(n − bᵢ) for bᵢ ≤ n < bᵢ₊₁,   b₀ = 0

where sᵢ is schedule i and bᵢ the boundary at which it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optx_core.build import recorded
from optx_schedules._checks import check_boundaries
from optx_schedules._progress import clip_count, since
from optx_schedules._schedule import Schedule, boundaries_of, check_schedule, value_at


@recorded
def join_schedules(
    schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[int]
) -> Schedule:
    """Joins schedules at boundaries; each counts its steps from its own boundary.

    Args:
      schedules: one or more schedules, or functions of the step.
      boundaries: the steps at which the second, third, ... schedule starts, in increasing order; one
        fewer than schedules.

    Returns:
      A schedule.

    Raises:
      TypeError: if an element is not a schedule.
      ValueError: if boundaries are unsorted or negative, or not one fewer than the schedules.

    Example:
      >>> from optx_schedules import constant_schedule, join_schedules, linear_schedule, sketch
      >>> warmup, hold = linear_schedule(0.0, 1.0, 20), constant_schedule(1.0)
      >>> decay = linear_schedule(1.0, 0.0, 20)
      >>> print(sketch(join_schedules([warmup, hold, decay], [20, 40]), 60))
      1 |                  *************************
        |              ****                         ****
        |          ****                                 ****
        |      ****                                         ****
        |  ****                                                 ****
      0 |**                                                         *
    """
    where = "join_schedules"
    if not isinstance(schedules, Sequence) or not isinstance(boundaries, Sequence):
        raise TypeError(f"{where}: schedules and boundaries must be sequences, such as lists")
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"{where}: {len(schedules)} schedules need {max(len(schedules) - 1, 0)} boundaries "
            f"between them, not {len(boundaries)}"
        )
    check_schedule(where, **{f"schedules[{i}]": s for i, s in enumerate(schedules)})
    return join(tuple(schedules), check_boundaries(where, boundaries))


def join(schedules: Sequence[Callable[[Any], Any]], boundaries: Sequence[Any]) -> Schedule:
    """Builds `join_schedules` from checked arguments."""
    starts = [0, *boundaries]

    def at(count: jax.Array) -> jax.Array:
        # No schedule is evaluated past its own stretch, where it might not be finite.
        ends = boundaries[0] if boundaries else None
        first = count if ends is None else jnp.minimum(count, clip_count(count, ends, ends))
        value = value_at(schedules[0], first)
        for i, start in enumerate(boundaries, 1):
            own = count
            if i < len(boundaries):
                own = jnp.minimum(count, clip_count(count, boundaries[i], boundaries[i]))
            taken = count >= clip_count(count, start, start)
            value = jnp.where(taken, value_at(schedules[i], since(own, start)), value)
        return value

    inner = [
        b + start
        for schedule, start, end in zip(schedules, starts, [*boundaries, None], strict=True)
        if isinstance(start, int)
        for b in boundaries_of(schedule)
        if end is None or (isinstance(end, int) and b + start < end)
    ]
    return Schedule(at, (*(b for b in boundaries if isinstance(b, int) and b), *inner))
