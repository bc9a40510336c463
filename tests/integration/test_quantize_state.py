"""8-bit states on scikit-learn's digits: the loss curve is that of full precision."""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

from optx_aliases import adamw, quantize_state
from optx_core import apply_updates
from optx_losses import softmax_cross_entropy_with_integer_labels


def curve(tx, steps=500, batch=64):
    """The mean loss over all digits, every ten steps."""
    digits = load_digits()
    x = jnp.asarray(digits.data / 16.0, jnp.float32)
    y = jnp.asarray(digits.target)
    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        "in": jax.random.normal(keys[0], (64, 128)) * 0.125,
        "bias": jnp.zeros(128),
        "out": jax.random.normal(keys[1], (128, 10)) * 0.09,
    }

    def loss(params, x, y):
        hidden = jax.nn.relu(x @ params["in"] + params["bias"][None])
        return jnp.mean(softmax_cross_entropy_with_integer_labels(hidden @ params["out"], y))

    def step(carry, rows):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, x[rows], y[rows]), state, params)
        params = apply_updates(params, updates)
        return (params, state), loss(params, x, y)

    order = np.random.default_rng(0).integers(0, len(x), (steps, batch))
    (_, state), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, order))(
        (params, tx.init(params))
    )
    return np.asarray(losses), state


def test_500_steps_on_the_digits_stay_within_2_percent_of_full_precision():
    # min_size=1 narrows every moment, the biases' too.
    full, _ = curve(adamw(1e-3))
    narrow, state = curve(quantize_state(adamw(1e-3), min_size=1))
    assert full[-1] < 0.15 < 1.5 < full[0]
    assert np.max(np.abs(narrow / full - 1)) < 0.02
    size = 64 * 128 + 128 + 128 * 10
    assert sum(x.nbytes for x in jax.tree.leaves(state)) / size <= 2.2
