"""Workers that agree every H steps, against a transcription of the paper."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_core import apply_updates, chain, diloco, partition, scale, trace

H, STEPS = 4, 10
TARGETS = {"a": np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 2.0]]), "b": np.array([2.0, 0.0, -4.0])}
WORKERS = 3
START = {"a": np.zeros(2), "b": np.zeros(())}


def inner():
    return chain(trace(0.5), scale(-0.1))


def outer():
    return chain(trace(0.9, nesterov=True), scale(-0.7))


def transcription(offsets):
    """arXiv:2311.08105, algorithm 1; each part agrees by its own clock, as in arXiv:2501.18512."""
    path = []
    theta = {k: np.array([START[k]] * WORKERS) for k in START}
    anchor, m = dict(START), {k: np.zeros_like(theta[k]) for k in START}
    v = {k: np.zeros_like(START[k]) for k in START}
    for t in range(1, STEPS + 1):
        for k in START:
            g = theta[k] - TARGETS[k]
            m[k] = 0.5 * m[k] + g
            theta[k] = theta[k] - 0.1 * m[k]
            if (t + offsets[k]) % H == 0:
                delta = np.mean(anchor[k] - theta[k], 0)
                v[k] = 0.9 * v[k] + delta
                anchor[k] = anchor[k] - 0.7 * (0.9 * v[k] + delta)
                theta[k] = np.array([anchor[k]] * WORKERS)
        path.append({k: x.copy() for k, x in theta.items()})
    return path


def trained(tx, transform):
    """The parameters of all workers after each step."""

    def train(targets):
        def step(carry, _):
            params, state = carry
            grads = jax.tree.map(lambda p, t: p - t, params, targets)
            updates, state = tx.update(grads, state, params)
            params = apply_updates(params, updates)
            return (params, state), params

        params = jax.tree.map(lambda s, t: jnp.zeros_like(t) + s, START, targets)
        return jax.lax.scan(step, (params, tx.init(params)), length=STEPS)[1]

    return jax.jit(transform(train))(TARGETS)


def by_vmap(train):
    return jax.vmap(train, axis_name="workers", out_axes=1)


def compare(ours, expected, rtol=1e-12):
    for k in START:
        want = [step[k] for step in expected]
        np.testing.assert_allclose(ours[k], want, rtol, atol=1e-14)


@pytest.mark.parametrize(
    ("fragments", "offsets"),
    [
        (1, {"a": 0, "b": 0}),
        (2, {"a": 0, "b": 2}),
        (lambda params: {"a": 1, "b": 0}, {"a": 2, "b": 0}),
    ],
)
@pytest.mark.usefixtures("x64")
def test_workers_move_as_in_the_papers(fragments, offsets):
    tx = diloco(inner(), outer(), H, axis_name="workers", fragments=fragments)
    compare(trained(tx, by_vmap), transcription(offsets))


@pytest.mark.usefixtures("x64")
def test_outer_gradients_are_sent_in_low_precision():
    tx = diloco(inner(), outer(), H, axis_name="workers", outer_dtype=jnp.bfloat16)
    ours = trained(tx, by_vmap)
    compare(ours, transcription({"a": 0, "b": 0}), rtol=0.05)
    with pytest.raises(AssertionError):
        compare(ours, transcription({"a": 0, "b": 0}), rtol=1e-4)


def test_one_worker_needs_no_axis_and_a_missing_gradient_leaves_its_array_alone():
    tx = diloco(scale(-1.0), scale(-0.5), 1)
    params = {"a": jnp.ones(2), "b": jnp.ones(())}
    updates, state = tx.update({"a": jnp.ones(2), "b": None}, tx.init(params), params)
    np.testing.assert_array_equal(updates["a"], [-0.5, -0.5])
    assert updates["b"] is None
    np.testing.assert_array_equal(state.anchor["a"], [0.5, 0.5])
    np.testing.assert_array_equal(state.anchor["b"], 1.0)


def test_a_fragment_need_not_have_every_label_of_the_outer_optimizer():
    groups = partition({"all": outer(), "numbers": outer()}, {"a": "all", "b": "numbers"})
    made = trained(diloco(inner(), groups, H, fragments=2, axis_name="workers"), by_vmap)
    expected = trained(diloco(inner(), outer(), H, fragments=2, axis_name="workers"), by_vmap)
    chex.assert_trees_all_equal(made, expected)


def test_mistakes_are_errors():
    with pytest.raises(ValueError, match="sync_every must be a positive int, not 0"):
        diloco(inner(), outer(), 0)
    with pytest.raises(ValueError, match="3 fragments need as many steps; sync_every=2"):
        diloco(inner(), outer(), 2, fragments=3)
    with pytest.raises(ValueError, match=r"fragments must return ints from 0 to 1.*not 'a'"):
        diloco(inner(), outer(), 2, fragments=lambda params: "a").init(jnp.ones(2))
    with pytest.raises(TypeError, match="outer_dtype must be a floating-point dtype, not int8"):
        diloco(inner(), outer(), 2, outer_dtype="int8")
