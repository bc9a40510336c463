"""Cautious steps: only entries that agree with the gradient move."""

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
