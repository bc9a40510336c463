"""Values given at boundary steps: piecewise constant, or interpolated between them.

v₀ = init,   vᵢ = vᵢ₋₁·scaleᵢ
constant:       s(n) = vᵢ from boundary bᵢ on
interpolated:   s(bᵢ) = vᵢ

where scaleᵢ is the factor at boundary bᵢ. Between two boundaries the interpolated values follow a straight
line or half a cosine wave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from optx_core import Scalar
from optx_core.build import recorded
from optx_schedules._checks import check_scales, check_value, is_plain
from optx_schedules._progress import along_cosine, between, clip_count, progress, real
from optx_schedules._schedule import Schedule


@recorded
def piecewise_constant_schedule(
    init_value: Scalar, boundaries_and_scales: Mapping[int, Scalar] | None = None
) -> Schedule:
    """Multiplies the value by a factor at each of the given steps.

    Args:
      init_value: the value before the first boundary.
      boundaries_and_scales: a dict from boundary steps to factors, at least 0. From each boundary on
        the value is multiplied by its factor. None for a constant.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number, or a boundary not a whole number.
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
    knots = _knots(init_value, check_scales(where, boundaries_and_scales))

    def at(count: jax.Array) -> jax.Array:
        value = jnp.broadcast_to(real(init_value), count.shape)
        for boundary, target in knots:
            reached = count >= clip_count(count, boundary, boundary)
            value = jnp.where(reached, real(target), value)
        return value

    return Schedule(at, tuple(boundary for boundary, _ in knots))


@recorded
def piecewise_interpolate_schedule(
    interpolate_type: str,
    init_value: Scalar,
    boundaries_and_scales: Mapping[int, Scalar] | None = None,
) -> Schedule:
    """Interpolates between values that are reached at the given steps.

    Args:
      interpolate_type: "linear" or "cosine".
      init_value: the value at step 0.
      boundaries_and_scales: a dict from boundary steps to factors, at least 0. The value at a boundary is
        the value at the previous one times the factor. None for a constant.

    Returns:
      A schedule.

    Raises:
      TypeError: if an argument is not a number, or a boundary not a whole number.
      ValueError: if the type is unknown, or a boundary or a factor is negative.

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
    if interpolate_type not in ("linear", "cosine"):
        raise ValueError(
            f"{where}: interpolate_type must be 'linear' or 'cosine', not {interpolate_type!r}"
        )
    pairs = check_scales(where, boundaries_and_scales)
    return interpolate(interpolate_type, init_value, _knots(init_value, pairs))


def interpolate(kind: str, init_value: Any, knots: Sequence[tuple[int, Any]]) -> Schedule:
    """Interpolates between knots, pairs of a step and the value there, sorted by step.

    Of several knots at one step, the first gives the value there and the last the value from which
    the next stretch starts. A knot at step 0 replaces `init_value`.
    """

    def at(count: jax.Array) -> jax.Array:
        start, here = 0, init_value
        value = jnp.broadcast_to(real(here), count.shape)
        for i, (boundary, target) in enumerate(knots):
            passed = count > clip_count(count, start, start)
            if boundary > start:
                share = progress(count, boundary - start, start)
                if kind == "cosine":
                    share = along_cosine(share)
                value = jnp.where(passed, between(here, target, share), value)
            elif i == 0:
                value = jnp.broadcast_to(real(target), count.shape)
            else:
                value = jnp.where(passed, real(target), value)
            start, here = boundary, target
        return value

    return Schedule(at, tuple(boundary for boundary, _ in knots))


def _knots(init_value: Any, pairs: Sequence[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Turns factors into values: each is the previous value times its factor."""
    knots, value = [], init_value
    for boundary, factor in pairs:
        value = value * factor if is_plain(value, factor) else real(value) * real(factor)
        knots.append((boundary, value))
    return knots
