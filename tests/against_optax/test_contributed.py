"""Where optax's contributed optimizers need another tolerance, or differ by a little on purpose."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optx_aliases
import optx_core

PARAMS = {"a": np.linspace(-1.0, 1.0, 8), "b": np.linspace(0.1, 2.0, 12).reshape(3, 4)}


def train(tx, apply_updates, steps=20, **extra):
    params = jax.tree.map(jnp.asarray, PARAMS)

    def step(carry, k):
        params, state = carry
        grads = jax.tree.map(lambda p: jnp.sin(3 * p + k) + 0.1 * p, params)
        updates, state = tx.update(grads, state, params, **extra)
        return (apply_updates(params, updates), state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), jnp.arange(steps, dtype=float)))
    return run(params)[0]


def agree(ours, theirs, rtol, atol=1e-12):
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)
    jax.tree.map(close, jax.tree.leaves(ours), jax.tree.leaves(theirs))


def both(make, **extra):
    return (
        train(make(optx_aliases), optx_core.apply_updates, **extra),
        train(optax.with_extra_args_support(make(optax.contrib)), optax.apply_updates, **extra),
    )


def test_layer_wise_dog_on_arrays_that_optax_can_take(x64):
    make = lambda o: o.scale_by_distance_over_gradients(param_dtype=None, global_scale=-1.0)
    ours = train(make(optx_aliases), optx_core.apply_updates)
    agree(ours, train(make(optax), optax.apply_updates), 1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_madgrad_up_to_the_root_of_the_count_in_float32(x64, decay):
    agree(*both(lambda o: o.madgrad(0.01, weight_decay=decay)), 1e-5, 1e-7)


def test_prodigys_default_eps_too(x64):
    agree(*both(lambda o: o.prodigy(weight_decay=0.1)), 1e-10)


def test_schedule_free_with_a_schedule_differs_by_the_count_alone(x64):
    rates = lambda count: 0.1 / (1 + count.astype(float))
    early = lambda count: rates(count - 1)  # what optax's weights see is one ahead
    ours = train(
        optx_aliases.schedule_free(optx_aliases.sgd(rates), rates), optx_core.apply_updates
    )
    theirs = train(optax.contrib.schedule_free(optax.sgd(rates), early), optax.apply_updates)
    agree(ours, theirs, 1e-10)
    params, state = ours
    found = optx_aliases.schedule_free_eval_params(state, params)
    agree(found, optax.contrib.schedule_free_eval_params(theirs[1], theirs[0]), 1e-10)


@pytest.mark.parametrize("name", ["momo", "momo_adam"])
def test_a_decaying_momo_differs_by_the_division_of_its_step(x64, name):
    """With a step that the learning rate bounds, ours is optax's divided by 1 + lr·decay."""
    lr, decay, p = 1e-3, 0.5, jnp.asarray([1.0, -2.0])
    moved = []
    for o in (optx_aliases, optax.contrib):
        tx = getattr(o, name)(lr, weight_decay=decay)
        moved.append(tx.update(p, tx.init(p), p, value=jnp.asarray(100.0))[0])
    shrunk = -p * lr * decay / (1 + lr * decay)
    np.testing.assert_allclose((moved[1] - shrunk) / (1 + lr * decay) + shrunk, moved[0], rtol=1e-9)


@pytest.mark.parametrize("count", [0, 3])
def test_clipped_sums_of_single_examples_are_optaxs(count):
    grads = [jnp.sin(jnp.arange(24.0) + count).reshape(4, 3, 2), jnp.cos(jnp.arange(4.0) + count)]
    ours = optx_aliases.differentially_private_aggregate(1.0, 0.0, key=0)
    theirs = optax.contrib.differentially_private_aggregate(1.0, 0.0, key=0)
    agree(ours.update(grads, ours.init(None))[0], theirs.update(grads, theirs.init(None))[0], 1e-5)
