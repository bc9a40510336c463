"""Measure-valued derivatives: f at points with one coordinate replaced.

∂E f/∂θ_d = c_d·(E f(x with x_d = x⁺_d) − E f(x with x_d = x⁻_d))

where d is a coordinate, and c_d, x⁺_d and x⁻_d belong to the family. Neither f nor the density needs
derivatives, and the variance does not grow with the dimension; the number of evaluations does: at most 3ND
+ N for N samples of D coordinates of a location–scale family, ND + N for Bernoulli, Poisson, Exponential,
Gamma and Weibull.

Bernoulli:    ∂E f/∂θ_d = E[f(x_d = 1) − f(x_d = 0)], of which one is f(x)
Categorical:  ∂E f/∂π_{d,k} = E[f(x_d = k) − Σ_j π_j f(x_d = j)] where Σdπ = 0; coupling makes no difference

where π_{d,k} is the probability of category k of coordinate d, and j any category. The derivative with
respect to θ propagates to the parameters from which θ was computed. For the table of families see
`_mvd_terms`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._attach import attach
from optx_estimators._discrete import Bernoulli, OneHotCategorical
from optx_estimators._distribution import Distribution
from optx_estimators._errors import UnsupportedDistributionError
from optx_estimators._method import Aux, Method, draw_base
from optx_estimators._mvd_terms import Row, guard, rule_of
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem, fixed


def _is_known(dist: Distribution) -> bool:
    return isinstance(dist, Bernoulli | OneHotCategorical) or rule_of(dist) is not None


class MeasureValued(Method):
    """See `measure_valued`."""

    def __init__(self, coupling: bool) -> None:
        self.coupling = coupling

    def _check(self, dist: Distribution) -> None:
        if not _is_known(dist):
            raise UnsupportedDistributionError(
                f"measure_valued has no rule for {dist.family}; it supports "
                "Normal, Laplace, StudentT, Cauchy, Logistic, Bernoulli, Categorical, Poisson, "
                "Exponential, Gamma (rate) and Weibull (scale), also of distrax, TFP and NumPyro"
            )

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Row:
        self._check(dist)
        rule = rule_of(dist)
        e_count = 0
        if rule is not None:
            e_count = rule.exponentials if self.coupling else rule.uncoupled
        twice = not self.coupling and rule is not None
        shape = (n, e_count, *dist.event_shape)
        if noise.plain:
            key_base, key_other, key_e = jax.random.split(key, 3)
            base = draw_base(dist, key_base, n, noise)
            other = draw_base(dist, key_other, n, noise) if twice else base
            return Row(base, other, jax.random.exponential(key_e, shape, dist.dtype))
        size = math.prod(dist.base_shape)
        u = noise.uniforms(key, n, (1 + twice) * size + math.prod(shape[1:]), dist.dtype)

        def base_at(start: int) -> Any:
            part = u[:, start : start + size].reshape(n, *dist.base_shape)
            return jax.vmap(dist.base_from_uniform)(part)

        base = base_at(0)
        other = base_at(size) if twice else base
        return Row(base, other, -jnp.log1p(-u[:, (1 + twice) * size :]).reshape(shape))

    def surrogate(
        self, problem: Problem, params: PyTree, z: Row, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist, held = problem.dist(params), fixed(params)
        at_rest = problem.at_rest(params)
        self._check(dist)
        xs = problem.samples(params, z.base)
        values = problem.values(xs, params)
        known = lax.stop_gradient(values)

        def f(x: jax.Array) -> jax.Array:
            return lax.stop_gradient(problem.value(x, held))

        rule = rule_of(dist)
        value = jnp.mean(values)
        theta: Any
        if isinstance(dist, Bernoulli):
            theta = dist.probs
            rows: Any = jax.vmap(lambda x, fx: _bernoulli(f, x, fx))(xs, known)
        elif isinstance(dist, OneHotCategorical):
            theta = dist.probs
            rows = jax.vmap(lambda x: _categorical(f, at_rest, x))(xs)
        else:
            assert rule is not None  # noqa: S101 (for the type checker)
            theta = tuple(getattr(dist, name) for name in rule.parameters)
            rows = jax.vmap(lambda z, x, fx: _moved(f, rule.terms(at_rest, z), x, fx))(z, xs, known)
            value = guard(dist, rule, value)
        g = jax.tree_util.tree_map(lambda r: jnp.mean(r, axis=0), rows)
        return attach("measure_valued", value, theta, g), Aux(known)

    def evaluations(self, dist: Distribution, n: int) -> int:
        if isinstance(dist, OneHotCategorical):
            return n * math.prod(dist.logits.shape) + n
        rule = rule_of(dist)
        size = math.prod(dist.event_shape)
        moves = 3 if rule is not None and len(rule.parameters) == 2 else 1
        return n * size * moves + n


def _at_coordinate(f: Any, x: jax.Array, points: jax.Array) -> jax.Array:
    """The values of f with one coordinate of x replaced, from points (sets, size) to the same shape."""
    flat = x.reshape(-1)
    if not flat.size:
        return jnp.zeros(points.shape, x.dtype)

    def at(item: tuple[jax.Array, jax.Array]) -> jax.Array:
        d, new = item
        return jax.vmap(lambda v: f(flat.at[d].set(v).reshape(x.shape)))(new)

    return lax.map(at, (jnp.arange(flat.size), points.T)).T


def _moved(f: Any, terms: Any, x: jax.Array, fx: jax.Array) -> tuple[jax.Array, ...]:
    moved = [side.reshape(-1) for t in terms for side in (t.plus, t.minus) if side is not None]
    values = list(_at_coordinate(f, x, jnp.stack(moved)))
    out = []
    for t in terms:
        plus = fx if t.plus is None else values.pop(0).reshape(x.shape)
        minus = fx if t.minus is None else values.pop(0).reshape(x.shape)
        out.append(t.coefficient * (plus - minus).astype(x.dtype))
    return tuple(out)


def _bernoulli(f: Any, x: jax.Array, fx: jax.Array) -> jax.Array:
    flipped = _at_coordinate(f, x, (1 - x).reshape(1, -1))[0].reshape(x.shape)
    return jnp.where(x > 0.5, fx - flipped, flipped - fx).astype(x.dtype)


def _categorical(f: Any, dist: Any, x: jax.Array) -> jax.Array:
    """The values of f at every choice of every coordinate, less their mean: ∂E f/∂π where Σdπ = 0."""
    K, probs = dist.choices, dist.probs.reshape(-1, dist.choices)
    choices = jnp.eye(K, dtype=x.dtype) if dist.one_hot else jnp.arange(K, dtype=x.dtype)
    flat = x.reshape(-1, K) if dist.one_hot else x.reshape(-1)

    def at(d: jax.Array) -> jax.Array:
        points = jax.vmap(lambda c: flat.at[d].set(c).reshape(x.shape))(choices)
        return jax.vmap(f)(points)

    table = lax.map(at, jnp.arange(flat.shape[0])).astype(probs.dtype)
    table = table - jnp.sum(probs * table, axis=1, keepdims=True)
    return table.reshape(dist.logits.shape)


@recorded
def measure_valued(coupling: bool = True) -> MeasureValued:
    """Measure-valued derivatives: low variance, many evaluations of f, no derivatives of f.

    Args:
      coupling: whether the positive and the negative part share their noise. This is not always better:
        the mean of a Normal has less variance uncoupled if f is far from symmetric about the mean.

    Returns:
      A method that refuses second derivatives, for Normal, Laplace, StudentT, Cauchy and Logistic
      (location and scale), Bernoulli, Categorical, Poisson, Exponential, Gamma (rate), Weibull (scale).

    Example:
      >>> from optx_estimators import measure_valued
      >>> measure_valued()
      measure_valued(coupling=True)
    """
    return MeasureValued(bool(coupling))
