"""Decay rates with which an exponential moving average becomes another average of a run's tail.

For iterates θ_j, j = 0, 1, ... from `start` on, with weights c_j and C_j = c₀ + ... + c_j, the average

ema ← d_j·ema + (1 − d_j)·θ_j,   d_j = C_{j−1} / C_j

is Σ c_i·θ_i / C_j. Equal weights give d_j = j / (j + 1).

A run with a constant learning rate whose iterates are merged with c_j = w_j − w_{j+1} ends where a run ends
whose j-th update is multiplied by w_j, if the gradients are the same: merging takes the place of a decay of
the learning rate. With w₀ = 1 then C_j = 1 − w_{j+1}.

Reference: WSM, "Decay-Free Learning Rate Schedule via Checkpoint Merging", arXiv:2507.17634, 2025.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_core.build import recorded
from optx_schedules._checks import whole
from optx_schedules._progress import plus, real, since
from optx_schedules._schedule import Schedule, check_schedule, value_at


@recorded
def tail_average_schedule(start: int, decay: Callable[[Any], Any] | None = None) -> Schedule:
    """A decay rate for `optx_core.with_ema`, which then averages the parameters from a step on.

    Use it with a constant learning rate, in place of its decay at the end.

    Args:
      start: the number of updates before the first parameters that are averaged, at least 0. Until then the
        average is the parameters.
      decay: w, the decay of the learning rate to replace: a schedule of the updates since `start`, from 1 at
        0 down, such as `linear_schedule(1.0, 0.0, 1000)`. Where it reaches 0 the average stays. None for
        equal weights without end.

    Returns:
      A schedule of the updates before this one, with values in [0, 1].

    Raises:
      TypeError: if `decay` is not a schedule.
      ValueError: if `start` is negative, or `decay` is not 1 at 0.

    Example:
      >>> from optx_schedules import linear_schedule, tail_average_schedule
      >>> equal = tail_average_schedule(2)
      >>> [round(float(equal(count)), 2) for count in range(5)]
      [0.0, 0.0, 0.5, 0.67, 0.75]
      >>> decayed = tail_average_schedule(2, linear_schedule(1.0, 0.0, 3))
      >>> [round(float(decayed(count)), 2) for count in range(6)]
      [0.0, 0.0, 0.5, 0.67, 1.0, 1.0]
    """
    where = "tail_average_schedule"
    first = whole(where, "start", start)
    if decay is not None:
        check_schedule(where, decay=decay)
        peak = value_at(decay, 0)
        if not isinstance(peak, jax.core.Tracer) and abs(float(peak) - 1) > 1e-6:
            raise ValueError(
                f"{where}: decay must be 1 at 0, not {float(peak):g}; divide it by its largest value"
            )

    def at(count: jax.Array) -> jax.Array:
        # The parameters after this update are number count + 1, and j = 0 is number start.
        j = since(plus(count, 1), first)
        if decay is None:
            return real(j) / (real(j) + 1)
        before, after = (1 - value_at(decay, k) for k in (j, plus(j, 1)))
        some = after > 0
        return jnp.where(some & (j > 0), before / jnp.where(some, after, 1), 0)

    return Schedule(at, (start,) if isinstance(start, int) else ())
