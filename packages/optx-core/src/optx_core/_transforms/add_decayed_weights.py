"""Decoupled weight decay: u = g + λ·p.

Reference: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from optx_core._combinators.masked import masked
from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.numbers import check_number, need_params, safe_increment, zero_count
from optx_core._engine.scheduled import evaluate
from optx_core._engine.staged import leafwise
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import (
    EmptyState,
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
)


class WeightDecaySchedule(NamedTuple):
    """State of `add_decayed_weights` with a schedule.

    Attributes:
      count: int32 scalar, the number of updates so far.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def _leaf(g: jax.Array, p: jax.Array, *, weight_decay: Scalar) -> jax.Array:
    return g + weight_decay * p


@recorded
def add_decayed_weights(
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Adds the parameters times the weight decay.

    Args:
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `masked`; all by default. Biases and the scales of
        normalizations usually do not.

    Returns:
      A transformation with an `EmptyState` (a `WeightDecaySchedule` for a schedule; both in a
      `MaskedState` with a mask). `update` needs the parameters.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import add_decayed_weights
      >>> tx = add_decayed_weights(0.1)
      >>> tx.update(jnp.array([1.0]), tx.init(None), jnp.array([5.0]))[0]
      Array([1.5], dtype=float32)
    """
    check_number("add_decayed_weights", low=0, weight_decay=weight_decay)

    def init(params: Params) -> EmptyState | WeightDecaySchedule:
        del params
        return WeightDecaySchedule(zero_count()) if callable(weight_decay) else EmptyState()

    def step(flow: Flow, state: Any, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        value, new_state = weight_decay, state
        if callable(weight_decay):
            value = evaluate(weight_decay, state.count)
            new_state = WeightDecaySchedule(safe_increment(state.count))
        return LeafStep(
            _leaf, reads=(params,), close=lambda: new_state, operands={"weight_decay": value}
        )

    tx = leafwise(step, init)
    return tx if mask is None else masked(tx, mask)
