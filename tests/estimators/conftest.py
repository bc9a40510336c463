"""Quadrature in place of randomness: rows of noise, their weights, and exact moments over them."""

import functools
import itertools

import jax
import numpy as np
import pytest


def gauss(n, dimensions=1):
    """Nodes and weights of the standard normal law: exact for polynomials of degree 2n − 1."""
    x, w = np.polynomial.hermite_e.hermegauss(n)
    x, w = x, w / w.sum()
    nodes = np.array(list(itertools.product(x, repeat=dimensions)))
    weights = np.prod(np.array(list(itertools.product(w, repeat=dimensions))), axis=1)
    return nodes, weights


def unit_interval(n=60, reach=3.4):
    """Tanh-sinh nodes on (0, 1), which singular ends do not trouble: t, 1 − t and weights."""
    h = 2 * reach / n
    s = np.arange(-reach, reach + h / 2, h)
    g = np.pi / 2 * np.sinh(s)
    t, rest = 1 / (1 + np.exp(-2 * g)), 1 / (1 + np.exp(2 * g))
    weights = h * np.pi * np.cosh(s) * t * rest
    return t, rest, weights / weights.sum()


def bits(dimensions):
    """All corners of a cube."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=dimensions)))


@functools.lru_cache(maxsize=512)
def _compiled(estimator):
    return jax.jit(lambda params, noise, state: estimator.gradients(params, noise, state))


def moments(estimator, params, noise, weights, state=None):
    """Exact mean and variance of one unit's gradient, trees of floats."""
    rows = _compiled(estimator)(params, noise, state)

    def mean(r):
        return np.tensordot(weights, np.asarray(r, np.float64), 1)

    means = jax.tree.map(mean, rows)
    variances = jax.tree.map(
        lambda r, m: np.tensordot(weights, np.square(np.asarray(r, np.float64) - m), 1), rows, means
    )
    return means, variances


class Quadrature:
    """What tests take from here."""

    gauss = staticmethod(gauss)
    unit_interval = staticmethod(unit_interval)
    bits = staticmethod(bits)
    moments = staticmethod(moments)


@pytest.fixture(scope="session")
def quadrature():
    return Quadrature


@pytest.fixture(autouse=True)
def compile_quickly():
    """Arrays here are small: compilation is all the time there is."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
