"""The seed documents' snippets about schedules and losses."""

import jax
import jax.numpy as jnp
import numpy as np

from optx_core import apply_updates, chain, scale_by_schedule
from optx_losses import huber_loss, l2_loss
from optx_schedules import polynomial_schedule, warmup_cosine_decay_schedule


def test_the_readmes_quick_start_runs():
    from optx_aliases import adam

    num_weights, learning_rate = 3, 0.1
    xs, ys = jnp.ones(num_weights), jnp.asarray(2.0)
    optimizer = adam(learning_rate)
    params = {"w": jnp.ones((num_weights,))}
    opt_state = optimizer.init(params)
    compute_loss = lambda params, x, y: l2_loss(params["w"].dot(x), y)
    grads = jax.grad(compute_loss)(params, xs, ys)
    updates, opt_state = optimizer.update(grads, opt_state)
    params = apply_updates(params, updates)
    assert compute_loss(params, xs, ys) < compute_loss({"w": jnp.ones(3)}, xs, ys)


def test_the_readmes_polynomial_schedule_prints_what_it_says():
    schedule_fn = polynomial_schedule(init_value=1.0, end_value=0.0, power=1, transition_steps=5)
    values = [float(schedule_fn(step_count)) for step_count in range(6)]
    np.testing.assert_allclose(values, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0], atol=1e-7)


def test_the_readmes_schedule_works_in_a_chain():
    learning_rate = 0.5
    schedule_fn = polynomial_schedule(
        init_value=-learning_rate, end_value=0.0, power=1, transition_steps=5
    )
    optimiser = chain(scale_by_schedule(schedule_fn))
    state = optimiser.init(jnp.zeros(1))
    updates, state = optimiser.update(jnp.ones(1), state)
    np.testing.assert_allclose(updates, -0.5)
    updates, state = optimiser.update(jnp.ones(1), state)
    np.testing.assert_allclose(updates, -0.4)


def test_the_readmes_losses_are_not_reduced():
    predictions, targets = jnp.arange(4.0), jnp.ones(4)
    loss = huber_loss(predictions, targets)
    avg_loss = jnp.mean(huber_loss(predictions, targets))
    sum_loss = jnp.sum(huber_loss(predictions, targets))
    assert loss.shape == (4,)
    np.testing.assert_allclose([avg_loss * 4, sum_loss], [2.5, 2.5])


def test_the_cheat_sheets_schedule_is_a_learning_rate():
    from optx_aliases import adam

    lr_schedule = warmup_cosine_decay_schedule(
        init_value=0.0, peak_value=1e-3, warmup_steps=100, decay_steps=1000, end_value=1e-5
    )
    optimizer = adam(learning_rate=lr_schedule)
    state = optimizer.init(jnp.zeros(2))
    updates, state = jax.jit(optimizer.update)(jnp.ones(2), state)
    np.testing.assert_allclose(updates, 0.0)
    updates, state = jax.jit(optimizer.update)(jnp.ones(2), state)
    np.testing.assert_allclose(updates, -1e-5, rtol=1e-4)
