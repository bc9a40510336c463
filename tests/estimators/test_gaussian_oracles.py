"""Every estimator on E (x − k)², x ~ N(μ, σ²): exact expectations and exact variances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optx_estimators import (
    Normal,
    antithetic,
    constant_baseline,
    control_delta_method,
    controlled,
    estimator,
    evolution,
    iid,
    leave_one_out,
    measure_valued,
    pathwise,
    score_function,
)
from optx_estimators._mvd_terms import Row

SETTINGS = [(1.0, 1.0, 0.0), (0.7, 1.5, 0.3), (-2.0, 0.4, 1.0)]


def square(x, p):
    return (x - jax.lax.stop_gradient(p["k"])) ** 2


def normal(p):
    return Normal(p["mu"], p["sigma"])


def params(mu, sigma, k):
    return {"mu": np.array(mu), "sigma": np.array(sigma), "k": np.array(k)}


def make(method, noise=None):
    noise = iid() if noise is None else noise
    return estimator(square, normal, method=method, noise=noise, with_params=True)


def score_mu(m, s):
    return m**4 / s**2 + 14 * m**2 + 15 * s**2


def score_sigma(m, s):
    return 2 * m**4 / s**2 + 60 * m**2 + 74 * s**2


# name, method, noise, base rows per unit, variance for μ, variance for σ, given m = μ − k and σ
ROWS = [
    ("score", score_function(), iid(), score_mu, score_sigma),
    ("pathwise", pathwise(), iid(), lambda m, s: 4 * s**2, lambda m, s: 4 * m**2 + 8 * s**2),
    (
        "antithetic pathwise",
        pathwise(),
        antithetic(),
        lambda m, s: 0.0,
        lambda m, s: 8 * s**2,
    ),
    (
        "antithetic score",
        score_function(),
        antithetic(),
        lambda m, s: 8 * m**2,
        lambda m, s: 2 * m**4 / s**2 + 20 * m**2 + 74 * s**2,
    ),
    (
        "mirrored evolution",
        evolution(),
        iid(),
        lambda m, s: 8 * m**2,
        lambda m, s: 2 * m**4 / s**2 + 20 * m**2 + 74 * s**2,
    ),
    ("one-sided evolution", evolution(antithetic=False), iid(), score_mu, score_sigma),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda r: r[0])
def test_moments_of_one_unit_are_exact(x64, quadrature, row, setting):
    _, method, noise, var_mu, var_sigma = row
    (z, w), p = quadrature.gauss(12), params(*setting)
    z = z[:, 0]
    base = np.stack([z, -z], axis=1).reshape(-1) if noise.unit == 2 else z
    mean, var = quadrature.moments(make(method, noise), p, base, w)
    m, s = setting[0] - setting[2], setting[1]
    np.testing.assert_allclose([mean["mu"], mean["sigma"]], [2 * m, 2 * s], rtol=1e-11)
    expected = [var_mu(m, s), var_sigma(m, s)]
    np.testing.assert_allclose([var["mu"], var["sigma"]], expected, rtol=1e-9, atol=1e-9)
    assert mean["k"] == 0


BASELINES = [
    (
        "b = E f",
        lambda m, s: (m**2 + s**2, m**2 + s**2),
        lambda m, s: (8 * m**2 + 10 * s**2, 40 * m**2 + 56 * s**2),
    ),
    (
        "optimal b",
        lambda m, s: (m**2 + 3 * s**2, m**2 + 5 * s**2),
        lambda m, s: (8 * m**2 + 6 * s**2, 40 * m**2 + 24 * s**2),
    ),
]


def told(b):
    return make(score_function(constant_baseline(b)))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("row", BASELINES, ids=lambda r: r[0])
def test_constant_baselines_have_the_variance_of_the_table(x64, quadrature, row, setting):
    m, s = setting[0] - setting[2], setting[1]
    b_mu, b_sigma = row[1](m, s)
    b = b_mu if b_mu == b_sigma else {"mu": b_mu, "sigma": b_sigma, "k": 0.0}
    z, w = quadrature.gauss(12)
    mean, var = quadrature.moments(told, params(*setting), z[:, 0], w, given=b)
    np.testing.assert_allclose([mean["mu"], mean["sigma"]], [2 * m, 2 * s], rtol=1e-11)
    np.testing.assert_allclose([var["mu"], var["sigma"]], row[2](m, s), rtol=1e-9)


def leave_one_out_variance(m, s, K):
    mu = 12 * m**2 + 10 * s**2 + (4 * m**2 + 2 * s**2) / (K - 1) - 4 * m**2 * (K - 2) / (K - 1)
    sigma = (
        40 * m**2
        + 60 * s**2
        + 2 * (4 * m**2 * s**2 + 2 * s**4) / (s**2 * (K - 1))
        - 4 * s**2 * (K - 2) / (K - 1)
    )
    return mu / K, sigma / K


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("K", [2, 3, 4, 5])
def test_leave_one_out_is_unbiased_with_the_variance_of_the_table(x64, quadrature, K, setting):
    z, w = quadrature.gauss(6, K)  # degree 8 in each
    e = make(score_function(leave_one_out(group=K)))
    mean, var = quadrature.moments(e, params(*setting), z.reshape(-1), w)
    m, s = setting[0] - setting[2], setting[1]
    np.testing.assert_allclose([mean["mu"], mean["sigma"]], [2 * m, 2 * s], rtol=1e-10)
    expected = leave_one_out_variance(m, s, K)
    np.testing.assert_allclose([var["mu"], var["sigma"]], expected, rtol=1e-9)


@pytest.mark.parametrize("K", [2, 4, 8, 16])
def test_leave_one_out_is_the_sample_covariance_of_function_and_score(x64, jit, K):
    z = np.random.default_rng(K).standard_normal(K)
    p = params(0.7, 1.5, 0.3)
    grad = jit(jax.grad(make(score_function(leave_one_out())).estimate))(p, z)
    f = (0.7 + 1.5 * z - 0.3) ** 2
    np.testing.assert_allclose(grad["mu"], np.cov(f, z / 1.5)[0, 1], rtol=1e-12)
    np.testing.assert_allclose(grad["sigma"], np.cov(f, (z**2 - 1) / 1.5)[0, 1], rtol=1e-12)


def polar(quadrature):
    """Noise for the mean (its own exponentials), then for the scale (z and an exponential)."""
    radius, weight = np.polynomial.legendre.leggauss(80)
    radius, weight = 7 * (radius + 1), 7 * weight * np.exp(-0.5 * (7 * (radius + 1)) ** 2)
    return radius, weight


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("coupling", [True, False])
def test_measure_valued_mean_has_the_moments_of_the_table(x64, quadrature, coupling, setting):
    radius, weight = polar(quadrature)
    rayleigh = weight * radius
    rayleigh /= rayleigh.sum()
    e = radius**2 / 2
    if coupling:
        w, exponentials = rayleigh, np.stack([e, e], axis=1)
    else:
        w = np.outer(rayleigh, rayleigh).reshape(-1)
        grid = np.stack(np.meshgrid(e, e, indexing="ij"), axis=-1).reshape(-1, 2)
        exponentials = np.stack([grid[:, 0], np.zeros(len(w)), grid[:, 1]], axis=1)
    zero = np.zeros(len(w))
    estimate = make(measure_valued(coupling))
    noise = Row(zero, zero, exponentials)
    mean, var = quadrature.moments(estimate, params(*setting), noise, w)
    m, s = setting[0] - setting[2], setting[1]
    expected = (16 / np.pi - 4) * m**2
    if not coupling:
        expected = (8 / np.pi - 2) * m**2 + 4 * s**2 / np.pi
    np.testing.assert_allclose(mean["mu"], 2 * m, rtol=1e-9)
    np.testing.assert_allclose(var["mu"], expected, rtol=1e-8)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("coupling", [True, False])
def test_measure_valued_scale_has_the_moments_of_the_table(x64, quadrature, coupling, setting):
    # (z, √(2e)) in polar coordinates: the point further out is at ±radius.
    radius, weight = polar(quadrature)
    angle, v = np.polynomial.legendre.leggauss(20)
    halves = [(np.pi / 4 * (angle + 1) + start, np.pi / 4 * v) for start in (0, np.pi / 2)]
    phi = np.concatenate([a for a, _ in halves])
    u = np.concatenate([b for _, b in halves])
    z = np.outer(radius, np.cos(phi)).reshape(-1)
    r = np.outer(radius, np.sin(phi)).reshape(-1)
    w = np.outer(weight * radius, u).reshape(-1) * r
    w /= w.sum()
    base = z
    if not coupling:
        nodes, hermite = quadrature.gauss(6)
        base = np.repeat(nodes[:, 0], len(z))
        z, r = np.tile(z, len(nodes)), np.tile(r, len(nodes))
        w = np.outer(hermite, w).reshape(-1)
    e = r**2 / 2
    noise = Row(base, z, np.stack([e, e] if coupling else [e, e, e], axis=1))
    mean, var = quadrature.moments(make(measure_valued(coupling)), params(*setting), noise, w)
    m, s = setting[0] - setting[2], setting[1]
    expected = 4 * m**2 + 4 * s**2 if coupling else 16 * m**2 + 8 * s**2
    np.testing.assert_allclose(mean["sigma"], 2 * s, rtol=1e-9)
    np.testing.assert_allclose(var["sigma"], expected, rtol=1e-8)


@pytest.mark.parametrize("method", [score_function(), pathwise()], ids=repr)
@pytest.mark.parametrize("dimension", [2, 3])
def test_variance_in_more_dimensions_is_that_of_the_table(x64, quadrature, method, dimension):
    z, w = quadrature.gauss(7, dimension)
    e = estimator(lambda x: jnp.sum((x - 0.3) ** 2), lambda p: Normal(*p), method=method)
    s, m = 1.5, 0.7
    p = (np.full(dimension, 1.0), np.full(dimension, s))
    mean, var = quadrature.moments(e, p, z, w)
    np.testing.assert_allclose(mean[0], np.full(dimension, 2 * m), rtol=1e-10)
    np.testing.assert_allclose(mean[1], np.full(dimension, 2 * s), rtol=1e-10)
    if method == pathwise():
        expected = 4 * s**2, 4 * m**2 + 8 * s**2
    else:
        E_R = (dimension - 1) * (m**2 + s**2)
        R2 = (dimension - 1) * (4 * m**2 * s**2 + 2 * s**4) + E_R**2
        expected = (
            score_mu(m, s) + R2 / s**2 + 2 * E_R * (m**2 + 3 * s**2) / s**2,
            score_sigma(m, s) + 2 * R2 / s**2 + 2 * E_R * (2 * m**2 + 10 * s**2) / s**2,
        )
    np.testing.assert_allclose(var[0], np.full(dimension, expected[0]), rtol=1e-9)
    np.testing.assert_allclose(var[1], np.full(dimension, expected[1]), rtol=1e-9)


FUNCTIONS = [
    (
        "cos",
        lambda x, p: jnp.cos(1.1 * x),
        lambda m, s: -1.1 * np.sin(1.1 * m) * np.exp(-(1.1**2) * s**2 / 2),
        lambda m, s: -(1.1**2) * s * np.cos(1.1 * m) * np.exp(-(1.1**2) * s**2 / 2),
    ),
    (
        "exp",
        lambda x, p: jnp.exp(0.6 * x),
        lambda m, s: 0.6 * np.exp(0.6 * m + 0.18 * s**2),
        lambda m, s: 0.36 * s * np.exp(0.6 * m + 0.18 * s**2),
    ),
    (
        "cubic",
        lambda x, p: x**3 - x,
        lambda m, s: 3 * m**2 + 3 * s**2 - 1,
        lambda m, s: 6 * m * s,
    ),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("method", [score_function(), pathwise(), evolution()], ids=repr)
@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda r: r[0])
def test_expectations_of_other_functions_are_exact(x64, quadrature, row, method, setting):
    _, f, d_mu, d_sigma = row
    z, w = quadrature.gauss(40)
    e = estimator(f, normal, method=method, with_params=True)
    mean, _ = quadrature.moments(e, params(*setting), z[:, 0], w)
    m, s = setting[:2]
    np.testing.assert_allclose(mean["mu"], d_mu(m, s), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(mean["sigma"], d_sigma(m, s), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("row", FUNCTIONS, ids=lambda r: r[0])
def test_measure_valued_expectations_of_other_functions_are_exact(x64, quadrature, row, setting):
    _, f, d_mu, d_sigma = row
    from scipy.special import ndtri

    t, _, half = quadrature.unit_interval(60)
    z = ndtri(t / 2)
    z, w = np.concatenate([z, -z]), np.concatenate([half, half]) / 2
    _, rest, u = quadrature.unit_interval(60)
    e = -np.log(rest)
    Z, E = (a.reshape(-1) for a in np.meshgrid(z, e, indexing="ij"))
    method = estimator(f, normal, method=measure_valued(), with_params=True)
    noise = Row(Z, Z, np.stack([E, E], axis=1))
    mean, _ = quadrature.moments(method, params(*setting), noise, np.outer(w, u).reshape(-1))
    m, s = setting[:2]
    np.testing.assert_allclose(mean["mu"], d_mu(m, s), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(mean["sigma"], d_sigma(m, s), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", [score_function(), pathwise()], ids=repr)
def test_a_quadratic_has_no_variance_left_under_the_delta_control_variate(x64, quadrature, method):
    z, w = quadrature.gauss(10)
    method = controlled(method, control_delta_method, coefficient=1.0)
    e = estimator(lambda x: (x - 0.3) ** 2, lambda p: Normal(*p), method=method)
    mean, var = quadrature.moments(e, (np.array(1.0), np.array(1.5)), z[:, 0], w)
    np.testing.assert_allclose(mean, (1.4, 3.0), rtol=1e-12)
    np.testing.assert_allclose(var, (0.0, 0.0), atol=1e-20)


def test_uncoupled_beats_coupled_far_from_the_mean(x64, jit):
    assert (8 / np.pi - 2) * 9 + 4 / np.pi == pytest.approx(6.18, abs=0.02)  # m = 3
    spread, rng = {}, np.random.default_rng(0)
    zero = np.zeros(4000)
    for coupling in (True, False):
        noise = Row(zero, zero, rng.exponential(size=(4000, 2 if coupling else 3)))
        rows = jit(make(measure_valued(coupling)).gradients)(params(0.0, 1.0, -3.0), noise)
        spread[coupling] = np.var(rows["mu"])
    assert spread[False] < 0.8 * spread[True]
