"""ARM and DisARM: two evaluations at opposite noise, for Bernoulli variables.

θ = σ(φ), u ~ U(0, 1),  x = 1[u < θ],  x̃ = 1[1 − u < θ]

arm:     g = (f(x̃) − f(x))·(u − ½)
disarm:  g = ½·(f(x) − f(x̃))·(x − x̃)·σ(|φ|)

where U is the uniform distribution, φ are the logits and σ is the sigmoid. DisARM is the expectation of ARM
given the two samples, so its variance is never larger.

References: Yin, Zhou, "ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks", 2019;
Dong, Mnih, Tucker, "DisARM: An Antithetic Gradient Estimator for Binary Latent Variables", 2020.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._attach import attach
from optx_estimators._discrete import Bernoulli
from optx_estimators._distribution import Distribution
from optx_estimators._method import Aux, Method, by_row, draw_base, need
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem, fixed


class Antithetic(Method):
    """See `arm` and `disarm`."""

    def __init__(self, marginal: bool) -> None:
        self.marginal = marginal

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> Any:
        need(self, dist, Bernoulli)
        return draw_base(dist, key, n, noise)

    def surrogate(
        self, problem: Problem, params: PyTree, z: jax.Array, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist = problem.dist(params)
        need(self, dist, Bernoulli)
        assert isinstance(dist, Bernoulli)  # noqa: S101 (for the type checker)
        xs, opposite = problem.samples(params, z), problem.samples(params, 1 - z)
        values, others = problem.values(xs, params), problem.values(opposite, params)
        if self.marginal:
            sharp = jax.nn.sigmoid(jnp.abs(lax.stop_gradient(dist.logits)))[None]
            weight = (xs - opposite) * sharp / 2
        else:
            weight = 0.5 - z
        g = jnp.mean(by_row(fixed(values - others), z) * weight, axis=0)
        both = (values + others) / 2
        return attach(self.name, jnp.mean(both), dist.logits, g), Aux(lax.stop_gradient(both))

    def evaluations(self, dist: Distribution, n: int) -> int:
        del dist
        return 2 * n


@recorded
def arm() -> Antithetic:
    """ARM, for Bernoulli variables, with two evaluations of the function per sample.

    Returns:
      A method whose first derivatives are unbiased; it refuses second derivatives.

    Example:
      >>> from optx_estimators import arm
      >>> arm()
      arm()
    """
    return Antithetic(marginal=False)


@recorded
def disarm() -> Antithetic:
    """DisARM, for Bernoulli variables: ARM with its noise integrated out.

    Returns:
      A method whose first derivatives are unbiased; it refuses second derivatives.

    Example:
      >>> from optx_estimators import disarm
      >>> disarm()
      disarm()
    """
    return Antithetic(marginal=True)
