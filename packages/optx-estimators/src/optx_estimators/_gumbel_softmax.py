"""The Gumbel-softmax estimator: the pathwise gradient of relaxed samples. Biased.

∇E f(x) ≈ ∇E f(soften(s; λ));   hard: f at the discrete sample, its gradient applied to the soft one

where s is the sample before it is made discrete and λ the temperature.

References: Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017; Maddison,
Mnih, Teh, "The Concrete Distribution", 2017.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import check_number, recorded
from optx_estimators._distribution import Distribution
from optx_estimators._method import Aux, Method
from optx_estimators._noise import Noise
from optx_estimators._problem import Problem
from optx_estimators._relaxation import check_relaxable, harden, scores, soften, uniforms
from optx_estimators._straight_through import through


class GumbelSoftmax(Method):
    """See `gumbel_softmax`."""

    unbiased: ClassVar[bool] = False

    def __init__(self, temperature: Any, hard: bool) -> None:
        self.temperature, self.hard = temperature, hard

    def draw(self, dist: Distribution, key: jax.Array, n: int, noise: Noise) -> jax.Array:
        check_relaxable(self.name, dist)
        return uniforms(dist, key, n, noise, 1)[:, 0]

    def surrogate(
        self, problem: Problem, params: PyTree, z: jax.Array, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist = check_relaxable(self.name, problem.dist(params))
        s = jax.vmap(lambda u: scores(dist, u))(z)
        soft = jax.vmap(lambda s: soften(dist, s, self.temperature))(s)
        if self.hard:
            hard = jax.vmap(lambda s: harden(dist, s))(s)
            return through(self.name, problem, params, hard, soft)
        values = problem.values(soft, params)
        return jnp.mean(values), Aux(lax.stop_gradient(values))


@recorded
def gumbel_softmax(temperature: Any = 0.5, hard: bool = False) -> GumbelSoftmax:
    """Relaxes Bernoulli and one-hot samples and differentiates through them; biased.

    Args:
      temperature: λ > 0. Smaller values have less bias and more variance.
      hard: whether the function gets discrete samples and only the gradient is relaxed; second
        derivatives are then refused.

    Returns:
      A method, for `Bernoulli` and `OneHotCategorical`.

    Raises:
      ValueError: if the temperature is not positive.

    Example:
      >>> from optx_estimators import gumbel_softmax
      >>> gumbel_softmax(0.5)
      gumbel_softmax(temperature=0.5, hard=False)
    """
    check_number("gumbel_softmax", above=0, temperature=temperature)
    return GumbelSoftmax(temperature, bool(hard))
