"""The names of `optax.transforms`: transformations."""

# Written by tools/write_stubs.py.

from collections.abc import Callable as ConditionFn
from collections.abc import Callable as ShouldSkipUpdateFunction
from optx_aliases import per_example_global_norm_clip as per_example_global_norm_clip
from optx_aliases import per_example_layer_norm_clip as per_example_layer_norm_clip
from optx_core import AddNoiseState as AddNoiseState
from optx_core import ApplyIfFiniteState as ApplyIfFiniteState
from optx_core import ConditionallyMaskState as ConditionallyMaskState
from optx_core import ConditionallyTransformState as ConditionallyTransformState
from optx_core import EmaState as EmaState
from optx_core import EmptyState as NonNegativeParamsState
from optx_core import MaskedNode as MaskedNode
from optx_core import MaskedState as MaskedState
from optx_core import MonitorState as MonitorState
from optx_core import MultiSteps as MultiSteps
from optx_core import MultiStepsState as MultiStepsState
from optx_core import PartitionState as PartitionState
from optx_core import SnapshotState as SnapshotState
from optx_core import TraceState as TraceState
from optx_core import ZeroNansState as ZeroNansState
from optx_core import adaptive_grad_clip as adaptive_grad_clip
from optx_core import add_decayed_weights as add_decayed_weights
from optx_core import add_noise as add_noise
from optx_core import apply_if_finite as apply_if_finite
from optx_core import chain as chain
from optx_core import clip as clip
from optx_core import clip_by_block_rms as clip_by_block_rms
from optx_core import clip_by_global_norm as clip_by_global_norm
from optx_core import conditionally_mask as conditionally_mask
from optx_core import conditionally_transform as conditionally_transform
from optx_core import ema as ema
from optx_core import flatten as flatten
from optx_core import freeze as freeze
from optx_core import keep_params_nonnegative as keep_params_nonnegative
from optx_core import masked as masked
from optx_core import measure_with_ema as measure_with_ema
from optx_core import monitor as monitor
from optx_core import named_chain as named_chain
from optx_core import partition as partition
from optx_core import selective_transform as selective_transform
from optx_core import skip_large_updates as skip_large_updates
from optx_core import skip_not_finite as skip_not_finite
from optx_core import snapshot as snapshot
from optx_core import trace as trace
from optx_core import unitwise_clip as unitwise_clip
from optx_core import unitwise_norm as unitwise_norm
from optx_core import zero_nans as zero_nans

__all__ = [
    "AddNoiseState",
    "ApplyIfFiniteState",
    "ConditionFn",
    "ConditionallyMaskState",
    "ConditionallyTransformState",
    "EmaState",
    "MaskedNode",
    "MaskedState",
    "MonitorState",
    "MultiSteps",
    "MultiStepsState",
    "NonNegativeParamsState",
    "PartitionState",
    "ShouldSkipUpdateFunction",
    "SnapshotState",
    "TraceState",
    "ZeroNansState",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "add_noise",
    "apply_if_finite",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "conditionally_mask",
    "conditionally_transform",
    "ema",
    "flatten",
    "freeze",
    "keep_params_nonnegative",
    "masked",
    "measure_with_ema",
    "monitor",
    "named_chain",
    "partition",
    "per_example_global_norm_clip",
    "per_example_layer_norm_clip",
    "selective_transform",
    "skip_large_updates",
    "skip_not_finite",
    "snapshot",
    "trace",
    "unitwise_clip",
    "unitwise_norm",
    "zero_nans",
]
