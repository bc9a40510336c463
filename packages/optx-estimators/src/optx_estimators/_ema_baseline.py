"""A baseline from the moving average of past values.

m ← decay·m + (1 − decay)·mean_i f(x_i),   b = m / (1 − decayᵗ)

The baseline is read before it is updated, so that it does not depend on the current samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, safe_increment
from optx_core.build import check_number, common_real_dtype, recorded, zero_count
from optx_estimators._baseline import Baseline
from optx_estimators._method import Aux


class EmaBaselineState(NamedTuple):
    """State of `ema_baseline`.

    Attributes:
      count: the number of updates so far, an int32 scalar.
      mean: the debiased average, a scalar; 0 before the first update.
    """

    count: jax.Array  # type: ignore[assignment]
    mean: jax.Array


def ema_step(mean: jax.Array, new: jax.Array, count: jax.Array, decay: float) -> jax.Array:
    """One step of the debiased average; `count` includes it."""
    t = count.astype(mean.dtype)
    weight = (1 - decay) / (1 - decay**t)
    return mean + weight * (new.astype(mean.dtype) - mean)


@recorded
def ema_baseline(decay: float = 0.99) -> Baseline:
    """The exponential moving average of the function's mean over past steps, debiased.

    It has a state: use it with `value_and_grad`. Every noise is accepted.

    Args:
      decay: the weight of the past, in [0, 1).

    Returns:
      A `Baseline`.

    Raises:
      ValueError: if `decay` is out of range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_estimators import ema_baseline
      >>> ema_baseline(0.9).init(jnp.zeros(3))
      EmaBaselineState(count=Array(0, dtype=int32), mean=Array(0., dtype=float32))
    """
    check_number("ema_baseline", low=0, below=1, decay=decay)

    def init(params: PyTree) -> EmaBaselineState:
        dtypes = [jnp.result_type(leaf) for leaf in jax.tree_util.tree_leaves(params)]
        return EmaBaselineState(zero_count(), jnp.zeros((), common_real_dtype(*dtypes)))

    def value(state: EmaBaselineState, aux: Aux, context: Any) -> jax.Array:
        del context
        return state.mean.astype(aux.values.dtype)

    def update(state: EmaBaselineState, aux: Aux, context: Any) -> EmaBaselineState:
        del context
        count = safe_increment(state.count)
        return EmaBaselineState(count, ema_step(state.mean, jnp.mean(aux.values), count, decay))

    return Baseline(init, value, update)
