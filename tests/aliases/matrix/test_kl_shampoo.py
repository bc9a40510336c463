"""KL-Shampoo: what is special to it."""

import jax
import jax.numpy as jnp
import numpy as np

from optx_aliases import scale_by_adam, scale_by_kl_shampoo


def test_the_two_factors_are_those_of_a_gradient_with_such_a_covariance_and_whiten_it():
    rng = np.random.default_rng(0)
    A, B = (np.linalg.cholesky(np.cov(rng.normal(size=(n, 2 * n)))) for n in (4, 3))
    grads = jnp.asarray(A @ rng.normal(size=(2000, 4, 3)) @ B.T, jnp.float32)
    tx = scale_by_kl_shampoo(b1=0.0, b2=0.995)

    def step(state, g):
        u, state = tx.update(g, state)
        return state, u

    state, updates = jax.jit(lambda grads: jax.lax.scan(step, tx.init(grads[0]), grads))(grads)
    made = np.kron(state.left[0], state.right[0])
    expected = np.kron(A @ A.T, B @ B.T)
    assert np.linalg.norm(made - expected) < 0.2 * np.linalg.norm(expected)
    last = np.asarray(updates[500:]).reshape(-1, 12)
    np.testing.assert_allclose(last.T @ last / len(last), np.eye(12), atol=0.2)


def test_one_side_alone_is_whitened_where_the_other_one_is_too_long():
    g = jnp.diag(jnp.array([4.0, 1.0, 0.5]))[:2]
    tx = scale_by_kl_shampoo(b2=0.5, initial=1.0, max_precond_dim=2)
    u, state = tx.update(g, tx.init(g))
    assert state.right.shape == (1,)
    expected = np.array([4.0, 1.0]) / np.sqrt(0.5 + 0.5 / 3 * np.array([16.0, 1.0]))
    np.testing.assert_allclose(np.diag(u[:, :2]), expected, rtol=1e-6)


def test_leaves_without_sides_are_adams():
    g = {"vector": jnp.array([1.0, -2.0]), "long": jnp.array([[3.0, 1.0, 2.0]])}
    tx, adam = scale_by_kl_shampoo(0.9, 0.95, max_precond_dim=2), scale_by_adam(0.9, 0.95)
    u, state = tx.update(g, tx.init(g))
    expected, _ = adam.update(g, adam.init(g))
    for name, x in u.items():
        np.testing.assert_allclose(x, expected[name], rtol=1e-6)
        assert state.nu[name].shape == x.shape
