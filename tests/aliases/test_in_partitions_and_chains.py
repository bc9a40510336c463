"""What measures the whole tree, or wraps an optimizer, as one part of a partition and of a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import ROWS

import optx_aliases
from optx_core import apply_updates, chain, clip_by_global_norm, partition, set_to_zero

NAMES = (
    "prodigy",
    "dadapt_adamw",
    "dadapt_sgd",
    "dog",
    "dowg",
    "mechanize",
    "momo",
    "momo_adam",
    "sam",
    "schedule_free_adamw",
    "sophia",
    "split_real_and_imaginary",
)


@pytest.mark.parametrize("name", NAMES)
def test_in_a_partition_it_moves_as_it_does_alone(name):
    row = ROWS[name]
    params = {"mine": {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "n": None}, "b": jnp.ones(2)}
    tx = partition(
        {"mine": row.make(), "rest": optx_aliases.sgd(0.1)}, {"mine": "mine", "b": "rest"}
    )
    alone = row.make()

    def step(carry, k):
        params, state, single, other = carry
        given = {"value": jnp.asarray(1.0)}
        grads = jax.tree.map(lambda p: jnp.cos(p + k), params)
        updates, state = tx.update(grads, state, params, **given)
        grads = jax.tree.map(lambda p: jnp.cos(p + k), single)
        moved, other = alone.update(grads, other, single, **given)
        return (apply_updates(params, updates), state, apply_updates(single, moved), other), None

    start = (params, tx.init(params), params["mine"], alone.init(params["mine"]))
    (params, _, single, _), _ = jax.jit(lambda c: jax.lax.scan(step, c, jnp.arange(4.0)))(start)
    np.testing.assert_allclose(params["mine"]["w"], single["w"], rtol=1e-6)
    assert params["mine"]["n"] is None
    assert not np.allclose(params["b"], 1.0)


@pytest.mark.parametrize("name", ["prodigy", "dog", "mechanize", "sam", "schedule_free"])
def test_in_a_chain_it_sees_what_comes_before(name):
    make = ROWS[name].make
    params, grads = {"w": jnp.asarray([1.0, -2.0])}, {"w": jnp.asarray([30.0, 40.0])}
    tx, plain = chain(clip_by_global_norm(1.0), make()), make()
    updates, (_, state) = tx.update(grads, tx.init(params), params)
    small = {"w": grads["w"] / 50}
    expected, other = plain.update(small, plain.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        optx_aliases.lbfgs,
        lambda: chain(optx_aliases.sgd(1.0), optx_aliases.scale_by_backtracking_linesearch(15)),
        lambda: optx_aliases.polyak_sgd(scaling=0.5),
        lambda: optx_aliases.sam(
            optx_aliases.sgd(0.1), optx_aliases.sgd(0.05), opaque_mode=True, sync_period=3
        ),
    ],
    ids=["lbfgs", "backtracking", "polyak", "sam"],
)
def test_what_evaluates_the_loss_moves_its_part_with_the_others_as_they_are(make):
    params = {"mine": jnp.asarray([1.0, 2.0]), "other": {"b": jnp.asarray([3.0]), "n": None}}

    def loss(p):
        return jnp.sum(p["mine"] ** 2) + jnp.sum((p["other"]["b"] - p["mine"][0] ** 2) ** 2)

    def train(tx, params, loss):
        def step(carry, _):
            p, state = carry
            value, grads = jax.value_and_grad(loss)(p)
            given = {"value": value, "grad": grads, "value_fn": loss}
            given["grad_fn"] = lambda p, _: jax.grad(loss)(p)
            updates, state = tx.update(grads, state, p, **given)
            return (apply_updates(p, updates), state), None

        run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), length=5)[0][0])
        return run(params)

    parts = {"mine": make(), "rest": set_to_zero()}
    together = train(partition(parts, {"mine": "mine", "other": "rest"}), params, loss)
    alone = train(make(), params["mine"], lambda mine: loss({**params, "mine": mine}))
    np.testing.assert_allclose(together["mine"], alone, rtol=1e-6)
    assert np.abs(alone - params["mine"]).max() > 0.1
    np.testing.assert_array_equal(together["other"]["b"], params["other"]["b"])
