"""An exponential moving average of the updates.

e ← decay·e + (1 − decay)·g,  u = e / (1 − decayᵗ) if debiased
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax

from optx_core import PyTree, build


class EmaState(NamedTuple):
    """State of `ema`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      ema: e, the average before debiasing: a tree of the parameters' structure and shapes.
    """

    count: build.Count
    ema: Annotated[PyTree, build.slot(dtype="accumulator_dtype")]


@build.rule(EmaState)
def ema(
    g: jax.Array,
    s: EmaState,
    /,
    decay: build.ClosedRate,
    debias: bool = True,
    accumulator_dtype: build.DType = None,
) -> tuple[jax.Array, EmaState]:
    """Averages past updates with exponentially decaying weights.

    Args:
      decay: the weight of the past, in [0, 1), or a schedule.
      debias: whether to divide by the sum of the weights, so that the first average equals the
        first update.
      accumulator_dtype: dtype of the average; by default the parameters', at least float32.

    Returns:
      A transformation with an `EmaState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import ema
      >>> tx = ema(0.9)
      >>> updates, _ = tx.update(jnp.full(1, 3.0), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 5)
      3.0
    """
    e = decay * s.ema + (1 - decay) * g
    return e / (1 - decay**s.count) if debias else e, s._replace(ema=e)
