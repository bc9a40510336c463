"""A constant.

s(n) = value
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value
from optx_schedules._progress import real
from optx_schedules._schedule import Schedule


@recorded
def constant_schedule(value: Scalar) -> Schedule:
    """Returns the same value at every step.

    Args:
      value: the value, a scalar.

    Returns:
      A schedule.

    Raises:
      TypeError: if the value is not a number.
      ValueError: if the value is not finite.

    Example:
      >>> from optx_schedules import constant_schedule, sketch
      >>> constant_schedule(0.5)(7)
      Array(0.5, dtype=float32)
      >>> print(sketch(constant_schedule(0.5), 60))
      0.5 |************************************************************
          |
          |
          |
          |
        0 |
    """
    check_value("constant_schedule", value=value)

    def at(count: jax.Array) -> jax.Array:
        constant = real(value)
        shape = jnp.broadcast_shapes(count.shape, constant.shape)
        return jnp.broadcast_to(constant, shape)

    return Schedule(at)
