"""Gradients and training loops that the tests of several optimizers share."""

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import apply_updates


def waves(shape, steps):
    """Normal gradients, one for each step."""
    rng = np.random.default_rng(3)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(steps)]


def run(tx, params, grads):
    """Returns the parameters and the state after a jitted step for each gradient."""
    update = jax.jit(tx.update)
    state = tx.init(params)
    for g in grads:
        updates, state = update(g, state, params)
        params = apply_updates(params, updates)
    return params, state
