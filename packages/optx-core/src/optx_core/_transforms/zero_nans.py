"""NaN entries replaced by zero."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core._engine.flow import Flow
from optx_core._engine.leafwise import LeafStep
from optx_core._engine.staged import leafwise
from optx_core._protocol.absent import is_placeholder
from optx_core._protocol.dtypes import is_inexact
from optx_core._protocol.recorded import recorded
from optx_core._protocol.types import GradientTransformationExtraArgs, Params, PyTree


class ZeroNansState(NamedTuple):
    """State of `zero_nans`.

    Attributes:
      found_nan: a tree of boolean scalars, whether the last update of each array held a NaN.
    """

    found_nan: PyTree


def _leaf(g: jax.Array, found_nan: jax.Array) -> tuple[jax.Array, jax.Array]:
    del found_nan
    bad = jnp.isnan(g)
    return jnp.where(bad, jnp.zeros_like(g), g), jnp.any(bad)


@recorded
def zero_nans() -> GradientTransformationExtraArgs:
    """Replaces NaN entries by zero, and tells where there were any. Infinities pass unchanged.

    Returns:
      A transformation with a `ZeroNansState`.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import zero_nans
      >>> tx = zero_nans()
      >>> updates, state = tx.update(jnp.array([jnp.nan, 1.0]), tx.init(jnp.zeros(2)))
      >>> updates, bool(state.found_nan)
      (Array([0., 1.], dtype=float32), True)
    """

    def init(params: Params) -> ZeroNansState:
        def slot(p: Any) -> Any:
            if is_placeholder(p) or not is_inexact(p):
                return p if is_placeholder(p) else None
            return jnp.zeros((), jnp.bool_)

        return ZeroNansState(jax.tree.map(slot, params, is_leaf=is_placeholder))

    def step(flow: Flow, state: ZeroNansState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(_leaf, reduced=(state.found_nan,), close=ZeroNansState)

    return leafwise(step, init)
