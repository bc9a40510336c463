"""Estimators drive an optimizer of the named ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_estimators as oe
from optx_aliases import adam
from optx_core import apply_updates


def test_the_usual_loop_with_rows_of_gradients():
    weights = jnp.array([1.0, -2.0, 0.5])

    def function(x):
        return jnp.sum((x - weights) ** 2)

    dist_params = [jnp.zeros(3), jnp.zeros(3)]
    optim = adam(0.05)
    optim_state = optim.init(dist_params)

    @jax.jit
    def step(dist_params, optim_state, rng):
        jacobians = oe.pathwise_jacobians(function, dist_params, oe.multi_normal, rng, 16)
        mean_grads = jnp.mean(jacobians[0], axis=0)
        log_scale_grads = jnp.mean(jacobians[1], axis=0)
        grads = [mean_grads, log_scale_grads]
        updates, optim_state = optim.update(grads, optim_state, dist_params)
        return apply_updates(dist_params, updates), optim_state

    for rng in jax.random.split(jax.random.key(0), 300):
        dist_params, optim_state = step(dist_params, optim_state, rng)
    np.testing.assert_allclose(dist_params[0], weights, atol=0.1)
    assert jnp.all(dist_params[1] < -1)


METHODS = [
    oe.score_function(oe.leave_one_out()),
    oe.score_function(oe.ema_baseline()),
    oe.score_function(oe.optimal_baseline(0.9)),
    oe.score_function(oe.learned_baseline(lambda b, context: b, jnp.zeros(()), adam(0.05))),
    oe.disarm(),
    oe.rebar(optimizer=adam(0.01)),
    oe.relax(lambda w, s: jnp.sum(w * jnp.tanh(s)), jnp.zeros(4), optimizer=adam(0.01)),
    oe.measure_valued(),
    oe.enumerate_support(),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_discrete_method_finds_the_best_bits(method):
    target = jnp.array([1.0, 0.0, 1.0, 1.0])

    def cost(x):
        return jnp.sum((x - 0.2 - 0.6 * target) ** 2)

    fn = oe.value_and_grad(cost, oe.Bernoulli, method=method, num_samples=8)
    tx, params = adam(0.1), jnp.zeros(4)

    @jax.jit
    def step(carry, key):
        params, tx_state, state = carry
        (value, grads), state = fn(params, key, state)
        updates, tx_state = tx.update(grads, tx_state, params)
        return (apply_updates(params, updates), tx_state, state), value

    carry = (params, tx.init(params), fn.init(params))
    carry, values = jax.lax.scan(step, carry, jax.random.split(jax.random.key(0), 150))
    assert jnp.all((carry[0] > 0) == (target > 0.5))
    assert values[-1] < values[0]
    assert jax.tree.structure(carry[2]) == jax.tree.structure(fn.init(params))
