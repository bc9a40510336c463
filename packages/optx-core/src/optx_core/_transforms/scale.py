"""Multiplication of all updates by a number: a constant, a learning rate or a schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import jax

from optx_core import Scalar, ScalarOrSchedule, Schedule, build


class ScaleByScheduleState(NamedTuple):
    """State of `scale_by_schedule`.

    Attributes:
      count: int32 scalar, the number of updates so far.
    """

    count: build.Count


def scale_leaf(g: jax.Array, *, factor: Scalar) -> jax.Array:
    """Multiplies the update by a number."""
    return g * factor


@build.rule()
def _scaled(g: jax.Array, /, factor: build.Real) -> jax.Array:
    return scale_leaf(g, factor=factor)


@build.rule(ScaleByScheduleState)
def _scheduled(
    g: jax.Array,
    _s: ScaleByScheduleState,
    /,
    factor: Annotated[Any, build.Number(own_count=True)],
    sign: Literal[-1, 1] = 1,
) -> jax.Array:
    return scale_leaf(g, factor=sign * factor)


@build.recorded
def scale(step_size: Scalar) -> build.Transformation:
    """Multiplies all updates by a number.

    Args:
      step_size: the factor, a scalar. Use a negative one to turn gradients into descent steps.

    Returns:
      A transformation with an `EmptyState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale
      >>> scale(-0.5).update(jnp.array([2.0]), scale(-0.5).init(None))[0]
      Array([-1.], dtype=float32)
    """
    if callable(step_size):
        raise TypeError("scale takes a number; for a schedule use scale_by_schedule")
    build.check_number("scale", step_size=step_size)
    return _scaled(step_size)


@build.recorded
def scale_by_schedule(step_size_fn: Schedule) -> build.Transformation:
    """Multiplies all updates by the value of a schedule.

    Args:
      step_size_fn: takes the number of updates so far (0 at the first), returns the factor.

    Returns:
      A transformation with a `ScaleByScheduleState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale_by_schedule
      >>> tx = scale_by_schedule(lambda count: -1.0 / (1 + count))
      >>> state = tx.init(None)
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.array([1.0]), state)
      >>> updates
      Array([-0.5], dtype=float32)
    """
    if not callable(step_size_fn):
        raise TypeError(
            f"scale_by_schedule takes a function of the step, not {step_size_fn!r}; "
            "for a number use scale"
        )
    return _scheduled(step_size_fn)


@build.recorded
def scale_by_learning_rate(
    learning_rate: ScalarOrSchedule, *, flip_sign: bool = True
) -> build.Transformation:
    """Multiplies all updates by the learning rate, and by −1 to descend.

    Args:
      learning_rate: a scalar, or a schedule of the number of updates so far.
      flip_sign: whether to multiply by −1.

    Returns:
      A transformation with an `EmptyState`, or a `ScaleByScheduleState` for a schedule.

    Raises:
      ValueError: if the learning rate is NaN.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale_by_learning_rate
      >>> tx = scale_by_learning_rate(0.5)
      >>> tx.update(jnp.array([2.0]), tx.init(None))[0]
      Array([-1.], dtype=float32)
    """
    sign: Literal[-1, 1] = -1 if flip_sign else 1
    if callable(learning_rate):
        return _scheduled(learning_rate, sign)
    if learning_rate is None:
        raise TypeError(
            "scale_by_learning_rate: learning_rate must be a number or a schedule, not None"
        )
    build.check_number("scale_by_learning_rate", learning_rate=learning_rate)
    return _scaled(sign * learning_rate)
