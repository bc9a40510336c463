"""A periodic rise and fall between two values.

s(n) = low + (high − low)·x·scale,   x = 0 → 1 in `up_steps`, 1 → 0 in `down_steps`

triangular: scale = 1;   triangular2: scale = 2^−cycle;   exp_range: scale = gammaⁿ

where low and high are the two values and cycle is the number of complete cycles.

Reference: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import progress, rate_power, real, since, within
from optx_schedules._schedule import Schedule


@recorded
def cyclic_schedule(
    low_value: Scalar,
    high_value: Scalar,
    up_steps: int,
    down_steps: int | None = None,
    mode: str = "triangular",
    gamma: Scalar = 1.0,
) -> Schedule:
    """Oscillates linearly between two values.

    Args:
      low_value: the value at the start of each cycle.
      high_value: the value at the peak of the first cycle.
      up_steps: the length of the rise in steps, at least 1.
      down_steps: the length of the fall in steps, at least 1; `up_steps` by default.
      mode: "triangular" (equal cycles), "triangular2" (each cycle half as high as the previous one) or
        "exp_range" (the height is multiplied by `gamma` at every step).
      gamma: the factor of "exp_range", at least 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range, or the mode is unknown.

    Example:
      >>> from optx_schedules import cyclic_schedule, sketch
      >>> print(sketch(cyclic_schedule(0.0, 1.0, 10, mode="triangular2"), 60))
      1 |         ***
        |       **   **
        |     **       **              *
        |   **           **        **** ****
        | **               **  ****         ****     *************
      0 |*                   **                 *****             ***
    """
    where = "cyclic_schedule"
    check_value(where, low_value=low_value, high_value=high_value)
    check_value(where, low=0, gamma=gamma)
    if mode not in ("triangular", "triangular2", "exp_range"):
        raise ValueError(
            f"{where}: mode must be 'triangular', 'triangular2' or 'exp_range', not {mode!r}"
        )
    up = whole(where, "up_steps", up_steps, least=1)
    down = up if down_steps is None else whole(where, "down_steps", down_steps, least=1)

    def at(count: jax.Array) -> jax.Array:
        gone = since(count, 0)
        length = within(gone, up + down)
        place = gone % length
        rising, falling = progress(place, up), progress(place, down, up)
        x = jnp.where(place < within(gone, up), rising.done, falling.left)
        if mode == "triangular2":
            x = x * rate_power(0.5, real(gone // length))
        elif mode == "exp_range":
            x = x * rate_power(gamma, real(gone))
        low = real(low_value)
        return low + (real(high_value) - low) * x

    ends: tuple[Any, ...] = (up, up + down) if isinstance(up, int) and isinstance(down, int) else ()
    return Schedule(at, ends)
