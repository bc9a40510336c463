"""Adafactor: Adam's mean squares in little memory, updates relative to the parameters' size.

u = g / √v̂                              (`scale_by_factored_rms`)
u ← u / max(1, rms(u) / clipping_threshold)
p ← p − lr·max(rms(p), 10⁻³)·u          each array by itself

Momentum, where asked for, is of the update; the weight decay, not multiplied by the learning rate,
comes last. Nothing is written out between: rms(u) and rms(p) are numbers.

Reference: Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018,
algorithm 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._transforms.factored import scale_by_factored_rms
from optx_aliases._transforms.param_block import scale_by_param_block_rms
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    ScalarOrSchedule,
    add_decayed_weights,
    chain,
    clip_by_block_rms,
    ema,
    scale,
    scale_by_learning_rate,
)
from optx_core.build import recorded


@recorded
def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: ScalarOrSchedule = 0.8,
    decay_offset: int | jax.Array = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: ScalarOrSchedule | None = 1.0,
    momentum: ScalarOrSchedule | None = None,
    dtype_momentum: Any = jnp.float32,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule = 1e-30,
    factored: bool = True,
    weight_decay_mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Adafactor (Shazeer and Stern, 2018).

    Args:
      learning_rate: a scalar, or a schedule; None for 1.
      min_dim_size_to_factor: factor an array only if its two longest axes have at least this size.
      decay_rate: exponent of the decay 1 − t^(−decay_rate), a scalar above 0, or a schedule.
      decay_offset: the count at which t is 1, for a model whose training goes on.
      multiply_by_parameter_scale: whether steps are relative to the parameter's root mean square.
      clipping_threshold: the largest root mean square of an update; None for no such bound.
      momentum: decay of a mean of the updates, in [0, 1), or a schedule; None for none.
      dtype_momentum: dtype of that mean.
      weight_decay_rate: the part of the parameters taken off at each step, a scalar, or a schedule;
        None for none. It is not multiplied by the learning rate.
      eps: added to the squares of gradients.
      factored: whether to keep the mean squares of matrices as those of rows and columns.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import adafactor
      >>> tx = adafactor(1e-2)
    """
    parts: list[Any] = [
        scale_by_factored_rms(factored, decay_rate, decay_offset, min_dim_size_to_factor, eps)
    ]
    if clipping_threshold is not None:
        parts.append(clip_by_block_rms(clipping_threshold))
    if learning_rate is not None:
        parts.append(scale_by_learning_rate(learning_rate, flip_sign=False))
    if multiply_by_parameter_scale:
        parts.append(scale_by_param_block_rms())
    if momentum is not None:
        parts.append(ema(momentum, debias=False, accumulator_dtype=dtype_momentum))
    if weight_decay_rate is not None:
        parts.append(add_decayed_weights(weight_decay_rate, weight_decay_mask))
    return chain(*parts, scale(-1.0))
