"""Noisy SGD: the distribution and the bits of its noise."""

import jax
import jax.numpy as jnp
import numpy as np

import optx_aliases as a


def test_the_noise_of_noisy_sgd_is_normal_and_differs_by_entry_leaf_and_step():
    tx = a.noisy_sgd(1.0, eta=0.04, gamma=1.0, key=5)
    params = {
        "a": jnp.zeros((100, 200)),
        "b": jnp.zeros(20000),
        "c": jnp.zeros(20000, jnp.complex64),
    }
    state, drawn = tx.init(params), []
    for _ in range(2):
        updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state)
        drawn += [np.ravel(updates["a"]), np.ravel(updates["b"])]
        whole = np.asarray(updates["c"])
    for k, x in enumerate(drawn):
        deviation = 0.2 / np.sqrt(1 + k // 2)
        assert abs(x.mean()) < 4 * deviation / np.sqrt(x.size)
        np.testing.assert_allclose(x.std(), deviation, rtol=0.03)
        normal = x / deviation
        np.testing.assert_allclose((normal**4).mean(), 3.0, rtol=0.1)
        np.testing.assert_allclose((np.abs(normal) < 1).mean(), 0.6827, atol=0.015)
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.03
        assert len(np.unique(x)) > 0.95 * x.size
    correlations = np.corrcoef(drawn) - np.eye(4)
    assert np.abs(correlations).max() < 0.03
    np.testing.assert_allclose((np.abs(whole) ** 2).mean(), 0.02, rtol=0.05)
    assert abs(np.corrcoef(whole.real, whole.imag)[0, 1]) < 0.03


def test_the_bits_of_noisy_sgd_are_those_of_threefry():
    from optx_aliases._elementwise.noisy_sgd import _threefry

    seed = jnp.asarray([0x13198A2E, 0x03707344], jnp.uint32)
    from jax.extend.random import threefry_2x32

    expected = threefry_2x32(seed, jnp.asarray([5, 6, 0, 0], jnp.uint32))
    made = _threefry(seed, jnp.asarray([5, 6], jnp.uint32))
    np.testing.assert_array_equal(jnp.concatenate(made), expected)
