"""Low-precision parameters with a float32 copy that the optimizer updates.

master ← master + u,   the parameter is the rounded master.

Reference: Micikevicius et al., "Mixed Precision Training", 2018, section 3.1.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import Params, PyTree, Updates, build, tree, with_extra_args_support


class MasterWeightsState(NamedTuple):
    """State of `master_weights`.

    Attributes:
      master: the parameters in at least float32; None where they are not floating-point.
      inner_state: the inner transformation's state, for the float32 copy.
    """

    master: Annotated[PyTree, build.slot(fill="params")]
    inner_state: build.InnerState


@build.recorded
def master_weights(inner: Any) -> build.Transformation:
    """Keeps a float32 copy of bf16 (or f16) parameters, which the optimizer updates.

    Returns float32 updates for which `apply_updates` (of optx, optax or nnx) yields the rounded copy: steps
    below the parameters' precision are not lost.

    Args:
      inner: the optimizer; it receives float32 gradients and parameters.

    Returns:
      A transformation with a `MasterWeightsState`; `update` needs the parameters. Place it last in a
      chain: if its updates are changed afterwards, the copy and the parameters diverge.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import apply_updates, master_weights, scale
      >>> tx, params = master_weights(scale(-1e-3)), jnp.ones(1, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(100):
      ...     updates, state = tx.update(jnp.ones(1, jnp.bfloat16), state, params)
      ...     params = apply_updates(params, updates)
      >>> round(float(params[0]), 1)
      0.9
    """
    build.check_transformation_like("master_weights", inner)
    inner = with_extra_args_support(inner)

    def init(params: Params) -> MasterWeightsState:
        return MasterWeightsState(build.copy_of(params), inner.init(build.widened(params)))

    def update(
        updates: Updates, state: MasterWeightsState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MasterWeightsState]:
        build.need_params("master_weights", params)
        moves, inner_state = inner.update(
            build.widened(updates), state.inner_state, state.master, **extra_args
        )

        def move(m: Any, u: Any) -> Any:
            return m if tree.is_placeholder(u) or tree.is_placeholder(m) else m + u.astype(m.dtype)

        master = jax.tree.map(move, state.master, moves, is_leaf=tree.is_placeholder)

        def difference(u: Any, m: Any, p: Any) -> Any:
            if tree.is_placeholder(u):
                return u
            p = jnp.asarray(p)
            return m.astype(p.dtype).astype(m.dtype) - p.astype(m.dtype)

        new = jax.tree.map(difference, moves, master, params, is_leaf=tree.is_placeholder)
        return new, MasterWeightsState(master, inner_state)

    return build.wrapping(init, update)
