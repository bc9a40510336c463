"""optx-compat: the names of optax over the packages of optx.

`import optx_compat as optax` in place of `import optax`. Each name is imported from the package of optx that
holds it, at its first use; `optx_compat._table` is the list. `python -m optx_compat FILE...` says where the
names that a program uses are, and `--write` rewrites it."""

# Written by tools/write_stubs.py.

from optx_compat import assignment as assignment
from optx_compat import contrib as contrib
from optx_compat import experimental as experimental
from optx_compat import losses as losses
from optx_compat import microbatching as microbatching
from optx_compat import monte_carlo as monte_carlo
from optx_compat import perturbations as perturbations
from optx_compat import projections as projections
from optx_compat import schedules as schedules
from optx_compat import second_order as second_order
from optx_compat import transforms as transforms
from optx_compat import tree as tree
from optx_compat import tree_utils as tree_utils
from collections.abc import Callable as ShouldSkipUpdateFunction
from optx_aliases import DifferentiallyPrivateAggregateState as DifferentiallyPrivateAggregateState
from optx_aliases import FactoredState as FactoredState
from optx_aliases import ScaleByAdaDeltaState as ScaleByAdaDeltaState
from optx_aliases import ScaleByAdamState as ScaleByAdamState
from optx_aliases import ScaleByAdanState as ScaleByAdanState
from optx_aliases import ScaleByAmsgradState as ScaleByAmsgradState
from optx_aliases import ScaleByBacktrackingLinesearchState as ScaleByBacktrackingLinesearchState
from optx_aliases import ScaleByBeliefState as ScaleByBeliefState
from optx_aliases import ScaleByLBFGSState as ScaleByLBFGSState
from optx_aliases import ScaleByLionState as ScaleByLionState
from optx_aliases import ScaleByNovogradState as ScaleByNovogradState
from optx_aliases import ScaleByRStdDevState as ScaleByRStdDevState
from optx_aliases import ScaleByRmsState as ScaleByRmsState
from optx_aliases import ScaleByRpropState as ScaleByRpropState
from optx_aliases import ScaleByRssState as ScaleByRssState
from optx_aliases import ScaleBySM3State as ScaleBySM3State
from optx_aliases import ScaleByZoomLinesearchState as ScaleByZoomLinesearchState
from optx_aliases import ZoomLinesearchInfo as ZoomLinesearchInfo
from optx_aliases import adabelief as adabelief
from optx_aliases import adadelta as adadelta
from optx_aliases import adafactor as adafactor
from optx_aliases import adagrad as adagrad
from optx_aliases import adam as adam
from optx_aliases import adamax as adamax
from optx_aliases import adamaxw as adamaxw
from optx_aliases import adamw as adamw
from optx_aliases import adan as adan
from optx_aliases import amsgrad as amsgrad
from optx_aliases import differentially_private_aggregate as differentially_private_aggregate
from optx_aliases import dpsgd as dpsgd
from optx_aliases import fromage as fromage
from optx_aliases import lamb as lamb
from optx_aliases import lars as lars
from optx_aliases import lbfgs as lbfgs
from optx_aliases import lion as lion
from optx_aliases import matrix_inverse_pth_root as matrix_inverse_pth_root
from optx_aliases import nadam as nadam
from optx_aliases import nadamw as nadamw
from optx_aliases import noisy_sgd as noisy_sgd
from optx_aliases import novograd as novograd
from optx_aliases import optimistic_adam as optimistic_adam
from optx_aliases import optimistic_adam_v2 as optimistic_adam_v2
from optx_aliases import optimistic_gradient_descent as optimistic_gradient_descent
from optx_aliases import per_example_global_norm_clip as per_example_global_norm_clip
from optx_aliases import per_example_layer_norm_clip as per_example_layer_norm_clip
from optx_aliases import polyak_sgd as polyak_sgd
from optx_aliases import power_iteration as power_iteration
from optx_aliases import radam as radam
from optx_aliases import rmsprop as rmsprop
from optx_aliases import rprop as rprop
from optx_aliases import scale_by_adadelta as scale_by_adadelta
from optx_aliases import scale_by_adam as scale_by_adam
from optx_aliases import scale_by_adamax as scale_by_adamax
from optx_aliases import scale_by_adan as scale_by_adan
from optx_aliases import scale_by_amsgrad as scale_by_amsgrad
from optx_aliases import scale_by_backtracking_linesearch as scale_by_backtracking_linesearch
from optx_aliases import scale_by_belief as scale_by_belief
from optx_aliases import scale_by_distance_over_gradients as scale_by_distance_over_gradients
from optx_aliases import scale_by_factored_rms as scale_by_factored_rms
from optx_aliases import scale_by_lbfgs as scale_by_lbfgs
from optx_aliases import scale_by_lion as scale_by_lion
from optx_aliases import scale_by_novograd as scale_by_novograd
from optx_aliases import scale_by_optimistic_gradient as scale_by_optimistic_gradient
from optx_aliases import scale_by_param_block_norm as scale_by_param_block_norm
from optx_aliases import scale_by_param_block_rms as scale_by_param_block_rms
from optx_aliases import scale_by_polyak as scale_by_polyak
from optx_aliases import scale_by_radam as scale_by_radam
from optx_aliases import scale_by_rms as scale_by_rms
from optx_aliases import scale_by_rprop as scale_by_rprop
from optx_aliases import scale_by_rss as scale_by_rss
from optx_aliases import scale_by_sign as scale_by_sign
from optx_aliases import scale_by_sm3 as scale_by_sm3
from optx_aliases import scale_by_stddev as scale_by_stddev
from optx_aliases import scale_by_trust_ratio as scale_by_trust_ratio
from optx_aliases import scale_by_yogi as scale_by_yogi
from optx_aliases import scale_by_zoom_linesearch as scale_by_zoom_linesearch
from optx_aliases import sgd as sgd
from optx_aliases import sign_sgd as sign_sgd
from optx_aliases import signum as signum
from optx_aliases import sm3 as sm3
from optx_aliases import value_and_grad_from_state as value_and_grad_from_state
from optx_aliases import yogi as yogi
from optx_compat._adapters import init_empty_state as init_empty_state
from optx_compat._adapters import microbatch as microbatch
from optx_compat._adapters import ntxent as ntxent
from optx_compat._as_optax import as_optax as as_optax
from optx_compat._table import OPTAX as __version__
from optx_core.build import Mask as MaskOrFn
from optx_core.tree import bias_correction as bias_correction
from optx_core.tree import map_params as tree_map_params
from optx_core.tree import update_infinity_moment as update_infinity_moment
from optx_core.tree import update_moment as update_moment
from optx_core.tree import update_moment_per_elem_norm as update_moment_per_elem_norm
from optx_core import AddNoiseState as AddNoiseState
from optx_core import ApplyEvery as ApplyEvery
from optx_core import ApplyIfFiniteState as ApplyIfFiniteState
from optx_core import ConditionallyMaskState as ConditionallyMaskState
from optx_core import ConditionallyTransformState as ConditionallyTransformState
from optx_core import ConditionallyTransformState as MaybeUpdateState
from optx_core import EmaState as EmaState
from optx_core import EmptyState as AdaptiveGradClipState
from optx_core import EmptyState as AddDecayedWeightsState
from optx_core import EmptyState as ClipByGlobalNormState
from optx_core import EmptyState as ClipState
from optx_core import EmptyState as EmptyState
from optx_core import EmptyState as NonNegativeParamsState
from optx_core import EmptyState as ScaleByTrustRatioState
from optx_core import EmptyState as ScaleState
from optx_core import GradientTransformation as GradientTransformation
from optx_core import GradientTransformationExtraArgs as GradientTransformationExtraArgs
from optx_core import InjectStatefulHyperparamsState as InjectHyperparamsState
from optx_core import InjectStatefulHyperparamsState as InjectStatefulHyperparamsState
from optx_core import LookaheadParams as LookaheadParams
from optx_core import LookaheadState as LookaheadState
from optx_core import MaskedNode as MaskedNode
from optx_core import MaskedState as MaskedState
from optx_core import MonitorState as MonitorState
from optx_core import MultiSteps as MultiSteps
from optx_core import MultiStepsState as MultiStepsState
from optx_core import OptState as OptState
from optx_core import Params as Params
from optx_core import PartitionState as MultiTransformState
from optx_core import PartitionState as PartitionState
from optx_core import ScalarOrSchedule as ScalarOrSchedule
from optx_core import ScaleByScheduleState as ScaleByScheduleState
from optx_core import Schedule as Schedule
from optx_core import SnapshotState as SnapshotState
from optx_core import TraceState as TraceState
from optx_core import TransformInitFn as TransformInitFn
from optx_core import TransformUpdateFn as TransformUpdateExtraArgsFn
from optx_core import TransformUpdateFn as TransformUpdateFn
from optx_core import Updates as Updates
from optx_core import ZeroNansState as ZeroNansState
from optx_core import adaptive_grad_clip as adaptive_grad_clip
from optx_core import add_decayed_weights as add_decayed_weights
from optx_core import add_noise as add_noise
from optx_core import apply_every as apply_every
from optx_core import apply_if_finite as apply_if_finite
from optx_core import apply_updates as apply_updates
from optx_core import centralize as centralize
from optx_core import chain as chain
from optx_core import clip as clip
from optx_core import clip_by_block_rms as clip_by_block_rms
from optx_core import clip_by_global_norm as clip_by_global_norm
from optx_core import conditionally_mask as conditionally_mask
from optx_core import conditionally_transform as conditionally_transform
from optx_core import conditionally_transform as maybe_update
from optx_core import ema as ema
from optx_core import flatten as flatten
from optx_core import freeze as freeze
from optx_core import global_norm as global_norm
from optx_core import identity as identity
from optx_core import incremental_update as incremental_update
from optx_core import inject_hyperparams as inject_hyperparams
from optx_core import inject_stateful_hyperparams as inject_stateful_hyperparams
from optx_core import keep_params_nonnegative as keep_params_nonnegative
from optx_core import lookahead as lookahead
from optx_core import masked as masked
from optx_core import measure_with_ema as measure_with_ema
from optx_core import monitor as monitor
from optx_core import named_chain as named_chain
from optx_core import normalize_by_update_norm as normalize_by_update_norm
from optx_core import partition as multi_transform
from optx_core import partition as partition
from optx_core import periodic_update as periodic_update
from optx_core import safe_increment as safe_increment
from optx_core import safe_increment as safe_int32_increment
from optx_core import safe_norm as safe_norm
from optx_core import safe_root_mean_squares as safe_root_mean_squares
from optx_core import scale as scale
from optx_core import scale_by_learning_rate as scale_by_learning_rate
from optx_core import scale_by_schedule as scale_by_schedule
from optx_core import scale_gradient as scale_gradient
from optx_core import selective_transform as selective_transform
from optx_core import set_to_zero as set_to_zero
from optx_core import skip_large_updates as skip_large_updates
from optx_core import skip_not_finite as skip_not_finite
from optx_core import snapshot as snapshot
from optx_core import stateless as stateless
from optx_core import stateless_with_tree_map as stateless_with_tree_map
from optx_core import trace as trace
from optx_core import with_extra_args_support as with_extra_args_support
from optx_core import zero_nans as zero_nans
from optx_estimators import multi_normal as multi_normal
from optx_losses import convex_kl_divergence as convex_kl_divergence
from optx_losses import cosine_distance as cosine_distance
from optx_losses import cosine_similarity as cosine_similarity
from optx_losses import ctc_loss as ctc_loss
from optx_losses import ctc_loss_with_forward_probs as ctc_loss_with_forward_probs
from optx_losses import generalized_kl_divergence as generalized_kl_divergence
from optx_losses import hinge_loss as hinge_loss
from optx_losses import huber_loss as huber_loss
from optx_losses import kl_divergence as kl_divergence
from optx_losses import l2_loss as l2_loss
from optx_losses import log_cosh as log_cosh
from optx_losses import safe_softmax_cross_entropy as safe_softmax_cross_entropy
from optx_losses import sigmoid_binary_cross_entropy as sigmoid_binary_cross_entropy
from optx_losses import sigmoid_focal_loss as sigmoid_focal_loss
from optx_losses import smooth_labels as smooth_labels
from optx_losses import softmax_cross_entropy as softmax_cross_entropy
from optx_losses import softmax_cross_entropy_with_integer_labels as softmax_cross_entropy_with_integer_labels
from optx_losses import squared_error as squared_error
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
    "AdaptiveGradClipState",
    "AddDecayedWeightsState",
    "AddNoiseState",
    "ApplyEvery",
    "ApplyIfFiniteState",
    "ClipByGlobalNormState",
    "ClipState",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "DifferentiallyPrivateAggregateState",
    "EmaState",
    "EmptyState",
    "FactoredState",
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "InjectHyperparamsState",
    "InjectStatefulHyperparamsState",
    "LookaheadParams",
    "LookaheadState",
    "MaskOrFn",
    "MaskedNode",
    "MaskedState",
    "MaybeUpdateState",
    "MonitorState",
    "MultiSteps",
    "MultiStepsState",
    "MultiTransformState",
    "NonNegativeParamsState",
    "OptState",
    "Params",
    "PartitionState",
    "ScalarOrSchedule",
    "ScaleByAdaDeltaState",
    "ScaleByAdamState",
    "ScaleByAdanState",
    "ScaleByAmsgradState",
    "ScaleByBacktrackingLinesearchState",
    "ScaleByBeliefState",
    "ScaleByLBFGSState",
    "ScaleByLionState",
    "ScaleByNovogradState",
    "ScaleByRStdDevState",
    "ScaleByRmsState",
    "ScaleByRpropState",
    "ScaleByRssState",
    "ScaleBySM3State",
    "ScaleByScheduleState",
    "ScaleByTrustRatioState",
    "ScaleByZoomLinesearchState",
    "ScaleState",
    "Schedule",
    "ShouldSkipUpdateFunction",
    "SnapshotState",
    "TraceState",
    "TransformInitFn",
    "TransformUpdateExtraArgsFn",
    "TransformUpdateFn",
    "Updates",
    "WrappedSchedule",
    "ZeroNansState",
    "ZoomLinesearchInfo",
    "__version__",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamaxw",
    "adamw",
    "adan",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "add_noise",
    "amsgrad",
    "apply_every",
    "apply_if_finite",
    "apply_updates",
    "as_optax",
    "assignment",
    "bias_correction",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "conditionally_mask",
    "conditionally_transform",
    "constant_schedule",
    "contrib",
    "convex_kl_divergence",
    "cosine_decay_schedule",
    "cosine_distance",
    "cosine_onecycle_schedule",
    "cosine_similarity",
    "ctc_loss",
    "ctc_loss_with_forward_probs",
    "differentially_private_aggregate",
    "dpsgd",
    "ema",
    "experimental",
    "exponential_decay",
    "flatten",
    "freeze",
    "fromage",
    "generalized_kl_divergence",
    "global_norm",
    "hinge_loss",
    "huber_loss",
    "identity",
    "incremental_update",
    "init_empty_state",
    "inject_hyperparams",
    "inject_stateful_hyperparams",
    "join_schedules",
    "keep_params_nonnegative",
    "kl_divergence",
    "l2_loss",
    "lamb",
    "lars",
    "lbfgs",
    "linear_onecycle_schedule",
    "linear_schedule",
    "lion",
    "log_cosh",
    "lookahead",
    "losses",
    "masked",
    "matrix_inverse_pth_root",
    "maybe_update",
    "measure_with_ema",
    "microbatch",
    "microbatching",
    "monitor",
    "monte_carlo",
    "multi_normal",
    "multi_transform",
    "nadam",
    "nadamw",
    "named_chain",
    "noisy_sgd",
    "normalize_by_update_norm",
    "novograd",
    "ntxent",
    "optimistic_adam",
    "optimistic_adam_v2",
    "optimistic_gradient_descent",
    "partition",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "periodic_update",
    "perturbations",
    "piecewise_constant_schedule",
    "piecewise_interpolate_schedule",
    "polyak_sgd",
    "polynomial_schedule",
    "power_iteration",
    "projections",
    "radam",
    "rmsprop",
    "rprop",
    "safe_increment",
    "safe_int32_increment",
    "safe_norm",
    "safe_root_mean_squares",
    "safe_softmax_cross_entropy",
    "scale",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_adan",
    "scale_by_amsgrad",
    "scale_by_backtracking_linesearch",
    "scale_by_belief",
    "scale_by_distance_over_gradients",
    "scale_by_factored_rms",
    "scale_by_lbfgs",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_novograd",
    "scale_by_optimistic_gradient",
    "scale_by_param_block_norm",
    "scale_by_param_block_rms",
    "scale_by_polyak",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rprop",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_sign",
    "scale_by_sm3",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "scale_by_zoom_linesearch",
    "scale_gradient",
    "schedules",
    "second_order",
    "selective_transform",
    "set_to_zero",
    "sgd",
    "sgdr_schedule",
    "sigmoid_binary_cross_entropy",
    "sigmoid_focal_loss",
    "sign_sgd",
    "signum",
    "skip_large_updates",
    "skip_not_finite",
    "sm3",
    "smooth_labels",
    "snapshot",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
    "squared_error",
    "stateless",
    "stateless_with_tree_map",
    "trace",
    "transforms",
    "tree",
    "tree_map_params",
    "tree_utils",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
    "value_and_grad_from_state",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
    "warmup_exponential_decay_schedule",
    "with_extra_args_support",
    "yogi",
    "zero_nans",
]
