"""Problems for `minimize`: the function, where to start, the bounds, and the least value where it is known."""

import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)
A = RNG.normal(size=(30, 30))
HESSIAN, B = A @ A.T / 30 + 0.1 * np.eye(30), RNG.normal(size=30)
X = RNG.normal(size=(200, 20))
SIGNS = np.sign(X @ RNG.normal(size=20) + 0.5 * RNG.normal(size=200))
SCALES = np.logspace(0, 6, 10)


def quadratic(x):
    return 0.5 * x @ (HESSIAN.astype(x.dtype) @ x) - B.astype(x.dtype) @ x


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x):
    x, y = x
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def booth(x):
    return (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2


def powell_singular(x):
    a, b, c, d = x
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def badly_scaled(x):
    return 0.5 * jnp.sum(SCALES.astype(x.dtype) * x * x)


def logistic_regression(x):
    margins = SIGNS.astype(x.dtype) * (X.astype(x.dtype) @ x)
    return jnp.mean(jnp.logaddexp(jnp.zeros_like(margins), -margins)) + 1e-3 * jnp.sum(x * x)


VALLEY = np.tile([-1.2, 1.0], 10)
SINGULAR = np.array([3.0, -1.0, 0.0, 1.0])
PROBLEMS = {
    "quadratic, 30": (quadratic, np.zeros(30), None, -0.5 * B @ np.linalg.solve(HESSIAN, B)),
    "Rosenbrock, 2": (rosenbrock, np.array([-1.2, 1.0]), None, 0.0),
    "Rosenbrock, 20": (rosenbrock, VALLEY, None, 0.0),
    "Beale": (beale, np.array([1.0, 1.0]), None, 0.0),
    "Booth": (booth, np.array([0.0, 0.0]), None, 0.0),
    "Powell singular": (powell_singular, SINGULAR, None, 0.0),
    "badly scaled, 1 to 1e6": (badly_scaled, np.ones(10), None, 0.0),
    "logistic regression": (logistic_regression, np.zeros(20), None, None),
    "quadratic, 30, box": (quadratic, np.zeros(30), (-0.3, 0.3), None),
    "Rosenbrock, 2, box": (rosenbrock, np.array([-1.2, 1.0]), (-1.5, 0.8), 0.04),
    "Rosenbrock, 20, box": (rosenbrock, VALLEY, (-1.5, 0.5), None),
    "Rosenbrock, 20, loose box": (rosenbrock, VALLEY, (-50.0, 50.0), 0.0),
    "Rosenbrock, 20, from below": (rosenbrock, np.tile([1.2, 1.5], 10), (1.1, None), None),
    "Beale, box": (beale, np.array([1.0, 1.0]), (0.6, 2.5), None),
    "Beale, solution inside": (beale, np.array([1.0, 1.0]), (-4.5, 4.5), 0.0),
    "Booth, box": (booth, np.array([0.0, 0.0]), (-5.0, 2.0), None),
    "Powell singular, box": (powell_singular, SINGULAR, (-1.0, 3.0), 0.0),
    "Powell singular, half": (powell_singular, SINGULAR, (0.1, None), None),
    "badly scaled, half": (badly_scaled, np.ones(10), (0.2, None), 0.02 * SCALES.sum()),
    "logistic regression, half": (logistic_regression, np.zeros(20), (0.0, None), None),
}


# Of the collection of Moré, Garbow, Hillstrom, "Testing Unconstrained Optimization Software", 1981.
KOWALIK = np.array(
    [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
)
DOSES = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
DENSITY = np.array([0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989])
DENSITY = np.concatenate([DENSITY, DENSITY[-2::-1]])


def kowalik_osborne(x):
    u, y = DOSES.astype(x.dtype), KOWALIK.astype(x.dtype)
    return jnp.sum((y - x[0] * (u * u + u * x[1]) / (u * u + u * x[2] + x[3])) ** 2)


def jennrich_sampson(x):
    i = jnp.arange(1, 11).astype(x.dtype)
    return jnp.sum((2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))) ** 2)


def gaussian(x):
    t = ((8 - np.arange(1, 16)) / 2).astype(x.dtype)
    return jnp.sum((x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - DENSITY.astype(x.dtype)) ** 2)


def wood(x):
    a, b, c, d = x
    first = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return first + 10 * (b + d - 2) ** 2 + 0.1 * (b - d) ** 2


def brown_almost_linear(x):
    n = x.size
    return jnp.sum((x[:-1] + jnp.sum(x) - (n + 1)) ** 2) + (jnp.prod(x) - 1) ** 2


MGH = {
    "1e-5 Rosenbrock": (lambda x: 1e-5 * rosenbrock(x), np.array([-1.2, 1.0]), 0.0),
    "Kowalik-Osborne": (kowalik_osborne, np.array([0.25, 0.39, 0.415, 0.39]), 3.0750560e-4),
    "Jennrich-Sampson": (jennrich_sampson, np.array([0.3, 0.4]), 124.36218),
    "Brown almost-linear": (brown_almost_linear, np.full(10, 0.5), 0.0),
    "Gaussian": (gaussian, np.array([0.4, 1.0, 0.0]), 1.1279328e-8),
}


def penalty(x):
    return 1e-5 * jnp.sum((x - 1) ** 2) + (jnp.sum(x * x) - 0.25) ** 2


def watson(x):
    t, j = (np.arange(1, 30) / 29)[:, None], np.arange(x.size)[None]
    powers, slopes = (t**j).astype(x.dtype), (j * t ** np.maximum(j - 1, 0)).astype(x.dtype)
    residuals = slopes @ x - (powers @ x) ** 2 - 1
    return jnp.sum(residuals**2) + x[0] ** 2 + (x[1] - x[0] ** 2 - 1) ** 2


# With least values near 1e-5; the bounds are what SciPy's methods reach in float64 and in float32 (BFGS;
# L-BFGS-B for Watson's in float32).
NEAR_ZERO = {
    "Penalty I, 4": (penalty, np.arange(1.0, 5.0), 2.3e-5, 2.3e-5),
    "Penalty I, 10": (penalty, np.arange(1.0, 11.0), 7.18e-5, 7.2e-5),
    "Watson, 9": (watson, np.zeros(9), 6.7e-6, 3.9e-5),
}
