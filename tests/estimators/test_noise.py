"""Noises: their margins, their balance, what they gain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

import optx_estimators as oe
from optx_estimators._sobol import direction_numbers, sobol_bits

NOISES = [oe.iid(), oe.antithetic(), oe.orthogonal(), oe.sobol(), oe.lattice(), oe.lattice(False)]


def drawn(jit, noise, n, dim, seed=0):
    """One set of rows."""
    rows = jit(lambda key: noise.uniforms(key, n, dim, jnp.float32))(jax.random.key(seed))
    return np.asarray(rows)


@pytest.mark.parametrize("n", [1, 2, 100, 512])
def test_unscrambled_points_are_those_of_joe_and_kuo(jit, n):
    points = np.asarray(jit(lambda v: sobol_bits(n, v))(direction_numbers())) / 2.0**32
    expected = qmc.Sobol(257, scramble=False, bits=32).random(512)[:n]
    np.testing.assert_array_equal(points, expected)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_is_uniform_and_inside_the_open_cube(x64, jit, noise, dtype):
    rows = lambda seed: noise.uniforms(jax.random.key(seed), 8, 5, jnp.dtype(dtype))
    u = np.asarray(jit(jax.vmap(rows))(np.arange(500)))
    assert u.dtype == dtype
    assert 0 < u.min() < u.max() < 1
    for row in u.transpose(1, 2, 0).reshape(40, 500):
        counts = np.histogram(row, 10, (0, 1))[0]
        assert np.sum((counts - 50) ** 2 / 50) < 40  # χ² of 9 degrees, p < 1e-5


def test_no_row_of_float32_is_rounded_to_an_end(jit):
    from optx_estimators._noise import open_unit

    ends = np.array([0, 2**32 - 1], np.uint32)
    low, high = np.asarray(jit(lambda bits: open_unit(bits, jnp.float32))(ends))
    assert 0 < low < high < 1


@pytest.mark.parametrize("dim", [1, 7, 300])
def test_scrambled_points_stay_balanced_in_every_coordinate(jit, dim):
    cells = np.sort(np.floor(drawn(jit, oe.sobol(), 64, dim, 3) * 64).astype(int), axis=0)
    np.testing.assert_array_equal(cells, np.tile(np.arange(64)[:, None], (1, dim)))


def test_scrambled_pairs_of_coordinates_are_nets(jit):
    u = drawn(jit, oe.sobol(), 64, 2, 3)
    for bits in range(7):
        cells = np.floor(u * [2**bits, 2 ** (6 - bits)])
        assert len({tuple(c) for c in cells}) == 64


def test_scrambling_gains_what_scipys_does(jit):
    def means(points):
        return np.mean(np.prod(1 + (points - 0.5) * [1.0, 0.8, 0.5, 0.3], axis=-1), axis=-1)

    rows = lambda seed: oe.sobol().uniforms(jax.random.key(seed), 256, 4, jnp.float32)
    ours = means(np.asarray(jit(jax.vmap(rows))(np.arange(400)), np.float64))
    theirs = means(np.stack([qmc.Sobol(4, seed=s).random(256) for s in range(400)]))
    assert ours.std() < 1.3 * theirs.std()


@pytest.mark.parametrize("n", [1, 2, 3, 48, 128, 1000])
def test_a_lattice_has_equal_steps_in_every_coordinate(jit, n):
    u = drawn(jit, oe.lattice(fold=False), n, 3)
    for column in np.sort(u, axis=0).T:
        steps = np.diff(np.concatenate([column, column[:1] + 1]))
        np.testing.assert_allclose(steps, 1 / n, atol=1e-5)


def test_orthogonal_rows_are_orthogonal_with_normal_lengths(jit):
    from scipy.special import ndtri

    z = ndtri(drawn(jit, oe.orthogonal(), 12, 6).astype(np.float64))
    for block in (z[:6], z[6:]):
        gram = block @ block.T
        np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-3)


@pytest.mark.parametrize("dist", [oe.Normal, oe.Laplace, oe.Cauchy, oe.Logistic, oe.Gumbel])
def test_antithetic_pairs_are_pairs_of_levels(jit, dist):
    e = oe.estimator(lambda x: x, lambda m: dist(m), method=oe.pathwise(), noise=oe.antithetic())

    def run(m, key):
        z = e.draw(m, key, 6)
        return z, e.gradients(m, z)

    z, gradients = jit(run)(np.float32(0), jax.random.key(0))
    if dist is not oe.Gumbel:
        np.testing.assert_allclose(z[0::2], -z[1::2], rtol=1e-4, atol=1e-4)
    assert gradients.shape == (3,)


@functools.cache
def variance_on_a_smooth_problem(jit, noise):
    @jit
    @jax.vmap
    def grads(seed):
        def loss(m):
            return oe.expectation(
                lambda x: jnp.sum(jax.nn.softplus(x)),
                lambda m: oe.Normal(m, 1.0),
                m,
                jax.random.key(seed),
                256,
                method=oe.pathwise(),
                noise=noise,
            )

        return jax.grad(loss)(jnp.zeros(4))

    return np.sum(np.var(grads(np.arange(100)), axis=0))


@pytest.mark.parametrize("noise", [oe.sobol(), oe.lattice()], ids=repr)
def test_quasi_random_noise_beats_independent_noise_on_a_smooth_problem(jit, noise):
    independent = variance_on_a_smooth_problem(jit, oe.iid())
    assert variance_on_a_smooth_problem(jit, noise) < independent / 20
