"""optx-core: the protocol of gradient transformations, and the elementary ones."""

from optx_core import tree
from optx_core._absent import TreeMismatchError
from optx_core._apply_updates import apply_updates, incremental_update, periodic_update
from optx_core._chain import chain, named_chain
from optx_core._extra_args import with_extra_args_support
from optx_core._flow import Flow
from optx_core._leafwise import LeafStep
from optx_core._norms import global_norm
from optx_core._numbers import (
    Decay,
    bias_correction,
    check_number,
    decay_of,
    need_params,
    safe_increment,
    zero_count,
)
from optx_core._recorded import Call, Recorded, call_of, recorded
from optx_core._scheduled import ScheduledState, schedulable
from optx_core._staged import leafwise
from optx_core._transforms._add_decayed_weights import WeightDecaySchedule, add_decayed_weights
from optx_core._transforms._clip import clip, clip_by_global_norm
from optx_core._transforms._ema import EmaState, ema
from optx_core._transforms._scale import (
    ScaleByScheduleState,
    scale,
    scale_by_learning_rate,
    scale_by_schedule,
)
from optx_core._transforms._stateless import (
    identity,
    set_to_zero,
    stateless,
    stateless_with_tree_map,
)
from optx_core._transforms._trace import TraceState, trace
from optx_core._types import (
    EmptyState,
    GradientTransformation,
    GradientTransformationExtraArgs,
    MaskedNode,
    OptState,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    Schedule,
    TransformInitFn,
    TransformUpdateFn,
    Updates,
)
from optx_core._wrappers._masked import MaskedState, masked
from optx_core._wrappers._partition import PartitionState, partition

__all__ = [
    "Call",
    "Decay",
    "EmaState",
    "EmptyState",
    "Flow",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "LeafStep",
    "MaskedNode",
    "MaskedState",
    "OptState",
    "Params",
    "PartitionState",
    "PyTree",
    "Recorded",
    "Scalar",
    "ScalarOrSchedule",
    "ScaleByScheduleState",
    "Schedule",
    "ScheduledState",
    "TraceState",
    "TransformInitFn",
    "TransformUpdateFn",
    "TreeMismatchError",
    "Updates",
    "WeightDecaySchedule",
    "add_decayed_weights",
    "apply_updates",
    "bias_correction",
    "call_of",
    "chain",
    "check_number",
    "clip",
    "clip_by_global_norm",
    "decay_of",
    "ema",
    "global_norm",
    "identity",
    "incremental_update",
    "leafwise",
    "masked",
    "named_chain",
    "need_params",
    "partition",
    "periodic_update",
    "recorded",
    "safe_increment",
    "scale",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "schedulable",
    "set_to_zero",
    "stateless",
    "stateless_with_tree_map",
    "trace",
    "tree",
    "with_extra_args_support",
    "zero_count",
]
