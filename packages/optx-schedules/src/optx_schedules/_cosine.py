"""Decay along half a cosine wave (Loshchilov, Hutter, "SGDR", 2017, equation 5).

w = (1 + cos(π·done)) / 2 = sin²(π·left / 2),   s(n) = init·((1 − alpha)·w^exponent + alpha)
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import progress, real
from optx_schedules._schedule import Schedule


@recorded
def cosine_decay_schedule(
    init_value: Scalar, decay_steps: int, alpha: Scalar = 0.0, exponent: Scalar = 1.0
) -> Schedule:
    """Falls from a value to a fraction of it along half a cosine wave.

    Args:
      init_value: the value at step 0.
      decay_steps: how many steps the decay takes, at least 1.
      alpha: the last value as a fraction of the first.
      exponent: the power the wave is raised to, greater than 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number.
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_schedules import cosine_decay_schedule, sketch
      >>> cosine_decay_schedule(1.0, 50)(25).round(3)
      Array(0.5, dtype=float32)
      >>> print(sketch(cosine_decay_schedule(1.0, 50), 60))
      1 |***********
        |           ********
        |                   *******
        |                          ******
        |                                ********
      0 |                                        ********************
    """
    check_value("cosine_decay_schedule", init_value=init_value, alpha=alpha)
    check_value("cosine_decay_schedule", above=0, exponent=exponent)
    steps = whole("cosine_decay_schedule", "decay_steps", decay_steps, least=1)

    def at(count: jax.Array) -> jax.Array:
        w = cosine_weight(progress(count, steps).left, exponent)
        return real(init_value) * ((1 - real(alpha)) * w + real(alpha))

    return Schedule(at, (steps,))


def cosine_weight(left: jax.Array, exponent: Any = 1) -> jax.Array:
    """sin²(π·left / 2) to a power: 1 where all is ahead, 0 where all is done."""
    w = jnp.sin(left * (math.pi / 2)) ** 2
    return w if isinstance(exponent, int | float) and exponent == 1 else w ** real(exponent)


def cosine_tail(count: jax.Array, init: Any, end: Any, steps: Any, exponent: Any) -> jax.Array:
    """From `init` to `end` in `steps` steps: end + (init − end)·w^exponent."""
    share = progress(count, steps)
    w = cosine_weight(share.left, exponent)
    one = isinstance(exponent, int | float) and exponent == 1
    rest = cosine_weight(share.done) if one else 1 - w
    return real(init) * w + real(end) * rest
