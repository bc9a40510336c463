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


@functools.cache
def small_programs():
    """`jax.jit` for programs on small arrays: compilation is all the time there is.

    The options halve it; a version of the compiler that does not know one goes without.
    """
    options = {}
    for name, value in (
        ("xla_cpu_use_fusion_emitters", False),
        ("xla_cpu_parallel_codegen_split_count", 1),
    ):
        try:
            jax.jit(lambda x: x, compiler_options={name: value})(np.float32(0))
        except (jax.errors.JaxRuntimeError, ValueError):
            continue
        options[name] = value
    return functools.partial(jax.jit, compiler_options=options)


@pytest.fixture(scope="session")
def jit():
    return small_programs()


@functools.lru_cache(maxsize=512)
def _compiled(estimator):
    def gradients(params, noise, state, given):
        e = estimator if given is None else estimator(given)
        return e.gradients(params, noise, state)

    return small_programs()(gradients)


def moments(estimator, params, noise, weights, state=None, given=None):
    """Exact mean and variance of one unit's gradient, trees of floats.

    With `given`, numbers that do not compile anew, the estimator is a function of them.
    """
    rows = _compiled(estimator)(params, noise, state, given)

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
def bounded_memory():
    """In the place of the whole suite's: these programs are small, and the rows of a module share them."""


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module():
    yield
    _compiled.cache_clear()
    jax.clear_caches()
