"""Properties of single elementwise optimizers that the table cannot hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import run, waves

import optx_aliases as a
from optx_core import apply_updates


def test_without_decay_the_parameters_are_not_needed():
    for tx in (a.adadelta(1.0), a.adan(0.1), a.nadamw(0.1, weight_decay=0.0), a.novograd(0.1)):
        updates, _ = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
        assert updates.shape == (2,)


def test_adadelta_without_a_learning_rate_descends():
    updates, _ = a.adadelta().update(jnp.ones(2), a.adadelta().init(jnp.ones(2)))
    assert bool(jnp.all(updates < 0))


def test_optimism_finds_the_saddle_that_descent_circles():
    """min over x, max over y of x·y: descent runs away from 0, optimism goes there."""

    def play(tx):
        def step(carry, _):
            p, state = carry
            updates, state = tx.update(jnp.stack([p[1], -p[0]]), state, p)
            return (apply_updates(p, updates), state), None

        start = jnp.asarray([1.0, 1.0])
        (end, _), _ = jax.lax.scan(step, (start, tx.init(start)), length=1000)
        return end

    assert jnp.linalg.norm(play(a.optimistic_gradient_descent(0.1))) < 0.1
    assert jnp.linalg.norm(play(a.sgd(0.1))) > 5.0


def test_nadamw_is_adamw_with_nesterovs_momentum():
    p, grads = jnp.ones((2, 3)), waves((2, 3), 5)
    one, _ = run(a.nadamw(0.01, weight_decay=0.1), p, grads)
    other, _ = run(a.adamw(0.01, weight_decay=0.1, nesterov=True), p, grads)
    np.testing.assert_array_equal(one, other)


def test_rprop_refuses_complex_gradients():
    tx, p = a.rprop(0.1), jnp.ones(2, jnp.complex64)
    with pytest.raises(TypeError, match="complex gradients have no sign"):
        tx.update(p, tx.init(p))


def test_adabelief_decays_weights_apart_from_its_moments_and_without_a_decay_has_optaxs_state():
    p, grads = jnp.ones((2, 3)), waves((2, 3), 3)
    plain, _ = run(a.adabelief(0.1), p, grads[:1])
    decayed, _ = run(a.adabelief(0.1, weight_decay=0.5), p, grads[:1])
    np.testing.assert_allclose(decayed, plain - 0.1 * 0.5 * p, rtol=1e-6)
    masked, _ = run(a.adabelief(0.1, weight_decay=0.5, mask=False), p, grads[:1])
    np.testing.assert_allclose(masked, plain, rtol=1e-6)
    assert len(a.adabelief(0.1).init(p)) == 2
