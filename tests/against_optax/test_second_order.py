"""The seed's three functions against optax's, on the same batch loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import optx_second_order as so


def problem():
    rng = np.random.default_rng(0)
    params = {
        "w": jnp.asarray(rng.normal(size=(5, 4)), jnp.float32),
        "t": [jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), jnp.zeros(3)],
    }
    x = jnp.asarray(rng.normal(size=(8, 5)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 3, 8))

    def loss(params, inputs, targets):
        logits = jnp.tanh(inputs @ params["w"]) @ params["t"][0] + params["t"][1][None]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets))

    return loss, params, x, y


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_flat_functions_have_optaxs_values():
    loss, params, x, y = problem()
    v = jnp.cos(ravel_pytree(params)[0])
    theirs = optax.second_order
    for ours, wanted in (
        (so.hvp(loss, v, params, x, y), theirs.hvp(loss, v, params, x, y)),
        (so.hessian_diag(loss, params, x, y), theirs.hessian_diag(loss, params, x, y)),
        (so.fisher_diag(loss, params, x, y), theirs.fisher_diag(loss, params, x, y)),
    ):
        same = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6, strict=True)
        jax.tree.map(same, ours, wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exact_diagonal_has_optaxs_values():
    loss, params, x, y = problem()
    each = lambda p, x, y: loss(p, x[None], y[None])
    ours = jax.jit(lambda p: so.exact_hessian_diag(each, p, x, y))(params)
    wanted = optax.second_order.hessian_diag(loss, params, x, y)
    np.testing.assert_allclose(ravel_pytree(ours)[0], wanted, rtol=2e-5, atol=1e-6)


def test_an_estimator_serves_optaxs_sophia():
    loss, params, x, y = problem()
    # optax passes extra arguments on only to its own class
    estimator = optax.GradientTransformationExtraArgs(*so.hutchinson_estimator())
    tx = optax.contrib.sophia(0.1, hessian_diagonal_fn=estimator, update_interval=1)
    state = tx.init(params)
    of = lambda p: loss(p, x, y)
    start = float(of(params))

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(of)(params), state, params, obj_fn=of)
        return optax.apply_updates(params, updates), state

    for _ in range(20):
        params, state = step(params, state)
    assert float(of(params)) < start
