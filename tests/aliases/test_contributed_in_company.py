"""What measures the whole tree, or wraps an optimizer, as one part of a partition and of a chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimizer_rows import contributed

import optx_aliases
from optx_core import apply_updates, chain, clip_by_global_norm, partition

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
    row = contributed.ROWS[name]
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
    make = contributed.ROWS[name].make
    params, grads = {"w": jnp.asarray([1.0, -2.0])}, {"w": jnp.asarray([30.0, 40.0])}
    tx, plain = chain(clip_by_global_norm(1.0), make()), make()
    updates, (_, state) = tx.update(grads, tx.init(params), params)
    small = {"w": grads["w"] / 50}
    expected, other = plain.update(small, plain.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
