"""Low-precision parameters with a float32 copy that the optimizer works on.

master ← master + u,   the parameter is master, rounded.

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
      master: the parameters in at least float32; None where they are not of floating point.
      inner_state: the inner transformation's state, for these.
    """

    master: Annotated[PyTree, build.slot(fill="params")]
    inner_state: build.InnerState


@build.recorded
def master_weights(inner: Any) -> build.Transformation:
    """Keeps a float32 copy of bf16 (or f16) parameters, and moves that.

    The updates it returns are float32 and such that `apply_updates` (optx's, optax's, nnx's) gives the
    copy, rounded: parameters never stop moving because a step is below their precision.

    Args:
      inner: the optimizer; it sees float32 gradients and parameters.

    Returns:
      A transformation with a `MasterWeightsState`; `update` needs the parameters. Put it last: what
      changes its updates afterwards parts the copy from the parameters.

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

        made = jax.tree.map(difference, moves, master, params, is_leaf=tree.is_placeholder)
        return made, MasterWeightsState(master, inner_state)

    return build.wrapping(init, update)
