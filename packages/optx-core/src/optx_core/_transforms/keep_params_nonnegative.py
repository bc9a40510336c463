"""Updates that keep parameters nonnegative: u = max(u, −p)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from optx_core import build


@build.rule(params=True)
def keep_params_nonnegative(g: jax.Array, p: jax.Array, /) -> jax.Array:
    """Changes updates so that no parameter becomes negative. Place it last in a chain.

    Returns:
      A transformation with an `EmptyState`. `update` needs the parameters, which should be
      nonnegative initially.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import keep_params_nonnegative
      >>> tx = keep_params_nonnegative()
      >>> tx.update(jnp.array([-3.0, -0.5]), tx.init(None), jnp.array([1.0, 1.0]))[0]
      Array([-1. , -0.5], dtype=float32)
    """
    if jnp.iscomplexobj(g):
        raise TypeError("keep_params_nonnegative: complex numbers have no order")
    return jnp.where(p + g < 0, -p, g)
