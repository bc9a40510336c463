"""Noises: their margins, their balance, what they gain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import qmc

import optx_estimators as oe
from optx_estimators._sobol import direction_numbers, sobol_bits

NOISES = [oe.iid(), oe.antithetic(), oe.orthogonal(), oe.sobol(), oe.lattice(), oe.lattice(False)]


@pytest.mark.parametrize("n", [1, 2, 100, 512])
def test_unscrambled_points_are_those_of_joe_and_kuo(n):
    points = np.asarray(sobol_bits(n, jnp.asarray(direction_numbers()))) / 2.0**32
    expected = qmc.Sobol(257, scramble=False, bits=32).random(512)[:n]
    np.testing.assert_array_equal(points, expected)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_is_uniform_and_inside_the_open_cube(x64, noise, dtype):
    u = jax.jit(jax.vmap(lambda k: noise.uniforms(k, 8, 5, jnp.dtype(dtype))))(
        jax.random.split(jax.random.key(0), 500)
    )
    u = np.asarray(u)
    assert u.dtype == dtype
    assert 0 < u.min() < u.max() < 1
    for row in u.transpose(1, 2, 0).reshape(40, 500):
        counts = np.histogram(row, 10, (0, 1))[0]
        assert np.sum((counts - 50) ** 2 / 50) < 40  # χ² of 9 degrees, p < 1e-5


def test_no_row_of_float32_is_rounded_to_an_end():
    from optx_estimators._noise import open_unit

    u = open_unit(jnp.array([0, 2**32 - 1], jnp.uint32), jnp.float32)
    assert 0 < float(u[0]) < float(u[1]) < 1


@pytest.mark.parametrize("dim", [1, 7, 300])
def test_scrambled_points_stay_balanced_in_every_coordinate(dim):
    u = oe.sobol().uniforms(jax.random.key(3), 64, dim, jnp.float32)
    cells = np.sort(np.floor(np.asarray(u) * 64).astype(int), axis=0)
    np.testing.assert_array_equal(cells, np.tile(np.arange(64)[:, None], (1, dim)))


def test_scrambled_pairs_of_coordinates_are_nets():
    u = np.asarray(oe.sobol().uniforms(jax.random.key(3), 64, 2, jnp.float32))
    for bits in range(7):
        cells = np.floor(u * [2**bits, 2 ** (6 - bits)])
        assert len({tuple(c) for c in cells}) == 64


def test_scrambling_gains_what_scipys_does():
    def f(u):
        return jnp.prod(1 + (u - 0.5) * jnp.array([1.0, 0.8, 0.5, 0.3]))

    run = jax.jit(
        jax.vmap(lambda k: jnp.mean(jax.vmap(f)(oe.sobol().uniforms(k, 256, 4, jnp.float32))))
    )
    ours = np.asarray(run(jax.random.split(jax.random.key(0), 400))).std()
    theirs = np.std(
        [
            float(np.mean(np.prod(1 + (u - 0.5) * [1.0, 0.8, 0.5, 0.3], axis=1)))
            for u in (qmc.Sobol(4, seed=s).random(256) for s in range(400))
        ]
    )
    assert ours < 1.3 * theirs


@pytest.mark.parametrize("n", [1, 2, 3, 48, 128, 1000])
def test_a_lattice_has_equal_steps_in_every_coordinate(n):
    u = np.asarray(oe.lattice(fold=False).uniforms(jax.random.key(0), n, 3, jnp.float32))
    for column in np.sort(u, axis=0).T:
        steps = np.diff(np.concatenate([column, column[:1] + 1]))
        np.testing.assert_allclose(steps, 1 / n, atol=1e-5)


def test_orthogonal_rows_are_orthogonal_with_normal_lengths():
    from scipy.special import ndtri

    u = oe.orthogonal().uniforms(jax.random.key(0), 12, 6, jnp.float32)
    z = ndtri(np.asarray(u, np.float64))
    for block in (z[:6], z[6:]):
        gram = block @ block.T
        np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0, atol=1e-3)


@pytest.mark.parametrize("dist", [oe.Normal, oe.Laplace, oe.Cauchy, oe.Logistic, oe.Gumbel])
def test_antithetic_pairs_are_pairs_of_levels(dist):
    e = oe.estimator(lambda x: x, lambda m: dist(m), method=oe.pathwise(), noise=oe.antithetic())
    z = e.draw(jnp.zeros(()), jax.random.key(0), 6)
    if dist is not oe.Gumbel:
        np.testing.assert_allclose(z[0::2], -z[1::2], rtol=1e-4, atol=1e-4)
    assert e.gradients(jnp.zeros(()), z).shape == (3,)


@pytest.mark.parametrize("noise", [oe.sobol(), oe.lattice()], ids=repr)
def test_quasi_random_noise_beats_independent_noise_on_a_smooth_problem(noise):
    def variance(noise):
        def grad(k):
            return jax.grad(
                lambda m: oe.expectation(
                    lambda x: jnp.sum(jax.nn.softplus(x)),
                    lambda m: oe.Normal(m, 1.0),
                    m,
                    k,
                    256,
                    method=oe.pathwise(),
                    noise=noise,
                )
            )(jnp.zeros(4))

        g = jax.jit(jax.vmap(grad))(jax.random.split(jax.random.key(0), 100))
        return float(jnp.sum(jnp.var(g, axis=0)))

    assert variance(noise) < variance(oe.iid()) / 20
