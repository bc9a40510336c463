"""Polyak's step size: the formula, its limits, its convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import polyak_sgd, scale_by_polyak
from optx_core import apply_updates

G = {"a": jnp.array([3.0, 4.0]), "b": jnp.asarray(12.0)}  # of norm 13


@pytest.mark.parametrize(
    ("options", "value", "factor"),
    [
        ({}, 16.9, 0.1),
        ({}, 1e6, 1.0),
        ({"f_min": 16.9}, 33.8, 0.1),
        ({"eps": 169.0}, 16.9, 0.05),
        ({"max_learning_rate": 0.05}, 16.9, 0.05),
        ({"max_learning_rate": 0.0}, 16.9, 0.0),
        ({"f_min": 33.8}, 16.9, -0.1),
        ({"f_min": 33.8, "variant": "sps+"}, 16.9, 0.0),
        ({"max_learning_rate": lambda count: 0.07}, 16.9, 0.07),
    ],
)
def test_the_factor_is_that_of_the_paper(options, value, factor):
    tx = scale_by_polyak(**options)
    updates, _ = tx.update(G, tx.init(G), value=value)
    for name, u in updates.items():
        np.testing.assert_allclose(u, factor * G[name], rtol=1e-6)


def test_scaling_multiplies_the_step():
    for scaling in (0.5, 2.0, lambda count: 3.0):
        factor = scaling(0) if callable(scaling) else scaling
        tx = polyak_sgd(scaling=scaling)
        updates, _ = tx.update(G, tx.init(G), G, value=16.9)
        np.testing.assert_allclose(updates["a"], -0.1 * factor * G["a"], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e30])
def test_the_squared_norm_neither_overflows_nor_underflows(size):
    g = jnp.array([size, size])
    tx = scale_by_polyak(max_learning_rate=1e30)
    updates, _ = tx.update(g, tx.init(g), value=1e-3 * size)
    np.testing.assert_allclose(updates, 0.5e-3 * np.ones(2), rtol=1e-5)


def test_zero_gradients_stay_zero_and_a_nan_loss_is_seen():
    tx = scale_by_polyak()
    zero, _ = tx.update(jnp.zeros(2), tx.init(None), value=1.0)
    np.testing.assert_array_equal(zero, 0)
    broken, _ = tx.update(jnp.ones(2), tx.init(None), value=jnp.nan)
    assert bool(jnp.all(jnp.isnan(broken)))


def test_it_interpolates_least_squares_without_a_learning_rate():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)

    def loss(p):
        return jnp.mean((x @ p - x @ w) ** 2)

    tx, p = polyak_sgd(), jnp.zeros(5)

    def step(carry, _):
        p, state = carry
        value, grads = jax.value_and_grad(loss)(p)
        updates, state = tx.update(grads, state, p, value=value)
        return (apply_updates(p, updates), state), None

    (p, _), _ = jax.lax.scan(step, (p, tx.init(p)), length=200)
    assert float(loss(p)) < 1e-6


def test_what_cannot_work_is_refused():
    with pytest.raises(
        ValueError, match=r"scale_by_polyak needs the loss: call update\(grads, state"
    ):
        scale_by_polyak().update(G, scale_by_polyak().init(G))
    with pytest.raises(ValueError, match="variant must be"):
        polyak_sgd(variant="sps-")
    with pytest.raises(ValueError, match="max_learning_rate must be at least 0"):
        polyak_sgd(-0.1)
    with pytest.raises(ValueError, match="one real number"):
        scale_by_polyak().update(G, scale_by_polyak().init(G), value=jnp.ones(2))
