"""The names of `optax.schedules`: values as functions of the step."""

# Written by tools/write_stubs.py.

from optx_core import InjectStatefulHyperparamsState as InjectHyperparamsState
from optx_core import InjectStatefulHyperparamsState as InjectStatefulHyperparamsState
from optx_core import Schedule as Schedule
from optx_core import inject_hyperparams as inject_hyperparams
from optx_core import inject_stateful_hyperparams as inject_stateful_hyperparams
from optx_schedules import StatefulSchedule as StatefulSchedule
from optx_schedules import WrappedSchedule as WrappedSchedule
from optx_schedules import constant_schedule as constant_schedule
from optx_schedules import cosine_decay_schedule as cosine_decay_schedule
from optx_schedules import cosine_onecycle_schedule as cosine_onecycle_schedule
from optx_schedules import exponential_decay as exponential_decay
from optx_schedules import join_schedules as join_schedules
from optx_schedules import linear_onecycle_schedule as linear_onecycle_schedule
from optx_schedules import linear_schedule as linear_schedule
from optx_schedules import piecewise_constant_schedule as piecewise_constant_schedule
from optx_schedules import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from optx_schedules import polynomial_schedule as polynomial_schedule
from optx_schedules import sgdr_schedule as sgdr_schedule
from optx_schedules import warmup_constant_schedule as warmup_constant_schedule
from optx_schedules import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from optx_schedules import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule

__all__ = [
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "Schedule",
    "StatefulSchedule",
    "WrappedSchedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polynomial_schedule",
    "sgdr_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
]
