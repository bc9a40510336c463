"""Adafactor: Adam's mean squares in little memory, updates relative to the parameters' size.

u = g / √v̂                              (`scale_by_factored_rms`)
u ← u / max(1, rms(u) / clipping_threshold)
p ← p − lr·max(rms(p), 10⁻³)·u          each array by itself

The optional momentum averages the updates; the weight decay, which the learning rate does not multiply, comes
last. No intermediate tree is written out: rms(u) and rms(p) are numbers.

Reference: Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018,
algorithm 4.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.factored import scale_by_factored_rms
from optx_aliases._transforms.param_block import scale_by_param_block_rms
from optx_core import (
    ScalarOrSchedule,
    add_decayed_weights,
    build,
    chain,
    clip_by_block_rms,
    ema,
    scale,
    scale_by_learning_rate,
)


@build.recorded
def adafactor(
    learning_rate: ScalarOrSchedule | None = None,
    min_dim_size_to_factor: int = 128,
    decay_rate: ScalarOrSchedule = 0.8,
    decay_offset: int | Array = 0,
    multiply_by_parameter_scale: bool = True,
    clipping_threshold: ScalarOrSchedule | None = 1.0,
    momentum: ScalarOrSchedule | None = None,
    dtype_momentum: build.DType = jnp.float32,
    weight_decay_rate: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule = 1e-30,
    factored: bool = True,
    weight_decay_mask: build.Mask = None,
) -> build.Transformation:
    """Adafactor (Shazeer and Stern, 2018).

    Args:
      learning_rate: a scalar, or a schedule; None for 1.
      min_dim_size_to_factor: the least size of an array's two longest axes for it to be factored.
      decay_rate: exponent of the decay 1 − t^(−decay_rate), a scalar above 0, or a schedule.
      decay_offset: the count at which t is 1, to continue the training of a model.
      multiply_by_parameter_scale: whether steps are relative to the parameter's root mean square.
      clipping_threshold: the largest root mean square of an update; None for no bound.
      momentum: decay of a mean of the updates, in [0, 1), or a schedule; None for none.
      dtype_momentum: dtype of that mean.
      weight_decay_rate: the fraction of the parameters subtracted at each step, a scalar, or a schedule;
        None for none. The learning rate does not multiply it.
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
