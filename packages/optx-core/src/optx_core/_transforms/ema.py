"""An exponential moving average of the updates.

e ← decay·e + (1 − decay)·g,  u = e / (1 − decayᵗ) where debiased
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.numbers import (
    Decay,
    bias_correction,
    check_number,
    decay_of,
    safe_increment,
    zero_count,
)
from optx_core._engine.scheduled import schedulable
from optx_core._engine.slots import slots_like
from optx_core._engine.staged import leafwise
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    ScalarOrSchedule,
)


class EmaState(NamedTuple):
    """State of `ema`.

    Attributes:
      count: int32 scalar, the number of updates so far.
      ema: e, the average before debiasing: a tree of the parameters' structure and shapes.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    ema: PyTree


def _leaf(
    g: jax.Array, ema: jax.Array, *, decay: Decay, count: jax.Array, debias: bool
) -> tuple[jax.Array, jax.Array]:
    ema = decay.value * ema + decay.complement * g
    return (ema / bias_correction(decay, count) if debias else ema), ema


@recorded
@schedulable("decay")
def ema(
    decay: ScalarOrSchedule, debias: bool = True, accumulator_dtype: Any = None
) -> GradientTransformationExtraArgs:
    """Averages the updates over the past, with exponentially decaying weights.

    Args:
      decay: the weight of the past, in [0, 1), or a schedule.
      debias: whether to divide by the sum of the weights, so that the first average is the first
        update itself.
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
    check_number("ema", low=0, high=1, decay=decay)

    def init(params: Params) -> EmaState:
        return EmaState(zero_count(), slots_like(params, accumulator_dtype))

    def step(flow: Flow, state: EmaState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.ema,),
            close=lambda ema: EmaState(count, ema),
            operands={"decay": decay_of(decay), "count": count, "debias": bool(debias)},
        )

    return leafwise(step, init)
