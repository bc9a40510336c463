"""Measure-valued, pathwise and score gradients of the other families, by quadrature over the noise."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from optx_estimators import (
    Bernoulli,
    Categorical,
    Cauchy,
    Exponential,
    Gamma,
    Laplace,
    Logistic,
    Normal,
    OneHotCategorical,
    Poisson,
    StudentT,
    Weibull,
    constant_baseline,
    enumerate_support,
    estimator,
    measure_valued,
    pathwise,
    score_function,
)
from optx_estimators._mvd_terms import Row


def square(x):
    return x**2


def bump(x):
    return jnp.exp(-((x - 0.5) ** 2)) + 0.3 * jnp.tanh(x)


def bump_slope(x):
    return -2 * (x - 0.5) * np.exp(-((x - 0.5) ** 2)) + 0.3 / np.cosh(np.clip(x, -300, 300)) ** 2


SYMMETRIC = [
    (lambda p: Normal(*p), stats.norm()),
    (lambda p: Laplace(*p), stats.laplace()),
    (lambda p: StudentT(5.0, *p), stats.t(5.0)),
    (lambda p: Cauchy(*p), stats.cauchy()),
    (lambda p: Logistic(*p), stats.logistic()),
]


ENDS = [-100.0, -20.0, -3.0, 0.0, 3.0, 20.0, 100.0]


@functools.cache
def slopes_of_the_expectation(i, mu, s):
    """With respect to location and scale: E f′(x) and E z·f′(x), f′ falling as e^(−2|x|)."""
    z, w = np.polynomial.legendre.leggauss(200)
    halves = [((b - a) / 2, (a + b) / 2) for a, b in itertools.pairwise(ENDS)]
    z, w = (
        np.concatenate([middle + half * z for half, middle in halves]),
        np.concatenate([half * w for half, _ in halves]),
    )
    weights = w * SYMMETRIC[i][1].pdf(z) * bump_slope(mu + s * z)
    return weights.sum(), weights @ z


@pytest.mark.parametrize("setting", [(0.7, 1.3), (-0.4, 0.5)], ids=str)
@pytest.mark.parametrize("i", range(5), ids=lambda i: SYMMETRIC[i][1].dist.name)
@pytest.mark.parametrize(
    "method", [measure_valued(), pathwise(), score_function()], ids=lambda m: m.name
)
def test_symmetric_families_have_exact_expectations(x64, quadrature, i, setting, method):
    family, law = SYMMETRIC[i]
    t, _, half = quadrature.unit_interval(90 if method == measure_valued() else 180, 3.0)
    z = law.ppf(t / 2)
    z, w = np.concatenate([z, -z]), np.concatenate([half, half]) / 2
    base = np.stack([z, np.zeros_like(z)], axis=1) if law.dist.name == "t" else z
    noise = base
    if method == measure_valued():
        _, rest, u = quadrature.unit_interval(90, 3.0)
        index = np.arange(len(z))
        row, E = (a.reshape(-1) for a in np.meshgrid(index, -np.log(rest), indexing="ij"))
        w = np.outer(w, u).reshape(-1)
        noise = Row(base[row], base[row], np.stack([E, E], axis=1))
    e = estimator(bump, family, method=method)
    mean, _ = quadrature.moments(e, tuple(map(np.array, setting)), noise, w)
    truth = slopes_of_the_expectation(i, *setting)
    np.testing.assert_allclose(mean, truth, rtol=1e-8, atol=1e-8)


def exponentials(quadrature):
    _, rest, w = quadrature.unit_interval(90)
    return -np.log(rest), w


def coupled(z, wz, e, we):
    Z, E = (a.reshape(-1) for a in np.meshgrid(z, e, indexing="ij"))
    return Row(Z, Z, E[:, None]), np.outer(wz, we).reshape(-1)


# rate, method, true gradient, variance
EXPONENTIAL = [
    (rate, method, -4 / rate**3, factor / rate**6)
    for rate in (1.5, 0.7)
    for method, factor in ((measure_valued(), 48), (pathwise(), 80), (score_function(), 488))
]


@pytest.mark.parametrize("row", EXPONENTIAL, ids=lambda r: f"{r[0]}-{r[1].name}")
def test_exponential_rates_have_the_moments_of_the_table(x64, quadrature, row):
    rate, method, gradient, variance = row
    e, w = exponentials(quadrature)
    noise = e
    if method == measure_valued():
        noise, w = coupled(e, w, e, w)
    estimate = estimator(square, Exponential, method=method)
    mean, var = quadrature.moments(estimate, np.array(rate), noise, w)
    np.testing.assert_allclose(mean, gradient, rtol=1e-8)
    np.testing.assert_allclose(var, variance, rtol=1e-6)


@functools.cache
def gamma_estimator(method):
    return lambda a: estimator(square, lambda rate: Gamma(a, rate), method=method)


@pytest.mark.parametrize("a", [2.5, 0.8])
@pytest.mark.parametrize("method", [measure_valued(), pathwise(), score_function()], ids=repr)
def test_gamma_rates_have_the_moments_of_the_table(x64, quadrature, a, method):
    b = 1.5
    t, rest, w = quadrature.unit_interval(90)
    y = np.log(np.where(t < 0.5, special.gammaincinv(a, t), special.gammainccinv(a, rest)))
    y = y - np.log(a)  # the base noise is log x less the logarithm of its mean
    noise = y
    gradient = -2 * a * (a + 1) / b**3
    m2 = a * (a + 1) / b**2
    m4 = m2 * (a + 2) * (a + 3) / b**2
    if method == measure_valued():
        e, we = exponentials(quadrature)
        noise, w = coupled(y, w, e, we)
        square_of = (a / b) ** 2 * (4 * m2 * 2 / b**2 + 4 * a / b * 6 / b**3 + 24 / b**4)
        variance = square_of - gradient**2
        if a == 2.5:
            assert variance == pytest.approx(57.6132, abs=1e-4)
    elif method == pathwise():
        variance = 4 * m4 / b**2 - gradient**2
    else:
        m5 = m4 * (a + 4) / b
        variance = a**2 / b**2 * m4 - 2 * a / b * m5 + m5 * (a + 5) / b - gradient**2
    mean, var = quadrature.moments(gamma_estimator(method), np.array(b), noise, w, given=a)
    np.testing.assert_allclose(mean, gradient, rtol=1e-8)
    np.testing.assert_allclose(var, variance, rtol=1e-6)


@pytest.mark.parametrize("coupling", [True, False])
def test_weibull_scale_is_exact_and_uncoupled_has_the_variance_of_the_table(
    x64, quadrature, coupling
):
    alpha, theta = 1.7, 0.8  # P(x > t) = exp(−θ·t^α), θ = scale^(−α)
    e, w = exponentials(quadrature)
    gradient = -2 / alpha * math.gamma(1 + 2 / alpha) * theta ** (-2 / alpha - 1)
    estimate = estimator(
        square,
        lambda theta: Weibull(theta ** (-1 / alpha), alpha),
        method=measure_valued(coupling),
    )
    if coupling:
        noise, weights = coupled(e, w, e, w)
    else:  # the other side is a Gamma(2) variate of its own
        t, rest, v = quadrature.unit_interval(90)
        gamma = np.where(t < 0.5, special.gammaincinv(2.0, t), special.gammainccinv(2.0, rest))
        Z, G = (a.reshape(-1) for a in np.meshgrid(e, gamma, indexing="ij"))
        noise = Row(Z, G, np.zeros((len(Z), 1)))
        weights = np.outer(w, v).reshape(-1)
    mean, var = quadrature.moments(estimate, np.array(theta), noise, weights)
    np.testing.assert_allclose(mean, gradient, rtol=1e-8)
    if not coupling:
        assert var == pytest.approx(14.7, abs=0.05)
    else:
        assert var < 14.7


@pytest.mark.parametrize("rate", [3.0, 0.4])
@pytest.mark.parametrize("method", [measure_valued(), score_function()], ids=repr)
def test_poisson_rates_have_the_moments_of_the_table(x64, quadrature, rate, method):
    x = np.arange(80.0)
    w = stats.poisson(rate).pmf(x)
    noise = Row(x, x, np.zeros((80, 0))) if method == measure_valued() else x
    estimate = estimator(square, Poisson, method=method)
    mean, var = quadrature.moments(estimate, np.array(rate), noise, w)
    np.testing.assert_allclose(mean, 2 * rate + 1, rtol=1e-10)
    if method == measure_valued():
        np.testing.assert_allclose(var, 4 * rate, rtol=1e-10)
    elif rate == 3.0:
        np.testing.assert_allclose(var, 388.3333, rtol=1e-6)


LOGITS = np.array([0.2, -0.5, 1.0, 0.0])
VALUES = np.array([1.0, -2.0, 0.5, 3.0])
GRADIENT = (0.04680377, -0.30483607, -0.14089366, 0.39892596)
CATEGORICAL = [
    (score_function(), (0.237573, 0.277574, 0.559782, 0.956537)),
    (score_function(constant_baseline(0.78747076)), (0.089838, 0.592268, 0.409202, 0.463167)),
    (measure_valued(), (0.0, 0.0, 0.0, 0.0)),
    (measure_valued(coupling=False), None),
]


def value_by_row(x):
    return jnp.sum(VALUES * x)


def value_by_index(x):
    return jnp.asarray(VALUES)[x]


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("row", CATEGORICAL, ids=lambda r: repr(r[0]))
def test_categorical_logits_have_the_moments_of_the_table(x64, quadrature, row, one_hot):
    method, variance = row
    f, make = (value_by_row, OneHotCategorical) if one_hot else (value_by_index, Categorical)
    w = np.exp(LOGITS) / np.exp(LOGITS).sum()
    noise = np.cumsum(w) - w / 2  # inside the four intervals
    if method.name == "measure_valued":
        noise = Row(noise, noise, np.zeros((4, 0)))
    mean, var = quadrature.moments(estimator(f, make, method=method), LOGITS, noise, w)
    np.testing.assert_allclose(mean, GRADIENT, rtol=1e-7)
    if variance is not None:
        np.testing.assert_allclose(var, variance, rtol=3e-6, atol=1e-12)


@pytest.mark.parametrize("one_hot", [False, True])
def test_categorical_logits_are_enumerated(x64, jit, one_hot):
    f, make = (value_by_row, OneHotCategorical) if one_hot else (value_by_index, Categorical)
    exact = jit(jax.value_and_grad(estimator(f, make, method=enumerate_support()).estimate))
    value, gradient = exact(LOGITS, np.zeros((1, 0)))
    np.testing.assert_allclose(value, 0.78747076, rtol=1e-7)
    np.testing.assert_allclose(gradient, GRADIENT, rtol=1e-7)


@functools.cache
def gradient_of_flips(jit, by):
    def dist(p):
        return Bernoulli(probs=p) if by == "probs" else Bernoulli(p)

    e = estimator(lambda x: jnp.sum(x * np.array([1.0, 2.0])), dist, method=measure_valued())

    def gradient(p, key):
        z = e.draw(p, key, 3)
        return jax.grad(lambda p: e.estimate(p, z))(p)

    return jit(gradient)


@pytest.mark.parametrize("by", ["probs", "logits"])
@pytest.mark.parametrize("theta", [0.0, 0.3, 1.0])
def test_bernoulli_measure_valued_is_exact_up_to_the_ends(x64, jit, by, theta):
    p = np.full(2, theta if by == "probs" else special.logit(theta))
    grad = gradient_of_flips(jit, by)(p, jax.random.key(0))
    factor = 1.0 if by == "probs" else theta * (1 - theta)
    np.testing.assert_allclose(grad, factor * np.array([1.0, 2.0]), atol=1e-12)


@pytest.mark.parametrize("function", [np.cos, square], ids=["cos", "square"])
def test_the_point_further_out_of_the_normal_family_has_its_moments(x64, quadrature, jit, function):
    t, _, half = quadrature.unit_interval()
    z = special.ndtri(t / 2)
    _, rest, u = quadrature.unit_interval()
    Z, E = np.meshgrid(z, -np.log(rest), indexing="ij")
    w = np.outer(half, u)
    M = np.asarray(jit(Normal().further)(Z, E))
    for moment, value in ((M**2, 3), (M**4, 15), (M * abs(Z), 1.5), (M**2 * Z**2, 5)):
        np.testing.assert_allclose(np.sum(w * moment), value, rtol=1e-8)
    ratio = abs(Z) / np.where(M > 0, M, 1)  # uniform on (0, 1)
    expected = np.sin(1.0) if function is np.cos else 1 / 3
    np.testing.assert_allclose(np.sum(w * function(ratio)), expected, rtol=1e-3)
