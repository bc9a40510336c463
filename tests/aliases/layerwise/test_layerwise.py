"""Optimizers with one step size per array: schedules and masks."""

import jax
import jax.numpy as jnp
import numpy as np
from training import run

import optx_aliases as a


def test_a_scheduled_fromage_follows_the_schedule():
    p, grads = jnp.asarray([3.0, 4.0]), [jnp.asarray([0.6, -0.8])] * 3
    rates = [0.1, 0.05, 0.025]
    expected = np.asarray(p, np.float64)
    for rate in rates:
        turned = expected - rate * np.linalg.norm(expected) * np.asarray(grads[0])
        expected = turned / np.sqrt(1 + rate**2)
    made, _ = run(a.fromage(lambda count: 0.1 * 0.5 ** count.astype(float)), p, grads)
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_novograd_decays_only_where_its_mask_says():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    tx = a.novograd(0.1, weight_decay=0.5, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))
    updates, state = tx.update(zeros, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["b"], 0.0)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))
