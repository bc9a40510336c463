"""Schedules for any hyper-parameter.

A transformation is built for numbers. `schedulable` makes its factory accept schedules too: the state
then holds a count, and at every update the transformation is built for the values at that step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp

from optx_core._engine.flow import Flow
from optx_core._engine.numbers import safe_increment, zero_count
from optx_core._engine.staged import staged
from optx_core._protocol.diagnosis import check_state
from optx_core._protocol.dtypes import at_least_float32, is_inexact
from optx_core._protocol.kinds import Count, InnerState
from optx_core._protocol.types import GradientTransformationExtraArgs, Params

P = ParamSpec("P")


class ScheduledState(NamedTuple):
    """State of a transformation with a scheduled hyper-parameter.

    Attributes:
      count: int32 scalar, the number of updates so far; the schedules are evaluated at it.
      inner_state: the transformation's own state.
    """

    count: Count
    inner_state: InnerState


def schedulable(
    *names: str,
) -> Callable[
    [Callable[P, GradientTransformationExtraArgs]], Callable[P, GradientTransformationExtraArgs]
]:
    """Makes a factory of transformations accept schedules for the named hyper-parameters.

    Args:
      *names: arguments of the function that are numbers, or tuples of numbers. A callable passed for a
        number is a schedule: it takes the number of updates so far and returns the number.

    Returns:
      A decorator, to be placed below `recorded`. Without a schedule nothing changes; with one, the
      state is a `ScheduledState` around the transformation's own.

    Example:
      >>> from optx_core.build import leafwise, LeafStep, recorded, schedulable
      >>> def leaf(g, *, factor):
      ...     return factor * g
      >>> @recorded
      ... @schedulable("factor")
      ... def times(factor):
      ...     return leafwise(lambda flow, state, params, **_: LeafStep(leaf, operands={"factor": factor}))
      >>> tx = times(lambda count: 1.0 / (1 + count))
      >>> tx.init(None).count
      Array(0, dtype=int32)
    """

    def decorate(
        function: Callable[P, GradientTransformationExtraArgs],
    ) -> Callable[P, GradientTransformationExtraArgs]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def make(*args: P.args, **kwargs: P.kwargs) -> GradientTransformationExtraArgs:
            arguments = signature.bind(*args, **kwargs).arguments
            schedules = {name: arguments[name] for name in names if _moves(arguments.get(name))}
            if not schedules:
                return function(*args, **kwargs)
            return _scheduled(function, signature, arguments, schedules)

        return make

    return decorate


def _moves(number: Any) -> bool:
    return callable(number) or (isinstance(number, tuple) and any(map(callable, number)))


def _at(number: Any, count: jax.Array) -> Any:
    if isinstance(number, tuple):
        return tuple(_at(one, count) for one in number)
    return evaluate(number, count)


def evaluate(value: Any, count: jax.Array, dtype: Any = None) -> Any:
    """Returns a number, or the value of a schedule at a count.

    Args:
      value: a number, or a schedule of the number of updates so far.
      count: the number of updates so far.
      dtype: the dtype of the result; by default a number is returned unchanged, and the value of a schedule
        as an array of at least float32.

    Returns:
      The number.
    """
    if callable(value):
        schedule, value = value, value(count)
        if value is None or isinstance(value, tuple | list | dict):
            raise TypeError(f"a schedule must return a number, but {schedule!r} returned {value!r}")
        value = jnp.asarray(value)
        if value.ndim:
            raise TypeError(
                f"a schedule must return a number, but {schedule!r} returned an array of shape {value.shape}"
            )
        if dtype is None:
            dtype = at_least_float32(value.dtype) if is_inexact(value) else jnp.float32
    return value if dtype is None else jnp.asarray(value).astype(dtype)


def _scheduled(
    function: Callable[..., GradientTransformationExtraArgs],
    signature: inspect.Signature,
    arguments: dict[str, Any],
    schedules: dict[str, Any],
) -> GradientTransformationExtraArgs:
    def at(count: jax.Array) -> GradientTransformationExtraArgs:
        bound = inspect.BoundArguments(signature, dict(arguments))
        for name, schedule in schedules.items():
            bound.arguments[name] = _at(schedule, count)
        return function(*bound.args, **bound.kwargs)

    def init(params: Params) -> ScheduledState:
        count = zero_count()
        return ScheduledState(count, at(count).init(params))

    def stages(
        flow: Flow, state: ScheduledState, params: Params = None, **extra_args: Any
    ) -> Callable[[], ScheduledState]:
        check_state(flow.trail, ScheduledState, state)
        finish = flow.through(at(state.count), state.inner_state, params, **extra_args)
        return lambda: ScheduledState(safe_increment(state.count), finish())

    return staged(init, stages)
