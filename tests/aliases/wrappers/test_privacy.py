"""Differentially private gradients: what each example contributes, and the noise that hides it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases
from optx_core import (
    MaskedNode,
    TreeMismatchError,
    add_decayed_weights,
    apply_updates,
    chain,
    inject_hyperparams,
    named_chain,
    scale,
)
from optx_testing import check_transformation

private = optx_aliases.differentially_private_aggregate


def test_each_example_is_clipped_by_the_norm_of_its_whole_gradient():
    rng = np.random.default_rng(0)
    grads = {"w": rng.normal(size=(5, 3, 2)) * 3, "b": rng.normal(size=(5,)), "n": None}
    tx = private(1.5, 0.0, key=0)
    made, _ = tx.update(jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), grads), tx.init(None))
    norms = np.sqrt(np.sum(grads["w"] ** 2, axis=(1, 2)) + grads["b"] ** 2)
    factors = np.minimum(1, 1.5 / norms)
    assert (factors < 1).any()
    np.testing.assert_allclose(
        made["w"], np.mean(grads["w"] * factors[:, None, None], axis=0), rtol=1e-5
    )
    np.testing.assert_allclose(made["b"], np.mean(grads["b"] * factors), rtol=1e-5)
    assert made["n"] is None


def test_one_example_moves_the_sum_by_at_most_the_bound():
    tx = private(0.7, 0.0, key=0)
    grads = jnp.asarray([[1e12, -3.0], [0.1, 0.2], [0.0, 0.0]])
    without = grads.at[0].set(0.0)
    a, b = (3 * tx.update(g, tx.init(None))[0] for g in (grads, without))
    assert float(jnp.linalg.norm(a - b)) <= 0.7 * (1 + 1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_the_noise_has_the_deviation_that_the_bound_says(dtype):
    clip, multiplier, batch = 2.0, 1.5, 4
    tx = private(clip, multiplier, seed=3)
    made, state = tx.update(jnp.zeros((batch, 200, 200), dtype), tx.init(None))
    assert made.dtype == dtype
    expected = clip * multiplier / batch
    parts = (made.real, made.imag) if dtype == jnp.complex64 else (made.astype(jnp.float32),)
    for part in parts:  # 40,000 draws: the deviation is known to 0.35 %
        np.testing.assert_allclose(np.std(part), expected, rtol=0.02)
        np.testing.assert_allclose(np.mean(part), 0.0, atol=5 * expected / 200)
    again, _ = tx.update(jnp.zeros((batch, 200, 200), dtype), state)
    both = [np.asarray(x.real.astype(jnp.float32)).ravel() for x in (made, again)]
    assert abs(np.corrcoef(*both)[0, 1]) < 0.03


def test_every_leaf_has_noise_of_its_own():
    tx = private(1.0, 1.0, key=0)
    made, _ = tx.update([jnp.zeros((2, 50)), jnp.zeros((2, 50))], tx.init(None))
    assert abs(np.corrcoef(made[0], made[1])[0, 1]) < 0.5


def test_numbers_may_be_traced_and_batched():
    def deviation(multiplier):
        tx = private(jnp.asarray(1.0), multiplier, key=jax.random.key(0))
        return jnp.std(tx.update(jnp.zeros((1, 2000)), tx.init(None))[0])

    made = jax.jit(jax.vmap(deviation))(jnp.asarray([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(made, [0.0, 1.0, 2.0], rtol=0.1)


def test_it_is_printed_compared_and_owns_its_key():
    assert private(1.0, 1.1, key=0) == private(1.0, 1.1, key=0) != private(1.0, 1.2, key=0)
    assert repr(private(1.0, 1.1, 0)).startswith(
        "differentially_private_aggregate(l2_norm_clip=1.0"
    )
    key = jax.random.key(5)
    state = private(1.0, 1.0, key=key).init(None)
    assert state.rng_key is not key
    check_transformation(private(1.0, 1.1, key=0), promises=[2])


def test_dpsgd_trains_with_parameters_at_hand():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32)
    target = x @ jnp.asarray([1.0, -2.0, 0.5])
    loss = lambda p, x, y: (p["w"] @ x + p["b"] - y) ** 2
    tx = optx_aliases.dpsgd(
        lambda count: 0.3 / (1 + 0.05 * count.astype(float)), 1.0, 0.5, seed=0, momentum=0.5
    )
    params = {"w": jnp.zeros(3), "b": jnp.asarray(0.0)}

    @jax.jit
    def step(params, state):
        grads = jax.vmap(jax.grad(loss), (None, 0, 0))(params, x, target)
        updates, state = tx.update(grads, state, params)
        return apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(150):
        params, state = step(params, state)
    np.testing.assert_allclose(params["w"], [1.0, -2.0, 0.5], atol=0.2)
    assert [type(part).__name__ for part in state] == [
        "DifferentiallyPrivateAggregateState",
        "TraceState",
        "ScaleByScheduleState",
    ]


def test_it_may_begin_any_chain_and_what_comes_out_must_fit_the_parameters():
    params = {"w": jnp.zeros(3), "b": jnp.asarray(0.0)}
    grads = {"w": jnp.ones((8, 3)), "b": jnp.ones(8)}
    begin = private(2.0, 0.0, key=0)
    for tx in (
        chain(begin, chain(scale(1.0))),
        named_chain(("private", begin), ("step", scale(1.0))),
        chain(chain(begin), add_decayed_weights(0.1)),
        inject_hyperparams(optx_aliases.dpsgd)(-1.0, 2.0, 0.0, seed=0),
    ):
        updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
        np.testing.assert_allclose(updates["w"], jnp.ones(3), rtol=1e-6)
        assert updates["b"].shape == ()
    tx, wide = chain(begin, scale(1.0)), {**grads, "w": jnp.ones((8, 4))}
    with pytest.raises(TreeMismatchError, match=r"\['w'\]"):
        tx.update(wide, tx.init(params), params)
    later = chain(scale(1.0), begin)
    with pytest.raises(TreeMismatchError, match=r"\['b'\]"):
        later.update(grads, later.init(params), params)


def test_masked_leaves_pass_by():
    tx = private(1.0, 1.0, key=0)
    made, _ = tx.update({"a": jnp.ones((2, 3)), "b": MaskedNode()}, tx.init(None))
    assert made["b"] == MaskedNode()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: private(1.0, 1.0), "give a key"),
        (lambda: private(1.0, 1.0, key=0, seed=0), "give a key"),
        (lambda: private(0.0, 1.0, key=0), "l2_norm_clip must be greater than 0"),
        (lambda: private(1.0, -1.0, key=0), "noise_multiplier must be at least 0"),
        (lambda: optx_aliases.dpsgd(0.1, 1.0, 1.0, 0, nesterov=True), "needs a momentum"),
        (
            lambda: private(1.0, 1.0, key=0).update([jnp.ones((2, 1)), jnp.ones(3)], ()),
            "same leading axis",
        ),
    ],
)
def test_what_cannot_work_is_refused(make, message):
    with pytest.raises((ValueError, AttributeError), match=message):
        make()


def test_dpsgd_takes_a_key_or_a_seed_and_not_both():
    make = lambda **given: optx_aliases.dpsgd(0.1, 1.0, 1.1, **given)
    p, grads = jnp.ones(2), jnp.ones((4, 2))
    one, other = (tx.update(grads, tx.init(p), p)[0] for tx in (make(seed=3), make(key=3)))
    np.testing.assert_array_equal(one, other)
    for given in ({}, {"seed": 0, "key": 0}):
        with pytest.raises(ValueError, match="dpsgd: give a key"):
            make(**given)
