"""Linear warm-up, then decay with the inverse square root of the step.

s(n) = init + (peak − init)·n / warmup      for n < warmup
s(n) = peak·√(timescale / (timescale + n − warmup))      from there on

With timescale = warmup, the default, the second line is peak·√(warmup / n).

References: Vaswani et al., "Attention Is All You Need", 2017, section 5.3; Zhai et al., "Scaling
Vision Transformers", 2022, for the timescale.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import real, since
from optx_schedules._schedule import Schedule
from optx_schedules._warmup import after_warmup


@recorded
def warmup_inverse_sqrt_schedule(
    init_value: Scalar, peak_value: Scalar, warmup_steps: int, timescale: Scalar | None = None
) -> Schedule:
    """Warms up linearly, then decays with the inverse square root of the step.

    Args:
      init_value: the value at step 0.
      peak_value: the value at the end of the warm-up.
      warmup_steps: the length of the warm-up in steps; 0 for none.
      timescale: the number of steps of decay after which the value is peak / √2, greater than 0. By
        default `warmup_steps` (1 without a warm-up).

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

    Example:
      >>> from optx_schedules import sketch, warmup_inverse_sqrt_schedule
      >>> warmup_inverse_sqrt_schedule(0.0, 1.0, 10)(40)
      Array(0.5, dtype=float32)
      >>> print(sketch(warmup_inverse_sqrt_schedule(0.0, 1.0, 8), 60))
      1 |        **
        |      **  *******
        |    **           ****************
        |   *                             ***************************
        | **
      0 |*
    """
    where = "warmup_inverse_sqrt_schedule"
    warmup = whole(where, "warmup_steps", warmup_steps)
    scale: Any = timescale
    if scale is None:
        scale = max(warmup, 1) if isinstance(warmup, int) else jnp.maximum(warmup, 1)
    else:
        check_value(where, above=0, timescale=scale)

    def tail(count: jax.Array) -> jax.Array:
        unit = real(scale)
        return real(peak_value) * jnp.sqrt(unit / (unit + real(since(count, 0))))

    return after_warmup(where, init_value, peak_value, warmup_steps, Schedule(tail))
