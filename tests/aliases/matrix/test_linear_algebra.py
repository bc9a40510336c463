"""Power iteration and inverse roots of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_aliases import matrix_inverse_pth_root, power_iteration


@pytest.mark.parametrize("eigenvalues", [[1.0, 2.0, 5.0], [-4.0, 1.0, 2.0], [0.0, 0.0, 0.0], [3.0]])
def test_power_iteration_finds_the_eigenvalue_of_largest_size(eigenvalues):
    n = len(eigenvalues)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    a = jnp.asarray(q @ np.diag(eigenvalues) @ q.T, jnp.float32)
    value, vector = power_iteration(a, num_iters=500)
    expected = max(eigenvalues, key=abs)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(a @ vector, expected * vector, atol=5e-3)
    by_function, _ = power_iteration(lambda v: {"v": a @ v["v"]}, v0={"v": jnp.ones(n)}, num_iters=500,
                                     key=jax.random.key(2))  # fmt: skip
    np.testing.assert_allclose(by_function, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="needs v0"):
        power_iteration(lambda v: v)


@pytest.mark.parametrize("p", [1, 2, 4, 8])
def test_the_inverse_root_is_that_of_the_eigenvalues(p):
    eigenvalues = np.array([0.05, 1.0, 7.0, 30.0])
    q, _ = np.linalg.qr(np.random.default_rng(p).normal(size=(4, 4)))
    a = jnp.asarray(q @ np.diag(eigenvalues) @ q.T, jnp.float32)
    root, error = matrix_inverse_pth_root(a, p, ridge_epsilon=0.0)
    np.testing.assert_allclose(root, q @ np.diag(eigenvalues ** (-1 / p)) @ q.T, atol=2e-2 / p)
    assert error < 1e-3
    for shape in ((2, 3), (4,)):
        with pytest.raises(ValueError, match="not square"):
            matrix_inverse_pth_root(jnp.ones(shape), 2)
    with pytest.raises(TypeError, match="must be real, not complex64"):
        matrix_inverse_pth_root(jnp.eye(2, dtype=jnp.complex64), 2)


@pytest.mark.parametrize("n", [1, 3])
def test_the_inverse_root_of_zeros_is_finite(n):
    root, error = matrix_inverse_pth_root(jnp.zeros((n, n)), 4)
    np.testing.assert_allclose(root, 1e3 * np.eye(n), rtol=1e-3)
    assert error < 1e-3
