"""Schedules with a state, for values that depend on more than the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

from optx_core import safe_increment
from optx_core.build import zero_count
from optx_schedules._schedule import check_schedule, value_at


@runtime_checkable
class StatefulSchedule(Protocol):
    """The protocol of a stateful schedule: any object with these three methods."""

    def init(self) -> Any:
        """Returns the initial state."""

    def update(self, state: Any, **extra_args: Any) -> Any:
        """Returns the next state; `extra_args` are those of the optimizer's update, such as `value=`."""

    def __call__(self, state: Any, **extra_args: Any) -> Any:
        """Returns the value in a state."""


class WrappedScheduleState(NamedTuple):
    """State of `WrappedSchedule`.

    Attributes:
      count: int32 scalar, the number of updates so far.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


class WrappedSchedule:
    """A stateful schedule that counts the steps and evaluates a function of the step.

    Args:
      schedule_fn: a schedule, or any function of the step.

    Example:
      >>> from optx_schedules import WrappedSchedule, linear_schedule
      >>> schedule = WrappedSchedule(linear_schedule(1.0, 0.0, 4))
      >>> state = schedule.init()
      >>> state = schedule.update(state)
      >>> schedule(state)
      Array(0.75, dtype=float32)
    """

    def __init__(self, schedule_fn: Callable[[Any], Any]) -> None:
        check_schedule("WrappedSchedule", schedule_fn=schedule_fn)
        self.schedule_fn = schedule_fn

    def init(self) -> WrappedScheduleState:
        """Returns the state at step 0."""
        return WrappedScheduleState(zero_count())

    def update(self, state: WrappedScheduleState, **extra_args: Any) -> WrappedScheduleState:
        """Returns the state one step later."""
        del extra_args
        return WrappedScheduleState(safe_increment(state.count))

    def __call__(self, state: WrappedScheduleState, **extra_args: Any) -> Any:
        """Returns the value in a state."""
        del extra_args
        return value_at(self.schedule_fn, state.count)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WrappedSchedule) and self.schedule_fn == other.schedule_fn

    def __hash__(self) -> int:
        return hash((WrappedSchedule, self.schedule_fn))

    def __repr__(self) -> str:
        return f"WrappedSchedule({self.schedule_fn!r})"
