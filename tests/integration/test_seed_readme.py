"""Every snippet of the project's first README that concerns transformations, as it stands there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
import optx_core
import optx_losses
from optx_aliases import scale_by_adam, scale_by_rms
from optx_core import add_decayed_weights, chain, clip_by_global_norm, scale, scale_by_schedule
from optx_schedules import polynomial_schedule


@pytest.fixture(autouse=True)
def as_a_user_has_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_the_quick_start():
    num_weights, learning_rate = 3, 0.1
    xs, ys = jnp.array([1.0, 2.0, 3.0]), jnp.array(2.0)

    optimizer = optx_aliases.adam(learning_rate)
    params = {"w": jnp.ones((num_weights,))}
    opt_state = optimizer.init(params)

    compute_loss = lambda params, x, y: optx_losses.l2_loss(params["w"].dot(x), y)
    first = compute_loss(params, xs, ys)
    for _ in range(50):
        grads = jax.grad(compute_loss)(params, xs, ys)
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optx_core.apply_updates(params, updates)
    assert compute_loss(params, xs, ys) < 1e-2 * first


def test_a_transformation_is_two_functions():
    params = {"w": jnp.ones(2)}
    grads = {"w": jnp.array([2.0, -3.0])}
    tx = scale_by_rms()
    state = tx.init(params)
    grads, state = tx.update(grads, state, params)
    np.testing.assert_allclose(grads["w"], np.sign([2.0, -3.0]) / np.sqrt(0.1), rtol=1e-5)


def test_a_chain_with_a_schedule():
    learning_rate, max_norm = 0.1, 1.0
    schedule_fn = polynomial_schedule(
        init_value=-learning_rate, end_value=0.0, power=1, transition_steps=5
    )
    optimiser = chain(
        clip_by_global_norm(max_norm),
        scale_by_adam(eps=1e-4),
        scale_by_schedule(schedule_fn),
    )
    params = jnp.array([1.0])
    state = optimiser.init(params)
    for _ in range(6):
        updates, state = optimiser.update(jnp.ones(1), state, params)
    assert float(updates[0]) == 0.0


def test_a_polynomial_schedule_with_power_one_is_linear():
    schedule_fn = polynomial_schedule(init_value=1.0, end_value=0.0, power=1, transition_steps=5)
    values = [float(schedule_fn(step_count)) for step_count in range(6)]
    np.testing.assert_allclose(values, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-6)


def test_adamw_is_a_chain_one_can_write_oneself():
    def adamw(learning_rate, b1, b2, eps, weight_decay):
        return chain(
            scale_by_adam(b1=b1, b2=b2, eps=eps),
            add_decayed_weights(weight_decay),
            scale(-learning_rate),
        )

    params, grads = jnp.linspace(-1, 1, 5), jnp.linspace(2, -1, 5)
    made = []
    for tx in (
        adamw(0.1, 0.9, 0.99, 1e-6, 0.01),
        optx_aliases.adamw(0.1, 0.9, 0.99, 1e-6, 0.0, None, 0.01),
    ):
        updates, _ = tx.update(grads, tx.init(params), params)
        made.append(updates)
    np.testing.assert_array_equal(*made)


def test_losses_take_batches_and_do_not_reduce():
    predictions, targets = jnp.linspace(-2, 2, 6).reshape(3, 2), jnp.zeros((3, 2))
    loss = optx_losses.huber_loss(predictions, targets)
    assert loss.shape == (3, 2)
    avg_loss = jnp.mean(optx_losses.huber_loss(predictions, targets))
    sum_loss = jnp.sum(optx_losses.huber_loss(predictions, targets))
    np.testing.assert_allclose(sum_loss, 6 * avg_loss, rtol=1e-6)
