"""Lookahead for `nnx.Optimizer`, with the slow weights in the state.

`optx_core.lookahead` moves a pair of weights, fast and slow; a model has one set. Here the model holds the
fast weights, and the state the slow ones.

Reference: Zhang, Lucas, Hinton, Ba, "Lookahead Optimizer: k steps forward, 1 step back", 2019.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

import optx_core
from optx_core import (
    GradientTransformationExtraArgs,
    LookaheadParams,
    OptState,
    Params,
    PyTree,
    Scalar,
    Updates,
    apply_updates,
)
from optx_core.build import InnerState, need_params, recorded, slot, wrapping


class SlowWeightsState(NamedTuple):
    """State of `lookahead`.

    Attributes:
      slow: the slow weights, of the parameters' structure, shapes and dtypes: those to evaluate.
      inner_state: the `optx_core.LookaheadState`.
    """

    slow: Annotated[PyTree, slot(fill="params", exact=True)]
    inner_state: InnerState


@recorded
def lookahead(
    fast_optimizer: Any, sync_period: int, slow_step_size: Scalar, reset_state: bool = False
) -> GradientTransformationExtraArgs:
    """`optx_core.lookahead` for a model: its parameters are the fast weights.

    The slow weights, which are the ones to evaluate, are in the state:
    `nnx.update(nnx.clone(model), nnx.as_pure(optimizer.opt_state.slow))`.

    Args:
      fast_optimizer: the transformation of the fast weights.
      sync_period: k, the number of fast steps between two meetings, a positive int.
      slow_step_size: α, the fraction of the way to the fast weights that the slow weights move, in [0, 1].
      reset_state: whether the fast optimizer starts anew after each meeting.

    Returns:
      A transformation with a `SlowWeightsState`. `update` needs the parameters.

    Raises:
      ValueError: if `sync_period` is below 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from optx_core import scale
      >>> from optx_flax import lookahead
      >>> model = nnx.Dict(w=nnx.Param(jnp.array([1.0])))
      >>> tx = lookahead(scale(-1.0), sync_period=2, slow_step_size=0.5)
      >>> optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
      >>> for _ in range(2):
      ...     updates = optimizer.update(model, nnx.state(nnx.Dict(w=nnx.Param(jnp.array([1.0])))))
      >>> model["w"][...], optimizer.opt_state.slow["w"][...]
      (Array([0.], dtype=float32), Array([0.], dtype=float32))
    """
    inner = optx_core.lookahead(fast_optimizer, sync_period, slow_step_size, reset_state)

    def init(params: Params) -> SlowWeightsState:
        slow = jax.tree.map(jnp.copy, params)
        return SlowWeightsState(slow, inner.init(LookaheadParams(params, slow)))

    def update(
        updates: Updates, state: SlowWeightsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        both = LookaheadParams(need_params("lookahead", params), state.slow)
        steps, inner_state = inner.update(updates, state.inner_state, both, **extra_args)
        return steps.fast, SlowWeightsState(apply_updates(state.slow, steps.slow), inner_state)

    return wrapping(init, update)
