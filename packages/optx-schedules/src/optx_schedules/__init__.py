"""optx-schedules: learning rates and other values as functions of the step."""

from optx_core.build import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _constant: constant_schedule
    _cosine: cosine_decay_schedule
    _cyclic: cyclic_schedule
    _exponential: exponential_decay
    _inverse_sqrt: warmup_inverse_sqrt_schedule
    _join: join_schedules
    _modify: clamp scale_schedule shift_schedule
    _onecycle: cosine_onecycle_schedule linear_onecycle_schedule
    _piecewise: piecewise_constant_schedule piecewise_interpolate_schedule
    _plot: plot
    _polynomial: linear_schedule polynomial_schedule
    _reduce_on_plateau: ReduceLROnPlateauState reduce_on_plateau
    _restarts: cosine_restarts_schedule sgdr_schedule
    _schedule: Schedule
    _sketch: sketch
    _stateful: StatefulSchedule WrappedSchedule WrappedScheduleState
    _table: table
    _tail_average: tail_average_schedule
    _warmup: warmup_constant_schedule warmup_cosine_decay_schedule
        warmup_exponential_decay_schedule warmup_polynomial_decay_schedule
    _warmup_stable_decay: warmup_stable_decay_schedule
    """,
)
