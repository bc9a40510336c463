"""The compiled step whose bytes are counted."""

from typing import Any

import jax
import jax.numpy as jnp

import optx_core
from optimizer_rows._row import Row


def compiled_step(
    tx: Any,
    row: Row,
    module: Any = optx_core,
    device: Any = None,
    side: int = 1024,
    dtype: Any = jnp.float32,
) -> Any:
    """One donated step, update and apply, on a square matrix.

    Args:
      tx: the row's optimizer, ours or another library's.
      row: what says which arguments it needs besides gradients.
      module: where `apply_updates` and `with_extra_args_support` come from.
      device: what to compile for, also one that is not there; by default the one at hand.
      side: of the matrix.
      dtype: of the parameters and the gradients.
    """
    sharding = device and jax.sharding.SingleDeviceSharding(device)

    def there(tree: Any) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    params = there({"w": jax.ShapeDtypeStruct((side, side), dtype)})
    tx = module.with_extra_args_support(tx)

    def step(params: Any, state: Any, grads: Any) -> Any:
        given = {} if row.extra_args is None else row.extra_args(params, grads)
        updates, state = tx.update(grads, state, params, **given)
        return module.apply_updates(params, updates), state

    state = there(jax.eval_shape(tx.init, params))
    return jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params).compile()
