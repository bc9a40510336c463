"""optx-schedules: learning rates and other values as functions of the step."""

from optx_schedules._constant import constant_schedule
from optx_schedules._cosine import cosine_decay_schedule
from optx_schedules._cyclic import cyclic_schedule
from optx_schedules._exponential import exponential_decay
from optx_schedules._inverse_sqrt import warmup_inverse_sqrt_schedule
from optx_schedules._join import join_schedules
from optx_schedules._modify import clamp, scale_schedule, shift_schedule
from optx_schedules._onecycle import cosine_onecycle_schedule, linear_onecycle_schedule
from optx_schedules._piecewise import piecewise_constant_schedule, piecewise_interpolate_schedule
from optx_schedules._plot import plot
from optx_schedules._polynomial import linear_schedule, polynomial_schedule
from optx_schedules._reduce_on_plateau import ReduceLROnPlateauState, reduce_on_plateau
from optx_schedules._restarts import cosine_restarts_schedule, sgdr_schedule
from optx_schedules._schedule import Schedule
from optx_schedules._sketch import sketch
from optx_schedules._stateful import StatefulSchedule, WrappedSchedule, WrappedScheduleState
from optx_schedules._table import table
from optx_schedules._warmup import (
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
    warmup_exponential_decay_schedule,
    warmup_polynomial_decay_schedule,
)
from optx_schedules._warmup_stable_decay import warmup_stable_decay_schedule

__all__ = [
    "ReduceLROnPlateauState",
    "Schedule",
    "StatefulSchedule",
    "WrappedSchedule",
    "WrappedScheduleState",
    "clamp",
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "cosine_restarts_schedule",
    "cyclic_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "plot",
    "polynomial_schedule",
    "reduce_on_plateau",
    "scale_schedule",
    "sgdr_schedule",
    "shift_schedule",
    "sketch",
    "table",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "warmup_inverse_sqrt_schedule",
    "warmup_polynomial_decay_schedule",
    "warmup_stable_decay_schedule",
]
