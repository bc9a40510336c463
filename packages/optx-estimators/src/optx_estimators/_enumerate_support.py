"""The exact expectation over a finite support.

E f = Σ_x p(x; θ)·f(x),   differentiable at every order
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._discrete import Bernoulli, Categorical, Finite, OneHotCategorical
from optx_estimators._distribution import Distribution
from optx_estimators._errors import EstimatorError
from optx_estimators._method import Aux, Method, need
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem


class EnumerateSupport(Method):
    """See `enumerate_support`."""

    def __init__(self, max_points: int) -> None:
        self.max_points = max_points

    def _choices(self, dist: Distribution) -> tuple[int, int]:
        need(self, dist, Bernoulli, OneHotCategorical, Categorical)
        k = dist.choices if isinstance(dist, OneHotCategorical) else 2
        sites = math.prod(dist.base_shape)
        if k**sites > self.max_points:
            raise EstimatorError(
                f"enumerate_support: {k}^{sites} points exceed max_points={self.max_points}; "
                "use score_function(leave_one_out()), disarm() or measure_valued()"
            )
        return k, sites

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        del key, noise
        self._choices(dist)
        return jnp.zeros((n, 0), dist.dtype)

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del z, state, context
        dist = problem.dist(params)
        k, sites = self._choices(dist)
        assert isinstance(dist, Finite)  # noqa: S101 (for the type checker)
        index = np.array(list(itertools.product(range(k), repeat=sites)), np.int32)
        index = index.reshape(-1, *dist.base_shape)
        if isinstance(dist, Bernoulli):
            xs = jnp.asarray(index, dist.dtype)
        elif isinstance(dist, Categorical):
            xs = jnp.asarray(index)
        else:
            xs = jax.nn.one_hot(jnp.asarray(index), k, dtype=dist.dtype)
        probs = jax.vmap(dist.event_prob)(xs)

        def term(x: Any, p: jax.Array) -> jax.Array:
            # f is not differentiated at impossible outcomes, where log q of an ELBO is infinite.
            possible = lax.stop_gradient(p) > 0

            def where_possible(live: Any) -> Any:
                return jax.tree_util.tree_map(
                    lambda a: jnp.where(possible, a, lax.stop_gradient(a)), live
                )

            value = where_possible(problem.value(x, where_possible(params)))
            value = jnp.where(possible | jnp.isfinite(value), value, 0)
            return p.astype(value.dtype) * value

        total = jnp.sum(jax.vmap(term)(xs, probs))
        return total, Aux(lax.stop_gradient(total)[None])

    def evaluations(self, dist: Distribution, n: int) -> int:
        del n
        k, sites = self._choices(dist)
        return int(k**sites)


@recorded
def enumerate_support(max_points: int = 2**16) -> EnumerateSupport:
    """The exact expectation, summed over all values of Bernoulli or Categorical variables.

    The number of samples and the noise are ignored. Outcomes of probability zero count with the exact
    derivative of their probability.

    Args:
      max_points: the largest number of points to sum over.

    Returns:
      A method without variance, exact at every order. It raises an `EstimatorError` beyond
      `max_points`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_estimators import Bernoulli, enumerate_support, expectation
      >>> def loss(p):
      ...     return expectation(jnp.sum, lambda p: Bernoulli(probs=p), p, jax.random.key(0), 1,
      ...                        method=enumerate_support())
      >>> loss(jnp.array([0.25, 0.5]))
      Array(0.75, dtype=float32)
    """
    return EnumerateSupport(max_points)
