"""CAME: factored moments of matrices."""

import jax
import jax.numpy as jnp
import numpy as np

import optx_aliases


def test_came_keeps_rows_and_columns_of_matrices_and_all_of_vectors():
    params = {"w": jnp.ones((2, 3, 4)), "b": jnp.ones(5), "e": jnp.ones((0, 3))}
    state = optx_aliases.scale_by_came().init(params)
    shapes = jax.tree.map(jnp.shape, state)
    assert (shapes.v_row["w"], shapes.v_col["w"], shapes.v["w"]) == ((2, 3), (2, 4), (1,))
    assert (shapes.v_row["b"], shapes.v["b"]) == ((1,), (5,))


def test_came_steps_along_vectors_as_its_mean_of_normalized_gradients(x64):
    tx, g = optx_aliases.scale_by_came(), jnp.asarray([3.0, -4.0])
    state = tx.init(g)
    m = v = np.zeros(2)
    for k in range(4):
        grads = (1 + k) * np.asarray(g)
        v = 0.999 * v + 0.001 * grads**2
        u = grads / np.sqrt(v)
        u = u / max(1, np.sqrt(np.mean(u * u)))
        m = 0.9 * m + 0.1 * u
        updates, state = tx.update(jnp.asarray(grads), state)
    np.testing.assert_allclose(updates, m, rtol=1e-10)
