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
