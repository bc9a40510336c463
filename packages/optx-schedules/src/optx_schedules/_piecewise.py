"""Values that change at given steps: by jumps, or smoothly from one to the next.

v₀ = init,  vᵢ = vᵢ₋₁·scaleᵢ

Constant: s(n) = vᵢ from boundary bᵢ on. Interpolated: s(bᵢ) = vᵢ, and between two boundaries a
straight line or half a cosine wave from one value to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_scales, check_value
from optx_schedules._cosine import cosine_weight
from optx_schedules._progress import Progress, clip_count, progress, real
from optx_schedules._schedule import Schedule


@recorded
def piecewise_constant_schedule(
    init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None = None
) -> Schedule:
    """Jumps at given steps.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: for each boundary step the factor, at least 0, that the value is
        multiplied by from that step on; None for a constant.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number, or a boundary no whole one.
      ValueError: if a boundary or a factor is negative.

    Example:
      >>> from optx_schedules import piecewise_constant_schedule, sketch
      >>> print(sketch(piecewise_constant_schedule(1.0, {20: 0.5, 40: 0.5}), 60))
         1 |********************
           |
           |
           |                    ********************
           |
      0.25 |                                        ********************
    """
    where = "piecewise_constant_schedule"
    check_value(where, init_value=init_value)
    pairs = check_scales(where, boundaries_and_scales)

    def at(count: jax.Array) -> jax.Array:
        value = jnp.broadcast_to(real(init_value), count.shape)
        for boundary, factor in pairs:
            reached = count >= clip_count(count, boundary, boundary)
            value = jnp.where(reached, value * real(factor), value)
        return value

    return Schedule(at, tuple(boundary for boundary, _ in pairs))


@recorded
def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: Scalar,
    boundaries_and_scales: Mapping[int, Scalar] | None = None,
) -> Schedule:
    """Goes from value to value, which it reaches at given steps.

    Args:
      interpolate_type: "linear" or "cosine".
      init_value: the value at step 0.
      boundaries_and_scales: for each boundary step the factor, at least 0, between the value at the
        boundary before and the value there; None for a constant.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is no number, or a boundary no whole one.
      ValueError: if the type is neither of the two, or a boundary or a factor is negative.

    Example:
      >>> from optx_schedules import piecewise_interpolate_schedule, sketch
      >>> print(sketch(piecewise_interpolate_schedule("cosine", 0.2, {20: 5, 50: 0.4}), 60))
        1 |                ************
          |             ***            ******
          |          ***                     *****
          |        **                             *******
          |     ***                                      **************
      0.2 |*****
    """
    where = "piecewise_interpolate_schedule"
    check_value(where, init_value=init_value)
    return interpolate(where, interpolate_type, init_value, boundaries_and_scales)


def interpolate(
    where: str, kind: str, init_value: Any, boundaries_and_scales: Mapping[Any, Any] | None
) -> Schedule:
    """`piecewise_interpolate_schedule`, with errors that name another function."""
    if kind not in ("linear", "cosine"):
        raise ValueError(f"{where}: interpolate_type must be 'linear' or 'cosine', not {kind!r}")
    pairs = check_scales(where, boundaries_and_scales)

    def at(count: jax.Array) -> jax.Array:
        start, here = 0, real(init_value)
        value = jnp.broadcast_to(here, count.shape)
        for boundary, factor in pairs:
            target = here * real(factor)
            if boundary > start:
                share = progress(count, boundary - start, start)
                if kind == "cosine":
                    share = Progress(cosine_weight(share.done), cosine_weight(share.left))
                begun = count > clip_count(count, start, start)
                value = jnp.where(begun, here * share.left + target * share.done, value)
            else:  # a jump at step 0
                value = jnp.broadcast_to(target, count.shape)
            start, here = boundary, target
        return value

    return Schedule(at, tuple(boundary for boundary, _ in pairs))
