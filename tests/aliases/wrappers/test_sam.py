"""SAM: its two modes are one algorithm, and a zero gradient is no trouble."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import apply_updates, chain
from optx_testing import check_transformation


def loss(p):
    return jnp.sum(jnp.sin(p["w"]) ** 2) + 0.5 * jnp.sum(p["b"] ** 4)


START = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.asarray(0.8)}


def make(period, opaque, reset=True):
    climb = chain(optx_aliases.normalize(), optx_aliases.sgd(0.05, momentum=0.5))
    return optx_aliases.sam(optx_aliases.adam(0.02), climb, period, reset, opaque)


@pytest.mark.parametrize("period", [1, 2, 3])
@pytest.mark.parametrize("reset", [True, False])
def test_one_opaque_call_is_as_many_transparent_ones_as_the_period(period, reset):
    opaque, transparent = make(period, True, reset), make(period, False, reset)
    p, q = START, START
    state, other = opaque.init(p), transparent.init(q)
    grad = jax.grad(loss)
    update = jax.jit(transparent.update)
    for _ in range(5):
        updates, state = opaque.update(grad(p), state, p, grad_fn=lambda p, i: grad(p))
        p = apply_updates(p, updates)
        for _ in range(period):
            updates, other = update(grad(q), other, q)
            q = apply_updates(q, updates)
        chex.assert_trees_all_close(p, q, rtol=1e-7, atol=1e-5)
    assert int(other.steps_since_sync) == 0
    if reset or period == 1:
        states = zip(
            jax.tree.leaves(state.opt_state), jax.tree.leaves(other.opt_state), strict=True
        )
        for a, b in states:
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_period_of_one_is_the_optimizer_alone():
    tx, plain = make(1, False), optx_aliases.adam(0.02)
    p = q = START
    state, other = tx.init(p), plain.init(q)
    for _ in range(4):
        updates, state = tx.update(jax.grad(loss)(p), state, p)
        p = apply_updates(p, updates)
        updates, other = plain.update(jax.grad(loss)(q), other, q)
        q = apply_updates(q, updates)
    chex.assert_trees_all_close(p, q, rtol=1e-6, atol=1e-7)


def test_a_zero_gradient_climbs_nowhere():
    updates, _ = optx_aliases.normalize().update(jnp.zeros(3), ())
    np.testing.assert_array_equal(updates, 0.0)
    tx, p = make(2, False), jnp.zeros(3)
    updates, state = tx.update(p, tx.init(p), p)
    np.testing.assert_array_equal(updates, 0.0)
    updates, _ = tx.update(p, state, p)
    assert bool(jnp.all(jnp.isfinite(updates)))


def test_normalize_knows_gradients_whose_squares_overflow():
    updates, _ = optx_aliases.normalize().update(jnp.asarray([3e30, 4e30]), ())
    np.testing.assert_allclose(updates, [0.6, 0.8], rtol=1e-6)


def test_the_optimizer_runs_only_where_its_turn_is():
    ran = []

    def update(updates, state, params=None, **extra_args):
        jax.debug.callback(lambda: ran.append(1))
        return updates, state

    from optx_core import GradientTransformationExtraArgs

    counting = GradientTransformationExtraArgs(lambda params: (), update)
    tx, p = optx_aliases.sam(counting, optx_aliases.sgd(0.1), sync_period=3), jnp.ones(2)
    state = tx.init(p)
    step = jax.jit(tx.update)
    for _ in range(6):
        _, state = step(p, state, p)
    jax.effects_barrier()
    assert len(ran) == 2


def test_extra_arguments_reach_the_optimizer():
    tx = optx_aliases.sam(optx_aliases.momo(), optx_aliases.sgd(0.1))
    p = jnp.ones(2)
    _, state = tx.update(p, tx.init(p), p, value=jnp.asarray(1.0))
    updates, _ = tx.update(p, state, p, value=jnp.asarray(1.0))
    assert updates.shape == (2,)


def test_gradients_are_averaged_over_the_axis_of_the_batch():
    climb = chain(optx_aliases.normalize(), optx_aliases.sgd(0.1))
    tx = optx_aliases.sam(optx_aliases.sgd(1.0), climb, opaque_mode=True, batch_axis_name="batch")
    p, data = jnp.ones(2), jnp.asarray([[1.0, 0.0], [3.0, 2.0]])

    def one(x):
        grad_fn = lambda p, i: p * x
        mean = jax.lax.pmean(grad_fn(p, 0), "batch")
        return tx.update(mean, tx.init(p), p, grad_fn=grad_fn)[0]

    made = jax.vmap(one, axis_name="batch")(data)
    np.testing.assert_allclose(made[0], made[1])


@pytest.mark.parametrize("period", [0, -1, 1.5, True])
def test_a_period_that_is_none_is_refused(period):
    with pytest.raises(ValueError, match="sync_period must be a positive int"):
        optx_aliases.sam(optx_aliases.sgd(0.1), optx_aliases.sgd(0.1), period)


def test_opaque_mode_says_what_it_lacks():
    tx = make(2, True)
    with pytest.raises(ValueError, match=r"grad_fn=grad_fn"):
        tx.update(START, tx.init(START), START)


def test_a_period_of_three_keeps_the_promises():
    climb = chain(optx_aliases.normalize(), optx_aliases.sgd(0.05))
    check_transformation(
        optx_aliases.sam(optx_aliases.sgd(0.1), climb, 3), promises=[1, 3, 4, 5, 6]
    )
