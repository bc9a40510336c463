"""ELBO, the importance-weighted bound, implicit reparameterization, higher orders, 1,000 seeds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import optx_estimators as oe
from optx_estimators._iwae import iwae_from_noise

X = 1.0


def log_joint(z):
    """z ~ N(0, 1), x | z ~ N(z, 1); the posterior is N(x/2, 1/2)."""
    return oe.Normal(0.0, 1.0).log_prob(z) + oe.Normal(z, 1.0).log_prob(jnp.full_like(z, X))


def guide(p):
    return oe.Normal(p["m"], jnp.exp(p["log_s"]))


@functools.cache
def elbo_estimator(method):
    f = oe.elbo_integrand(log_joint, guide, method=method)
    return oe.estimator(f, guide, method=method, with_params=True)


def elbo_moments(quadrature, method, m, s):
    z, w = quadrature.gauss(14)
    p = {"m": np.array(m), "log_s": np.log(s)}
    e = elbo_estimator(method)
    return quadrature.moments(e, p, z[:, 0], w)


@pytest.mark.parametrize("point", [(0.5, np.sqrt(0.5)), (0.2, 0.9)], ids=["posterior", "off"])
@pytest.mark.parametrize("method", [oe.pathwise(), oe.pathwise(True), oe.score_function()])
def test_the_elbo_has_the_moments_of_the_table(x64, quadrature, method, point):
    m, s = point
    mean, var = elbo_moments(quadrature, method, m, s)
    np.testing.assert_allclose(mean["m"], X - 2 * m, atol=1e-12)
    np.testing.assert_allclose(mean["log_s"], 1 - 2 * s**2, atol=1e-12)
    if method == oe.pathwise():
        expected = 4 * s**2, (X - 2 * m) ** 2 * s**2 + 8 * s**4
    elif method == oe.pathwise(True):
        expected = (
            s**2 * (2 - 1 / s**2) ** 2,
            (X - 2 * m) ** 2 * s**2 + 2 * (1 - 2 * s**2) ** 2,
        )
    else:
        return
    np.testing.assert_allclose([var["m"], var["log_s"]], expected, atol=1e-10)


@pytest.mark.parametrize("method", [oe.pathwise(), oe.score_function()], ids=repr)
def test_second_derivatives_of_the_elbo_are_exact(x64, quadrature, jit, method):
    e = elbo_estimator(method)
    z, w = quadrature.gauss(20)
    p = {"m": np.array(0.2), "log_s": np.log(0.9)}
    rows = jit(jax.vmap(jax.hessian(lambda p, z: e.estimate(p, z[None])), (None, 0)))(p, z[:, 0])
    hessian = jax.tree.map(lambda r: np.tensordot(w, np.asarray(r), 1), rows)
    np.testing.assert_allclose(hessian["m"]["m"], -2.0, rtol=1e-9)
    np.testing.assert_allclose(hessian["m"]["log_s"], 0.0, atol=1e-9)
    np.testing.assert_allclose(hessian["log_s"]["log_s"], -4 * 0.81, rtol=1e-9)


PARTICLES = {"m": np.array(0.2), "log_s": np.log(0.9)}


@functools.cache
def slope_of_the_bound(quadrature, jit):
    """The derivative of the expected bound of two particles, by differences."""
    z, w = quadrature.gauss(40, 2)
    h = 1e-4

    @jit
    def bounds(p):
        return jax.vmap(lambda z: iwae_from_noise(log_joint, guide, p, z, gradient="pathwise"))(z)

    def expected(name, by):
        return w @ np.asarray(bounds({**PARTICLES, name: PARTICLES[name] + by}))

    return {name: (expected(name, h) - expected(name, -h)) / (2 * h) for name in PARTICLES}


@pytest.mark.parametrize("gradient", ["dregs", "pathwise", "score", "vimco"])
def test_the_importance_weighted_gradients_agree(x64, quadrature, jit, gradient):
    """Two particles, on a grid of both noises."""
    z, w = quadrature.gauss(40, 2)

    def bound(p, noise):
        return iwae_from_noise(log_joint, guide, p, noise, gradient=gradient)

    rows = jit(jax.vmap(jax.grad(bound), (None, 0)))(PARTICLES, z)
    truth = slope_of_the_bound(quadrature, jit)
    for name, row in rows.items():
        np.testing.assert_allclose(w @ np.asarray(row), truth[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gradient", ["dregs", "pathwise"])
def test_the_signal_of_dregs_grows_and_that_of_pathwise_falls(jit, gradient):
    @jit
    def snr_of_many_and_of_one():
        def snr(K):
            def one(z):
                return jax.grad(
                    lambda m: iwae_from_noise(
                        log_joint, lambda m: oe.Normal(m, 0.9), m, z, gradient=gradient
                    )
                )(0.2)

            g = jax.vmap(one)(noise[:, :K])
            return jnp.abs(jnp.mean(g)) / jnp.std(g)

        noise = jax.random.normal(jax.random.key(0), (20_000, 16))
        return snr(16), snr(1)

    many, one = snr_of_many_and_of_one()
    assert (many > 2 * one) if gradient == "dregs" else (many < one)


def test_model_parameters_get_their_gradient_from_every_bound(jit):
    def joint(z, p):
        return oe.Normal(0.0, 1.0).log_prob(z) + oe.Normal(z + p["b"], 1.0).log_prob(jnp.ones(()))

    def guide(p):
        return oe.Normal(p["m"], 0.7)

    gradients = ("dregs", "pathwise", "score", "vimco")

    @jit
    @jax.vmap
    def grads(seed):
        p = {"m": jnp.float32(0.2), "b": jnp.float32(0.5)}

        def bound(p, gradient):
            key = jax.random.key(seed)
            return oe.iwae(joint, guide, p, key, 3, gradient=gradient, with_params=True)

        return [jax.grad(bound)(p, gradient)["b"] for gradient in gradients]

    rows = np.stack(grads(np.arange(8000)))
    mean, error = rows.mean(1), rows.std(1) / np.sqrt(8000)
    reference = gradients.index("pathwise")
    assert np.all(abs(mean - mean[reference]) <= 5 * np.hypot(error, error[reference]))


IMPLICIT = [
    ("E log x, a = 0.5", oe.Gamma, 0.5, lambda a: special.polygamma(1, a)),
    ("E log x, a = 2", oe.Gamma, 2.0, lambda a: special.polygamma(1, a)),
    ("E log x, a = 0.01", oe.Gamma, 0.01, lambda a: special.polygamma(1, a)),
    ("E log x, a = 0.001", oe.Gamma, 0.001, lambda a: special.polygamma(1, a)),
]


@functools.cache
def rows_of_log_gamma(jit):
    return jit(
        lambda a: oe.per_sample_grads(
            lambda y: y,
            lambda a: oe.Gamma(a, 1.0, log_space=True),
            a,
            jax.random.key(0),
            10_000,
            method=oe.pathwise(),
        )
    )


@pytest.mark.parametrize("a", [0.5, 2.0, 0.01, 0.001])
def test_gamma_moves_with_its_concentration_even_where_it_underflows(jit, a):
    """The derivative of E log x is ψ′(a)."""
    rows = np.asarray(rows_of_log_gamma(jit)(np.float32(a)), np.float64)
    assert np.all(np.isfinite(rows))
    assert abs(rows.mean() - special.polygamma(1, a)) < 5 * rows.std() / np.sqrt(len(rows))


def test_beta_and_dirichlet_have_the_derivatives_of_the_table(jit):
    a, b, N = 0.3, 2.0, 10_000
    of_squares = oe.estimator(lambda x: jnp.sum(x**2), oe.Dirichlet, method=oe.pathwise())
    mean = oe.estimator(lambda x: x, lambda a: oe.Beta(a, b), method=oe.pathwise())

    @jit
    def rows(a, alpha, key):
        y = of_squares.draw(alpha, key, N)
        # the first and the last of these are what a Beta is drawn from
        assert y[:, ::2].shape == jax.eval_shape(lambda: mean.draw(a, key, N)).shape
        return mean.gradients(a, y[:, ::2]), of_squares.gradients(alpha, y)

    alpha = np.array([a, 1.0, b], np.float32)
    beta, dirichlet = rows(np.float32(a), alpha, jax.random.key(1))
    assert abs(np.mean(beta) - b / (a + b) ** 2) < 5 * np.std(beta) / np.sqrt(N)
    dirichlet = np.asarray(dirichlet, np.float64)
    truth = np.array([-0.20391735, -0.10525633, 0.035688])
    assert np.all(abs(dirichlet.mean(0) - truth) < 5 * dirichlet.std(0) / np.sqrt(N))


ORDERS = [(1, 3 * 1.44 + 3), (2, 6 * 1.2), (3, 6.0)]


@pytest.mark.parametrize("row", ORDERS, ids=lambda r: f"order {r[0]}")
@pytest.mark.parametrize("K", [1, 2])
def test_the_score_function_is_exact_at_every_order(x64, quadrature, jit, row, K):
    """E x³ at μ = 1.2, σ = 1: derivatives 3μ² + 3, 6μ, 6; with and without leave-one-out."""
    order, truth = row
    z, w = quadrature.gauss(12, K)
    baseline = oe.leave_one_out() if K > 1 else None
    e = oe.estimator(
        lambda x: x**3, lambda m: oe.Normal(m, 1.0), method=oe.score_function(baseline)
    )
    f = e.estimate
    for _ in range(order):
        f = jax.grad(f)
    rows = jit(jax.vmap(f, (None, 0)))(1.2, z)
    np.testing.assert_allclose(w @ np.asarray(rows), truth, rtol=1e-9)


def test_the_second_order_variance_is_that_of_the_table(x64, quadrature, jit):
    z, w = quadrature.gauss(12)
    e = oe.estimator(lambda x: x**2, lambda m: oe.Normal(m, 1.0))
    second = jax.grad(jax.grad(lambda m, z: e.estimate(m, z[None])))
    rows = jit(jax.vmap(second, (None, 0)))(1.0, z[:, 0])
    np.testing.assert_allclose(w @ np.asarray(rows), 2.0, rtol=1e-10)  # a plain surrogate: −2
    np.testing.assert_allclose(w @ np.asarray(rows) ** 2 - 4, 136.0, rtol=1e-9)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("D", [1, 10])
def test_evolution_has_the_variance_of_the_table(x64, jit, baseline, D):
    """f = |x|² about x, noise s: 4|x|² + 4x_i² (+ s²(D + 2)(D + 4) one-sided)."""
    s, x = 0.3, np.linspace(0.2, 1.0, D)
    method = oe.evolution(antithetic=False, baseline="center") if baseline else oe.evolution()
    e = oe.estimator(lambda x: jnp.sum(x**2), lambda m: oe.Normal(m, s), method=method)
    z = np.random.default_rng(0).standard_normal((200_000, D))
    rows = np.asarray(jit(e.gradients)(x, z))
    var = 4 * np.sum(x**2) + 4 * x**2
    var = var + s**2 * (D + 2) * (D + 4) if baseline else var
    np.testing.assert_allclose(rows.var(0), var, rtol=0.05)
    np.testing.assert_allclose(rows.mean(0), 2 * x, atol=5 * np.sqrt(var.max() / 200_000))


def quadratic(x):
    return jnp.sum(x**2) + 0.3 * jnp.sum(x) ** 2


def bernoulli_truth(phi):
    """x² is x, and E (Σx)² = Σθ(1 − θ) + (Σθ)²."""
    theta = special.expit(phi)
    by_theta = 1 + 0.3 * (1 - 2 * theta + 2 * np.sum(theta))
    return by_theta * theta * (1 - theta)


def normal_truth(mu):
    return 2 * mu + 0.6 * np.sum(mu)


RANDOM = [
    (oe.score_function(), oe.iid()),
    (oe.score_function(), oe.antithetic()),
    (oe.score_function(), oe.sobol()),
    (oe.score_function(oe.leave_one_out()), oe.iid()),
    (oe.score_function(oe.optimal_baseline()), oe.iid()),
    (oe.pathwise(), oe.sobol()),
    (oe.pathwise(), oe.lattice()),
    (oe.pathwise(), oe.orthogonal()),
    (oe.measure_valued(), oe.iid()),
    (oe.measure_valued(coupling=False), oe.sobol()),
    (oe.evolution(), oe.iid()),
    (oe.evolution(antithetic=False, baseline=oe.leave_one_out()), oe.iid()),
    (oe.controlled(oe.score_function(), oe.control_delta_method), oe.iid()),
    (oe.arm(), oe.iid()),
    (oe.disarm(), oe.sobol()),
    (oe.rebar(0.7), oe.iid()),
    (oe.relax(lambda w, s: w * jnp.sum(jnp.tanh(s)), np.float32(0.4)), oe.iid()),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("row", RANDOM, ids=lambda r: " ".join(f"{r[0]!r} {r[1]!r}".split()))
def test_a_thousand_seeds_agree_with_the_truth(jit, row):
    method, noise = row
    discrete = method.name in ("arm", "disarm", "rebar", "relax")
    dist_fn = oe.Bernoulli if discrete else (lambda m: oe.Normal(m, 0.8))
    p = np.array([0.3, -0.7, 1.1])
    truth = bernoulli_truth(p) if discrete else normal_truth(p)

    @jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def grads(p, seed):
        key = jax.random.key(seed)
        return jax.grad(
            lambda p: oe.expectation(quadratic, dist_fn, p, key, 8, method=method, noise=noise)
        )(p)

    g = np.asarray(grads(p.astype(np.float32), np.arange(1000)), np.float64)
    rounding = 1e-5  # some of these have no other error left
    z = (g.mean(0) - truth) / (g.std(0) / np.sqrt(1000) + rounding)
    assert np.all(abs(z) < 5), z
