"""Decay along half a cosine wave.

w = (1 + cos(π·done)) / 2 = sin²(π·left / 2),   s(n) = init·((1 − alpha)·w^exponent + alpha)

where done = n / decay_steps, at most 1, and left = 1 − done.

Reference: Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5.
"""

from __future__ import annotations

import jax

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_value, whole
from optx_schedules._progress import along_cosine, along_power, between, progress, real
from optx_schedules._schedule import Schedule


@recorded
def cosine_decay_schedule(
    init_value: Scalar, decay_steps: int, alpha: Scalar = 0.0, exponent: Scalar = 1.0
) -> Schedule:
    """Decays from a value to a fraction of it along half a cosine wave.

    Args:
      init_value: the value at step 0.
      decay_steps: the length of the decay in steps, at least 1.
      alpha: the final value as a fraction of `init_value`.
      exponent: the power to which the wave is raised, at least 0.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number.
      ValueError: if a number is out of range.

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
    check_value("cosine_decay_schedule", low=0, exponent=exponent)
    steps = whole("cosine_decay_schedule", "decay_steps", decay_steps, least=1)

    def at(count: jax.Array) -> jax.Array:
        share = along_power(along_cosine(progress(count, steps)), exponent)
        return real(init_value) * between(1.0, alpha, share)

    return Schedule(at, (steps,))
