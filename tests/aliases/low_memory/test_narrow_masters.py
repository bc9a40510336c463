"""Optimizers inside of `master_weights` with 24 bits: they move the masters as they move those of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases as a
from optx_core import apply_updates, master_weights

PLAIN = sorted(name for name, row in ROWS.items() if "," not in name and row.extra_args is None)


def params():
    shapes = {"w": (4, 6), "b": (6,)}
    waves = {k: np.sin(np.arange(np.prod(shape)) + 1).reshape(shape) for k, shape in shapes.items()}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), waves)


@pytest.mark.parametrize("name", PLAIN)
def test_every_optimizer_fits(name):
    def step(params):
        tx = master_weights(ROWS[name].make(), bits=24)
        updates, state = tx.update(params, tx.init(params), params)
        return apply_updates(params, updates), state

    new, state = jax.eval_shape(step, params())
    assert {x.dtype.name for x in jax.tree.leaves(new)} == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves(state.error)} == {"int8"}


OPTIMIZERS = {
    "adamw": lambda: a.adamw(1e-3),
    "adafactor": lambda: a.adafactor(1e-3, min_dim_size_to_factor=2),
    "hyperball": lambda: a.hyperball(a.muon(1e-3), 1e-3),
    "8 bits": lambda: a.quantize_state(a.adamw(1e-3), min_size=1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_200_steps_are_those_of_float32_masters(name):
    target = jax.tree.map(lambda p: 0.5 - p.astype(jnp.float32), params())

    def run(bits):
        tx = master_weights(OPTIMIZERS[name](), bits=bits)

        def step(carry, k):
            p, state = carry
            grads = jax.tree.map(
                lambda x, t: (x.astype(jnp.float32) - t + 0.1 * jnp.sin(k + t)).astype(x.dtype),
                p,
                target,
            )
            updates, state = tx.update(grads, state, p)
            return (apply_updates(p, updates), state), None

        start = params()
        steps = jnp.arange(200, dtype=jnp.float32)
        return jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), steps)[0][0])(start)

    narrow, wide, start = run(24), run(32), params()
    for key in start:
        n, w, s = (np.asarray(tree[key], np.float32) for tree in (narrow, wide, start))
        # On the average to less than their last place, or 3 % of the way: roundings to 8 bits are pseudorandom.
        assert np.abs(n - w).mean() <= 2.0**-9 * np.abs(w).mean() + 0.03 * np.abs(w - s).mean()
