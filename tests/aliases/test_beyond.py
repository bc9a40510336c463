"""Cautious steps, Grams, MARS and CAME: what is special to each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import chain, scale_by_learning_rate


def test_only_entries_that_agree_move_and_the_size_of_the_step_is_kept():
    tx = optx_aliases.cautious(optx_aliases.sgd(1.0, momentum=1.0))
    _, state = tx.update(jnp.asarray([4.0, 4.0, 4.0, 0.0]), tx.init(jnp.zeros(4)))
    updates, _ = tx.update(jnp.asarray([1.0, -1.0, 0.0, 1.0]), state)
    np.testing.assert_allclose(updates, [-10.0, 0.0, 0.0, -2.0])  # half of them agree: twice


def test_a_direction_is_judged_by_the_other_sign():
    ascending = chain(
        optx_aliases.cautious(optx_aliases.scale_by_adam(), descends=False),
        scale_by_learning_rate(0.1),
    )
    plain = optx_aliases.cautious(optx_aliases.adam(0.1))
    g = [jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([1.0, 0.2, -0.3])]
    p = jnp.zeros(3)
    states = [tx.init(p) for tx in (ascending, plain)]
    for grads in g:
        made = []
        for k, tx in enumerate((ascending, plain)):
            updates, states[k] = tx.update(grads, states[k], p)
            made.append(updates)
        np.testing.assert_allclose(made[0], made[1], rtol=1e-6)
    assert bool(jnp.any(made[0] == 0))


def test_nothing_agrees_where_the_gradient_is_zero():
    tx = optx_aliases.cautious(optx_aliases.sgd(0.1, momentum=0.9))
    _, state = tx.update(jnp.ones(2), tx.init(jnp.ones(2)))
    np.testing.assert_array_equal(tx.update(jnp.zeros(2), state)[0], 0.0)


def test_cautious_hands_arguments_on_and_prints():
    tx, p = optx_aliases.cautious(optx_aliases.momo()), jnp.ones(2)
    assert tx.update(p, tx.init(p), p, value=jnp.asarray(1.0))[0].shape == (2,)
    assert "inner=momo(learning_rate=1.0" in repr(tx)
    with pytest.raises(TypeError, match="call it: sgd"):
        optx_aliases.cautious(optx_aliases.sgd)


def test_grams_never_steps_up_the_gradient():
    tx, rng = optx_aliases.grams(0.1), np.random.default_rng(0)
    p = jnp.zeros(50)
    state = tx.init(p)
    for _ in range(5):
        g = jnp.asarray(rng.normal(size=50), jnp.float32)
        updates, state = tx.update(g, state, p)
        assert bool(jnp.all(updates * g <= 0))


def test_mars_takes_the_exact_last_gradient_if_given():
    tx = optx_aliases.scale_by_mars(b1=0.5, gamma=1.0, b2=0.0, eps=0.5)
    g = [jnp.asarray([0.3]), jnp.asarray([0.1])]
    _, state = tx.update(g[0], tx.init(g[0]))
    approximate, _ = tx.update(g[1], state)
    exact, _ = tx.update(g[1], state, last_grad=jnp.asarray([0.05]))
    for made, last in ((approximate, 0.3), (exact, 0.05)):
        c = 0.1 + (0.1 - last)
        m = 0.25 * 0.3 + 0.5 * c
        np.testing.assert_allclose(made, m / 0.75 / (abs(c) + 0.5), rtol=1e-5)


def test_came_keeps_rows_and_columns_of_matrices_and_all_of_vectors():
    params = {"w": jnp.ones((2, 3, 4)), "b": jnp.ones(5), "e": jnp.ones((0, 3))}
    state = optx_aliases.scale_by_came().init(params)
    shapes = jax.tree.map(jnp.shape, state)
    assert (shapes.v_row["w"], shapes.v_col["w"], shapes.v["w"]) == ((2, 3), (2, 4), (1,))
    assert (shapes.v_row["b"], shapes.v["b"]) == ((1,), (5,))


def test_came_steps_along_vectors_as_its_mean_of_normalized_gradients(x64):
    tx, g = optx_aliases.scale_by_came(), jnp.asarray([3.0, -4.0])
    state = tx.init(g)
    m = v = np.zeros(2)
    for k in range(4):
        grads = (1 + k) * np.asarray(g)
        v = 0.999 * v + 0.001 * grads**2
        u = grads / np.sqrt(v)
        u = u / max(1, np.sqrt(np.mean(u * u)))
        m = 0.9 * m + 0.1 * u
        updates, state = tx.update(jnp.asarray(grads), state)
    np.testing.assert_allclose(updates, m, rtol=1e-10)
