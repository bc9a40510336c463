"""Tools for authors of transformations.

Users of optimizers need only `optx_core`.
"""

from optx_core._contents import table_of_contents

__getattr__, __dir__, __all__ = table_of_contents(
    __name__,
    """
    _combinators.partition: parted
    _contents: is_from_import table_of_contents
    _engine.factory: factory
    _engine.flow: Flow
    _engine.leafwise: LeafStep
    _engine.norms: finite_norm
    _engine.numbers: check_number check_scalar need_params zero_count
    _engine.rates: DecayRate rate_of
    _engine.rule: rule
    _engine.jaxprs: evaluate_jaxpr
    _engine.run_if: loop_carry run_if
    _engine.slots: copy_of map_slots widened
    _engine.scheduled: evaluate schedulable
    _engine.seen: sees_slices
    _engine.staged: leafwise staged wrapping
    _protocol.absent: tree_flatten
    _protocol.dtypes: abs_squared at_least_float32 cast_to_compute check_dtype common_real_dtype dtype_of is_inexact
        real_dtype
    _protocol.diagnosis: check_state short_repr
    _protocol.extra_args: check_transformation_like
    _protocol.kinds: ClosedRate Count DType Factor InnerState Key Kind LeafKind LearningRate Limit Measured MeasuredCount Moment Names
        Nonnegative NonnegativeInt Number Positive PositiveInt Rate Real SecondMoment Slot admits_number declared hints_of
        is_count is_inner is_number kinds_of leaf_kinds slot
    _protocol.overflow: finite_sum squarable
    _protocol.recorded: Call Recorded call_of keeps_inner_state recorded
    _protocol.types: Mask Transformation
    """,
)
