"""Schedule-free learning: where it is evaluated, its one count, its dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import MaskedNode, apply_updates, chain, masked, partition

eval_params = optx_aliases.schedule_free_eval_params


def test_the_average_is_read_at_any_depth_and_leaves_that_do_not_move_come_back():
    params = {"w": jnp.ones(2), "n": None, "steps": jnp.arange(3), "b": jnp.ones(1)}
    inner = optx_aliases.schedule_free_sgd(0.1)
    tx = chain(masked(inner, {"w": True, "n": False, "steps": False, "b": False}))
    state = tx.init(params)
    assert isinstance(state[0].inner_state.z["b"], MaskedNode)
    grads = {"w": jnp.ones(2), "n": None, "steps": None, "b": jnp.zeros(1)}
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        params = apply_updates(params, updates)
    found = eval_params(state, params)
    np.testing.assert_allclose(found["w"], 1 - 0.1 * 2, rtol=1e-6)  # z is 0.9, 0.8, 0.7
    np.testing.assert_array_equal(found["steps"], params["steps"])
    np.testing.assert_array_equal(found["b"], params["b"])


def test_it_needs_exactly_one_state():
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="holds 0 states of schedule_free"):
        eval_params(optx_aliases.sgd(0.1).init(params), params)
    two = chain(*[optx_aliases.schedule_free_sgd()] * 2).init(params)
    with pytest.raises(ValueError, match="holds 2 states"):
        eval_params(two, params)


def test_weights_and_steps_see_the_same_count():
    seen = {"weights": [], "steps": []}

    def schedule(name):
        def at(count):
            jax.debug.callback(lambda c: seen[name].append(int(c)), count)
            return 0.1

        return at

    inner = optx_aliases.sgd(schedule("steps"))
    tx, p = optx_aliases.schedule_free(inner, schedule("weights")), jnp.ones(1)
    state = tx.init(p)
    for _ in range(3):
        _, state = tx.update(p, state, p)
    jax.effects_barrier()
    assert seen == {"weights": [0, 1, 2], "steps": [0, 1, 2]}


def test_a_schedule_that_starts_at_zero_moves_nothing_at_first():
    rates = lambda count: jnp.minimum(0.01 * count.astype(float), 0.1)
    tx, p = optx_aliases.schedule_free_sgd(rates), jnp.ones(2)
    updates, state = tx.update(p, tx.init(p), p)
    np.testing.assert_array_equal(updates, 0.0)
    updates, _ = tx.update(p, state, p)
    assert bool(jnp.all(updates < 0))


def test_the_last_iterate_weighs_as_the_learning_rate_says():
    """With weight_lr_power = 0 the average is the plain mean of the iterates."""
    rates = lambda count: 0.1 / (1 + count.astype(float))
    tx, y = optx_aliases.schedule_free_sgd(rates, weight_lr_power=0.0), jnp.ones(1)
    state, iterates = tx.init(y), []
    for _ in range(5):
        updates, state = tx.update(2 * y, state, y)
        y = apply_updates(y, updates)
        iterates.append(state.z)
    np.testing.assert_allclose(eval_params(state, y), np.mean(iterates, axis=0), rtol=1e-5)


def test_bfloat16_parameters_keep_float32_iterates_unless_asked():
    params = jnp.ones(2, jnp.bfloat16)
    assert optx_aliases.schedule_free_sgd().init(params).z.dtype == jnp.float32
    asked = optx_aliases.schedule_free_sgd(state_dtype=jnp.bfloat16).init(params)
    assert asked.z.dtype == jnp.bfloat16
    assert eval_params(asked, params).dtype == jnp.bfloat16


def test_radam_waits_until_the_variance_is_finite():
    tx, y = optx_aliases.schedule_free_radam(0.1), jnp.ones(1)
    state, moved = tx.init(y), []
    for _ in range(8):
        updates, state = tx.update(y, state, y)
        moved.append(bool(updates[0] != 0))
    assert moved == [False] * 4 + [True] * 4


def test_it_is_one_member_of_a_partition():
    params = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    tx = partition(
        {"matrix": optx_aliases.schedule_free_adamw(0.1), "rest": optx_aliases.sgd(0.1)},
        {"w": "matrix", "b": "rest"},
    )
    updates, state = tx.update(params, tx.init(params), params)
    params = apply_updates(params, updates)
    assert eval_params(state, params)["w"].shape == (2, 2)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_mask_keeps_leaves_from_decaying(name):
    make = getattr(optx_aliases, f"schedule_free_{name}")
    params = {"w": jnp.ones(2), "b": jnp.ones(2)}
    tx = make(0.1, weight_decay=0.5, mask={"w": True, "b": False})
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    assert bool(jnp.all(updates["w"] < 0))
    np.testing.assert_array_equal(updates["b"], 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optx_aliases.schedule_free_sgd(b1=0.0), "b1 must be greater than 0"),
        (lambda: optx_aliases.schedule_free_sgd(warmup_steps=-1), "warmup_steps must be at least"),
        (lambda: optx_aliases.schedule_free_radam(b2=0.5), "b2 must be greater than 0.6"),
        (lambda: optx_aliases.schedule_free(optx_aliases.sgd, 0.1), "call it: sgd"),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
