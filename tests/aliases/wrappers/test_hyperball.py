"""Matrices of a fixed norm."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import HyperballState, MuonDimensionNumbers, adam, hyperball, muon, sgd
from optx_core import apply_updates, master_weights, stochastic_rounding, tree

W0 = jnp.asarray([[0.5, -1.5, 2.0], [0.25, 0.0, -0.25]])  # exact in bfloat16


def norms(x):
    return np.linalg.norm(np.asarray(x, np.complex128), axis=(-2, -1))


def one_step(tx, params, grads):
    updates, _ = tx.update(grads, tx.init(params), params)
    return apply_updates(params, updates)


def test_the_norm_is_kept_to_1e6_for_100_000_steps_and_in_bfloat16_to_its_rounding():
    kept = hyperball(adam(1e-3), 1e-3)
    transformations = {
        "float32": kept,
        "bfloat16": kept,
        "masters": master_weights(kept),
        "stochastic": stochastic_rounding(kept),
    }
    params = {
        name: W0.astype(jnp.float32 if name == "float32" else jnp.bfloat16)
        for name in transformations
    }
    states = {name: tx.init(params[name]) for name, tx in transformations.items()}
    place = jnp.arange(6.0).reshape(2, 3)
    radius = jnp.linalg.norm(W0)

    def step(carry, k):
        params, states, worst = carry
        grads = jnp.sin(place * k) + jnp.cos(k * 1e-3 + place)
        new, new_states, new_worst = {}, {}, {}
        for name, tx in transformations.items():
            p = params[name]
            updates, new_states[name] = tx.update(grads.astype(p.dtype), states[name], p)
            new[name] = apply_updates(p, updates)
            off = jnp.abs(jnp.linalg.norm(new[name].astype(jnp.float32)) / radius - 1)
            new_worst[name] = jnp.maximum(worst[name], off)
        return (new, new_states, new_worst), None

    worst = {name: jnp.zeros(()) for name in transformations}
    counts = jnp.arange(100_000, dtype=jnp.float32)
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, counts)[0])
    params, states, worst = run((params, states, worst))
    assert worst["float32"] < 1e-6
    assert worst["masters"] < 2**-8  # rounded to nearest, with eight bits
    assert worst["bfloat16"] < 2**-8 * 1.002  # the update too
    assert worst["stochastic"] < 2**-7 * 1.002
    master = states["masters"].master
    assert abs(norms(master) / norms(W0) - 1) < 1e-6
    assert abs(norms(params["float32"] - W0)) > 0.5 * norms(W0)  # it has turned
    np.testing.assert_array_equal(params["masters"], master.astype(jnp.bfloat16))


def test_the_steps_of_the_other_leaves_are_the_inner_optimizers():
    key = jax.random.key(0)
    params = {
        "embedding": jax.random.normal(key, (4, 3)),
        "layers": {"kernel": jax.random.normal(key, (2, 4, 3)), "bias": jnp.ones(3)},
        "lm_head": {"kernel": jax.random.normal(key, (3, 4))},
        "scale": jnp.asarray(1.0),
        "none": None,
    }
    grads = jax.tree.map(jnp.cos, params)
    inner = adam(0.1)
    tx = hyperball(inner, 0.01)
    state = tx.init(params)
    ours, _ = tx.update(grads, state, params)
    others, _ = inner.update(grads, inner.init(params), params)
    kernel = ours["layers"].pop("kernel")
    u = np.asarray(others["layers"].pop("kernel"))
    chex.assert_trees_all_equal(ours, others)
    before = np.asarray(params["layers"]["kernel"])
    size = norms(before)[:, None, None]
    moved = before + 0.01 * size * u / norms(u)[:, None, None]
    expected = size * moved / norms(moved)[:, None, None]
    np.testing.assert_allclose(before + kernel, expected, rtol=1e-5)
    radius = tree.get(state, "HyperballState/radius")["layers"]["kernel"]
    assert radius.shape == (2, 1, 1)


def test_each_matrix_of_a_stack_is_one_by_itself():
    stack = jnp.stack([W0, 10 * W0 + 1, jnp.zeros_like(W0)])
    grads = jnp.cos(stack)
    tx = hyperball(sgd(0.5), 0.1)
    whole = one_step(tx, stack, grads)
    alone = jnp.stack([one_step(tx, p, g) for p, g in zip(stack, grads, strict=True)])
    np.testing.assert_allclose(whole, alone, rtol=1e-6)
    mapped = jax.vmap(lambda p, g: one_step(tx, p, g))(stack, grads)
    np.testing.assert_allclose(mapped, whole, rtol=1e-6)


def test_what_is_a_matrix_can_be_given():
    params = {"a": W0, "b": W0, "c": jnp.stack([W0, W0], axis=2)}
    grads = jax.tree.map(jnp.cos, params)
    plain = one_step(sgd(0.5), params, grads)
    by_mask = one_step(hyperball(sgd(0.5), 0.1, {"a": True, "b": False, "c": False}), params, grads)
    dims = {"a": MuonDimensionNumbers(), "b": None, "c": MuonDimensionNumbers(0, 1)}
    tx = hyperball(sgd(0.5), 0.1, weight_dimension_numbers=dims)
    by_numbers = one_step(tx, params, grads)
    np.testing.assert_allclose(norms(by_mask["a"]), norms(W0), rtol=1e-6)
    np.testing.assert_array_equal(by_mask["b"], plain["b"])
    np.testing.assert_array_equal(by_mask["c"], plain["c"])
    np.testing.assert_array_equal(by_numbers["a"], by_mask["a"])
    np.testing.assert_array_equal(by_numbers["b"], plain["b"])
    for k in range(2):
        np.testing.assert_allclose(by_numbers["c"][..., k], by_mask["a"], rtol=1e-6)
    assert tx.init(params)[1].inner_state.radius["c"].shape == (1, 1, 2)
    with pytest.raises(
        ValueError, match=r"hyperball: the leaf\['v'\] of shape \(2,\) is not a matrix"
    ):
        hyperball(sgd(0.5), 0.1, {"v": True}).init({"v": jnp.ones(2)})


def test_a_zero_update_moves_nothing_and_a_zero_matrix_takes_the_inner_steps():
    tx = hyperball(sgd(0.5), 0.1)
    updates, _ = tx.update(jnp.zeros_like(W0), tx.init(W0), W0)
    np.testing.assert_array_equal(updates, 0.0)
    zero = jnp.zeros_like(W0)
    state = tx.init(zero)
    updates, state = tx.update(W0, state, zero)
    np.testing.assert_allclose(updates, -0.5 * W0)
    updates, state = tx.update(W0, state, updates)
    np.testing.assert_allclose(updates, -0.5 * W0, rtol=1e-6)
    # A step to the very centre has no direction either.
    updates, _ = hyperball(sgd(1.0), 1.0).update(jnp.eye(2), tx.init(jnp.eye(2)), jnp.eye(2))
    np.testing.assert_array_equal(updates, 0.0)


def test_a_relative_step_is_as_long_as_a_part_of_the_matrix():
    tx = hyperball(sgd(0.5), 0.1, project=False)
    updates, state = tx.update(jnp.ones_like(W0), tx.init(W0), W0)
    np.testing.assert_allclose(updates, -0.1 * norms(W0) / 6**0.5, rtol=1e-6)
    moved = 3 * W0
    updates, _ = tx.update(jnp.ones_like(W0), state, moved)
    np.testing.assert_allclose(norms(updates), 0.1 * norms(moved), rtol=1e-6)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_only_the_direction_of_an_update_counts(size):
    tx, grads = hyperball(sgd(1.0), 0.1), jnp.cos(W0)
    expected = one_step(tx, W0, grads)
    np.testing.assert_allclose(one_step(tx, W0, size * grads), expected, rtol=1e-6)
    small = one_step(tx, size * W0, grads)
    np.testing.assert_allclose(small / size, expected, rtol=1e-6)


def test_a_gradient_that_is_not_finite_is_not_hidden():
    tx = hyperball(sgd(1.0), 0.1)
    for bad in (jnp.nan, jnp.inf):
        updates, _ = tx.update(W0.at[0, 0].set(bad), tx.init(W0), W0)
        assert bool(jnp.isnan(updates).any())


def test_complex_matrices_keep_their_norm():
    w = jax.lax.complex(W0, jnp.flip(W0))
    tx = hyperball(sgd(0.5), 0.1)
    state = tx.init(w)
    assert state[1].inner_state.radius.dtype == jnp.float32
    updates, _ = tx.update(jnp.sin(w), state, w)
    np.testing.assert_allclose(norms(w + updates), norms(w), rtol=1e-6)


def test_muon_turns_matrices_and_the_learning_rate_may_be_a_schedule():
    tx = hyperball(muon(0.02, weight_decay=0.0), lambda count: 0.1 * 0.5**count)
    state, p = tx.init(W0), W0
    for length in (0.1, 0.05):
        updates, state = tx.update(jnp.cos(p), state, p)
        moved = p + updates
        turned = np.arccos(np.sum(np.asarray(p * moved, float)) / norms(p) ** 2)
        assert 0.6 * length < turned < 1.01 * length
        p = moved
    assert isinstance(state[1].inner_state.inner_state, HyperballState)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="hyperball: learning_rate must be at least 0"):
        hyperball(sgd(0.1), -0.1)
    with pytest.raises(ValueError, match="hyperball: a brake needs project=False"):
        hyperball(sgd(0.1), 0.1, brake=0.5)
    with pytest.raises(ValueError, match="hyperball: brake must be at most 1"):
        hyperball(sgd(0.1), 0.1, project=False, brake=1.5)
    with pytest.raises(TypeError, match=r"hyperball takes transformations.*call it: sgd"):
        hyperball(sgd, 0.1)
    tx = hyperball(sgd(0.1), 0.1)
    with pytest.raises(ValueError, match="hyperball needs the parameters"):
        tx.update(W0, tx.init(W0))
