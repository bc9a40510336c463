"""Updates that leave parameters at least zero: u = max(u, −p), to be placed last in a chain."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.numbers import need_params
from optx_core._engine.staged import leafwise
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import GradientTransformationExtraArgs, OptState, Params


def _leaf(g: jax.Array, p: jax.Array) -> jax.Array:
    if jnp.iscomplexobj(g):
        raise TypeError("keep_params_nonnegative: complex numbers have no order")
    return jnp.where(p + g < 0, -p, g)


@recorded
def keep_params_nonnegative() -> GradientTransformationExtraArgs:
    """Changes updates so that no parameter falls below zero; to be placed last in a chain.

    Returns:
      A transformation with an `EmptyState`. `update` needs the parameters, which should be
      non-negative at first.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import keep_params_nonnegative
      >>> tx = keep_params_nonnegative()
      >>> tx.update(jnp.array([-3.0, -0.5]), tx.init(None), jnp.array([1.0, 1.0]))[0]
      Array([-1. , -0.5], dtype=float32)
    """

    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        return LeafStep(_leaf, reads=(params,), close=lambda: state)

    return leafwise(step)
