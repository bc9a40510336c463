"""A mask that is False at a whole subtree: one masked node, and the same numbers as leaf by leaf."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optx_aliases as a
from optx_core import (
    MaskedNode,
    apply_if_finite,
    apply_updates,
    chain,
    clip_by_global_norm,
    ema,
    inject_hyperparams,
    masked,
    master_weights,
    multi_steps,
    partition,
    tree,
)

PARAMS = {
    "a": {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "n": None},
    "b": [jnp.ones(2), jnp.zeros(())],
    "c": {},
    "d": (jnp.ones((2, 2)),),
}
PREFIX = {"a": True, "b": False, "c": False, "d": (True,)}
FULL = {"a": {"w": True, "n": True}, "b": [False, False], "c": {}, "d": (True,)}

INNER = {
    "adamw": lambda: a.adamw(0.1, weight_decay=0.1),
    "clipped": lambda: chain(clip_by_global_norm(0.1), a.adam(0.1)),
    "multi_steps": lambda: multi_steps(a.adam(0.1), 2),
    "apply_if_finite": lambda: apply_if_finite(a.adam(0.1), 2),
    "master_weights": lambda: master_weights(a.adam(0.1)),
    "inject_hyperparams": lambda: inject_hyperparams(a.adam)(0.1),
    "muon": lambda: a.muon(0.1),
    "polyak_sgd": lambda: a.polyak_sgd(),
    "lbfgs": lambda: a.lbfgs(),
    "prodigy": lambda: a.prodigy(),
    "masked again": lambda: masked(a.adam(0.1), lambda p: tree.mask_like(True, p)),
    "masked again, by a prefix": lambda: masked(
        a.adam(0.1), {"a": True, "b": True, "c": True, "d": False}
    ),
    "partition": lambda: partition(
        {"x": a.adam(0.1), "y": ema(0.9)}, {"a": "x", "b": "y", "c": "y", "d": "y"}
    ),
}


def loss(p):
    return sum(jnp.sum(jnp.cos(x) + 0.1 * x**2) for x in jax.tree.leaves(p))


def train(tx, steps=4):
    params, state = PARAMS, tx.init(PARAMS)
    update = jax.jit(lambda g, s, p, value: tx.update(g, s, p, value=value, grad=g, value_fn=loss))
    for _ in range(steps):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = update(grads, state, params, value)
        params = apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", INNER)
def test_it_moves_the_leaves_as_a_mask_of_each_leaf_does(name):
    one, state = train(masked(INNER[name](), PREFIX))
    other, _ = train(masked(INNER[name](), FULL))
    chex.assert_trees_all_equal(one, other)
    assert not np.array_equal(one["a"]["w"], PARAMS["a"]["w"])
    kept = masked(INNER[name](), PREFIX).init(PARAMS)
    assert jax.tree.structure(kept) == jax.tree.structure(state)


def test_one_masked_node_stands_for_a_masked_subtree():
    tx = masked(ema(0.9), PREFIX)
    _, state = train(tx)
    average = state.inner_state.ema
    assert average["b"] == MaskedNode() == average["c"]
    assert average["a"]["n"] is None
    mapped = tree.map_params(tx, lambda x: x + 1, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    np.testing.assert_array_equal(mapped.inner_state.ema["a"]["w"], average["a"]["w"] + 1)


def test_a_gradient_that_is_missing_in_a_masked_subtree_is_missing_there_alone():
    grads = {**jax.grad(loss)(PARAMS), "b": [None, jnp.ones(())]}
    tx = masked(a.sgd(0.1), PREFIX)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    assert updates["b"][0] is None
    np.testing.assert_array_equal(updates["b"][1], 1.0)
