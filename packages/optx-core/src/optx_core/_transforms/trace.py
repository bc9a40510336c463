"""Momentum: a decaying sum of past updates.

t ← g + decay·t,  u = t        (Polyak's heavy ball)
t ← g + decay·t,  u = g + decay·t   (Nesterov's)

Reference: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in
deep learning", 2013, equations 1 to 4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.numbers import check_number
from optx_core._engine.scheduled import schedulable
from optx_core._engine.slots import slots_like
from optx_core._engine.staged import leafwise
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
)


class TraceState(NamedTuple):
    """State of `trace`.

    Attributes:
      trace: t, a tree of the parameters' structure and shapes.
    """

    trace: PyTree


def _leaf(
    g: jax.Array, trace: jax.Array, *, decay: Scalar, nesterov: bool
) -> tuple[jax.Array, jax.Array]:
    trace = g + decay * trace
    return (g + decay * trace if nesterov else trace), trace


@recorded
@schedulable("decay")
def trace(
    decay: ScalarOrSchedule, nesterov: bool = False, accumulator_dtype: Any = None
) -> GradientTransformationExtraArgs:
    """Sums past updates with decaying weights: momentum.

    Args:
      decay: the factor by which the sum shrinks at each step, in [0, 1), or a schedule.
      nesterov: whether to use Nesterov's momentum.
      accumulator_dtype: dtype of the sum; by default the parameters', at least float32.

    Returns:
      A transformation with a `TraceState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import trace
      >>> tx = trace(0.5)
      >>> state = tx.init(jnp.zeros(1))
      >>> for _ in range(2):
      ...     updates, state = tx.update(jnp.ones(1), state)
      >>> updates
      Array([1.5], dtype=float32)
    """
    check_number("trace", low=0, high=1, decay=decay)

    def init(params: Params) -> TraceState:
        return TraceState(slots_like(params, accumulator_dtype))

    def step(flow: Flow, state: TraceState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            slots=(state.trace,),
            close=TraceState,
            operands={"decay": decay, "nesterov": bool(nesterov)},
        )

    return leafwise(step, init)
