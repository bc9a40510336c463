"""optx-core: the protocol of gradient transformations, and the elementary ones.

The table of contents. A name is imported when it is first used, so that `import optx_core` costs next to
nothing; type checkers read the imports below, and a test compares the two.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:
    from optx_core import testing, tree
    from optx_core._absent import TreeMismatchError
    from optx_core._apply_updates import apply_updates, incremental_update, periodic_update
    from optx_core._chain import chain, named_chain
    from optx_core._dtypes import at_least_float32, common_real_dtype, real_dtype
    from optx_core._extra_args import check_transformation_like, with_extra_args_support
    from optx_core._finite import all_finite
    from optx_core._flat import Unravel, ravel_params
    from optx_core._flow import Flow
    from optx_core._leafwise import LeafStep
    from optx_core._linear_algebra import matrix_inverse_pth_root, power_iteration
    from optx_core._microbatching import (
        RunningStatistics,
        micro_grad,
        micro_vmap,
        microbatch,
        reshape_batch_axis,
    )
    from optx_core._norms import global_norm, safe_norm, safe_root_mean_squares
    from optx_core._numbers import (
        Decay,
        bias_correction,
        check_number,
        decay_of,
        need_params,
        safe_increment,
        zero_count,
    )
    from optx_core._per_example import per_example_global_norm_clip, per_example_layer_norm_clip
    from optx_core._projections import (
        projection_box,
        projection_halfspace,
        projection_hypercube,
        projection_hyperplane,
        projection_l1_ball,
        projection_l1_sphere,
        projection_l2_ball,
        projection_l2_sphere,
        projection_linf_ball,
        projection_non_negative,
        projection_simplex,
        projection_vector,
    )
    from optx_core._readout import hyperparams, metrics
    from optx_core._recorded import Call, Recorded, call_of, recorded
    from optx_core._run_if import run_if
    from optx_core._scale_gradient import scale_gradient
    from optx_core._scheduled import ScheduledState, schedulable
    from optx_core._sharding import state_sharding, zero1, zero1_rule
    from optx_core._staged import leafwise, wrapping
    from optx_core._transforms._add_decayed_weights import WeightDecaySchedule, add_decayed_weights
    from optx_core._transforms._add_noise import AddNoiseState, add_noise
    from optx_core._transforms._block_clip import (
        adaptive_grad_clip,
        clip_by_block_rms,
        unitwise_clip,
        unitwise_norm,
    )
    from optx_core._transforms._centralize import centralize
    from optx_core._transforms._clip import clip, clip_by_global_norm
    from optx_core._transforms._ema import EmaState, ema
    from optx_core._transforms._keep_params_nonnegative import keep_params_nonnegative
    from optx_core._transforms._monitor import (
        MonitorState,
        SnapshotState,
        measure_with_ema,
        monitor,
        snapshot,
    )
    from optx_core._transforms._normalize import normalize_by_update_norm
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
    from optx_core._transforms._zero_nans import ZeroNansState, zero_nans
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
    from optx_core._wrappers._apply_every import ApplyEvery, apply_every
    from optx_core._wrappers._apply_if_finite import ApplyIfFiniteState, apply_if_finite
    from optx_core._wrappers._conditional import (
        ConditionallyMaskState,
        ConditionallyTransformState,
        conditionally_mask,
        conditionally_transform,
    )
    from optx_core._wrappers._flatten import flatten
    from optx_core._wrappers._freeze import freeze, selective_transform
    from optx_core._wrappers._inject_hyperparams import (
        InjectStatefulHyperparamsState,
        WrappedScheduleState,
        inject_hyperparams,
        inject_stateful_hyperparams,
    )
    from optx_core._wrappers._lookahead import LookaheadParams, LookaheadState, lookahead
    from optx_core._wrappers._loss_scale import LossScaleState, dynamic_loss_scale, loss_scale
    from optx_core._wrappers._masked import MaskedState, masked
    from optx_core._wrappers._master_weights import MasterWeightsState, master_weights
    from optx_core._wrappers._multi_steps import (
        MultiSteps,
        MultiStepsState,
        multi_steps,
        skip_large_updates,
        skip_not_finite,
    )
    from optx_core._wrappers._partition import PartitionState, partition
    from optx_core._wrappers._skip_if import SkipIfState, skip_if
    from optx_core._wrappers._stochastic_rounding import (
        StochasticRoundingState,
        stochastic_rounding,
    )
    from optx_core._wrappers._with_ema import WithEmaState, eval_params, with_ema

_CONTENTS = {
    "_absent": ("TreeMismatchError",),
    "_apply_updates": ("apply_updates", "incremental_update", "periodic_update"),
    "_chain": ("chain", "named_chain"),
    "_dtypes": ("at_least_float32", "common_real_dtype", "real_dtype"),
    "_extra_args": ("check_transformation_like", "with_extra_args_support"),
    "_finite": ("all_finite",),
    "_flat": ("Unravel", "ravel_params"),
    "_flow": ("Flow",),
    "_leafwise": ("LeafStep",),
    "_linear_algebra": ("matrix_inverse_pth_root", "power_iteration"),
    "_microbatching": (
        "RunningStatistics",
        "micro_grad",
        "micro_vmap",
        "microbatch",
        "reshape_batch_axis",
    ),
    "_norms": ("global_norm", "safe_norm", "safe_root_mean_squares"),
    "_numbers": (
        "Decay",
        "bias_correction",
        "check_number",
        "decay_of",
        "need_params",
        "safe_increment",
        "zero_count",
    ),
    "_per_example": ("per_example_global_norm_clip", "per_example_layer_norm_clip"),
    "_projections": (
        "projection_box",
        "projection_halfspace",
        "projection_hypercube",
        "projection_hyperplane",
        "projection_l1_ball",
        "projection_l1_sphere",
        "projection_l2_ball",
        "projection_l2_sphere",
        "projection_linf_ball",
        "projection_non_negative",
        "projection_simplex",
        "projection_vector",
    ),
    "_readout": ("hyperparams", "metrics"),
    "_recorded": ("Call", "Recorded", "call_of", "recorded"),
    "_run_if": ("run_if",),
    "_scale_gradient": ("scale_gradient",),
    "_scheduled": ("ScheduledState", "schedulable"),
    "_sharding": ("state_sharding", "zero1", "zero1_rule"),
    "_staged": ("leafwise", "wrapping"),
    "_transforms._add_decayed_weights": ("WeightDecaySchedule", "add_decayed_weights"),
    "_transforms._add_noise": ("AddNoiseState", "add_noise"),
    "_transforms._block_clip": (
        "adaptive_grad_clip",
        "clip_by_block_rms",
        "unitwise_clip",
        "unitwise_norm",
    ),
    "_transforms._centralize": ("centralize",),
    "_transforms._clip": ("clip", "clip_by_global_norm"),
    "_transforms._ema": ("EmaState", "ema"),
    "_transforms._keep_params_nonnegative": ("keep_params_nonnegative",),
    "_transforms._monitor": (
        "MonitorState",
        "SnapshotState",
        "measure_with_ema",
        "monitor",
        "snapshot",
    ),
    "_transforms._normalize": ("normalize_by_update_norm",),
    "_transforms._scale": (
        "ScaleByScheduleState",
        "scale",
        "scale_by_learning_rate",
        "scale_by_schedule",
    ),
    "_transforms._stateless": ("identity", "set_to_zero", "stateless", "stateless_with_tree_map"),
    "_transforms._trace": ("TraceState", "trace"),
    "_transforms._zero_nans": ("ZeroNansState", "zero_nans"),
    "_types": (
        "EmptyState",
        "GradientTransformation",
        "GradientTransformationExtraArgs",
        "MaskedNode",
        "OptState",
        "Params",
        "PyTree",
        "Scalar",
        "ScalarOrSchedule",
        "Schedule",
        "TransformInitFn",
        "TransformUpdateFn",
        "Updates",
    ),
    "_wrappers._apply_every": ("ApplyEvery", "apply_every"),
    "_wrappers._apply_if_finite": ("ApplyIfFiniteState", "apply_if_finite"),
    "_wrappers._conditional": (
        "ConditionallyMaskState",
        "ConditionallyTransformState",
        "conditionally_mask",
        "conditionally_transform",
    ),
    "_wrappers._flatten": ("flatten",),
    "_wrappers._freeze": ("freeze", "selective_transform"),
    "_wrappers._inject_hyperparams": (
        "InjectStatefulHyperparamsState",
        "WrappedScheduleState",
        "inject_hyperparams",
        "inject_stateful_hyperparams",
    ),
    "_wrappers._lookahead": ("LookaheadParams", "LookaheadState", "lookahead"),
    "_wrappers._loss_scale": ("LossScaleState", "dynamic_loss_scale", "loss_scale"),
    "_wrappers._masked": ("MaskedState", "masked"),
    "_wrappers._master_weights": ("MasterWeightsState", "master_weights"),
    "_wrappers._multi_steps": (
        "MultiSteps",
        "MultiStepsState",
        "multi_steps",
        "skip_large_updates",
        "skip_not_finite",
    ),
    "_wrappers._partition": ("PartitionState", "partition"),
    "_wrappers._skip_if": ("SkipIfState", "skip_if"),
    "_wrappers._stochastic_rounding": ("StochasticRoundingState", "stochastic_rounding"),
    "_wrappers._with_ema": ("WithEmaState", "eval_params", "with_ema"),
}
_HOME = {name: module for module, names in _CONTENTS.items() for name in names}


def __getattr__(name: str) -> _Any:
    if name in _HOME:
        value = getattr(_import_module(f"optx_core.{_HOME[name]}"), name)
    elif name in ("tree", "testing"):
        value = _import_module(f"optx_core.{name}")
    else:
        raise AttributeError(f"module 'optx_core' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "AddNoiseState",
    "ApplyEvery",
    "ApplyIfFiniteState",
    "Call",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "Decay",
    "EmaState",
    "EmptyState",
    "Flow",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "InjectStatefulHyperparamsState",
    "LeafStep",
    "LookaheadParams",
    "LookaheadState",
    "LossScaleState",
    "MaskedNode",
    "MaskedState",
    "MasterWeightsState",
    "MonitorState",
    "MultiSteps",
    "MultiStepsState",
    "OptState",
    "Params",
    "PartitionState",
    "PyTree",
    "Recorded",
    "RunningStatistics",
    "Scalar",
    "ScalarOrSchedule",
    "ScaleByScheduleState",
    "Schedule",
    "ScheduledState",
    "SkipIfState",
    "SnapshotState",
    "StochasticRoundingState",
    "TraceState",
    "TransformInitFn",
    "TransformUpdateFn",
    "TreeMismatchError",
    "Unravel",
    "Updates",
    "WeightDecaySchedule",
    "WithEmaState",
    "WrappedScheduleState",
    "ZeroNansState",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "add_noise",
    "all_finite",
    "apply_every",
    "apply_if_finite",
    "apply_updates",
    "at_least_float32",
    "bias_correction",
    "call_of",
    "centralize",
    "chain",
    "check_number",
    "check_transformation_like",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "common_real_dtype",
    "conditionally_mask",
    "conditionally_transform",
    "decay_of",
    "dynamic_loss_scale",
    "ema",
    "eval_params",
    "flatten",
    "freeze",
    "global_norm",
    "hyperparams",
    "identity",
    "incremental_update",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "keep_params_nonnegative",
    "leafwise",
    "lookahead",
    "loss_scale",
    "masked",
    "master_weights",
    "matrix_inverse_pth_root",
    "measure_with_ema",
    "metrics",
    "micro_grad",
    "micro_vmap",
    "microbatch",
    "monitor",
    "multi_steps",
    "named_chain",
    "need_params",
    "normalize_by_update_norm",
    "partition",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "periodic_update",
    "power_iteration",
    "projection_box",
    "projection_halfspace",
    "projection_hypercube",
    "projection_hyperplane",
    "projection_l1_ball",
    "projection_l1_sphere",
    "projection_l2_ball",
    "projection_l2_sphere",
    "projection_linf_ball",
    "projection_non_negative",
    "projection_simplex",
    "projection_vector",
    "ravel_params",
    "real_dtype",
    "recorded",
    "reshape_batch_axis",
    "run_if",
    "safe_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "scale",
    "scale_by_learning_rate",
    "scale_by_schedule",
    "scale_gradient",
    "schedulable",
    "selective_transform",
    "set_to_zero",
    "skip_if",
    "skip_large_updates",
    "skip_not_finite",
    "snapshot",
    "state_sharding",
    "stateless",
    "stateless_with_tree_map",
    "stochastic_rounding",
    "testing",
    "trace",
    "tree",
    "unitwise_clip",
    "unitwise_norm",
    "with_ema",
    "with_extra_args_support",
    "wrapping",
    "zero1",
    "zero1_rule",
    "zero_count",
    "zero_nans",
]
