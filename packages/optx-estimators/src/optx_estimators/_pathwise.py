"""The pathwise estimator: the derivative through the sample.

x = T(z; θ),   ∇E f(x) = E ∇f(T(z; θ))·∂T/∂θ

where T is the sampler, a function of the noise z. Through a sampler that does not move with its parameters,
the derivative would be zero; so a parameter on which the density depends but the sample does not is
refused.

References: Kingma, Welling, "Auto-Encoding Variational Bayes", 2014; Mohamed, Rosca, Figurnov, Mnih,
"Monte Carlo Gradient Estimation in Machine Learning", 2020, section 5; Roeder, Wu, Duvenaud,
"Sticking the Landing", 2017.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._dependence import check_reparameterized
from optx_estimators._distribution import Distribution
from optx_estimators._errors import NotReparameterizedError
from optx_estimators._method import Aux, Method
from optx_estimators._opaque import Opaque
from optx_estimators._problem import Problem


class Pathwise(Method):
    """See `pathwise`."""

    def __init__(self, stick_the_landing: bool) -> None:
        self.stick_the_landing = stick_the_landing

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist = problem.dist(params)
        refuse_discrete(self.name, dist, problem, params)
        values = problem.values(jax.vmap(dist.transform)(z), params)
        return jnp.mean(values), Aux(lax.stop_gradient(values))


def refuse_discrete(where: str, dist: Distribution, problem: Problem, params: PyTree) -> None:
    """Refuses samples that do not move with all parameters of their density."""
    if isinstance(dist, Opaque):
        check_reparameterized(where, problem, params)
    elif not dist.reparameterized:
        raise NotReparameterizedError(
            f"{where}: samples of {type(dist).__name__} do not move with the parameters; the gradient "
            "would be 0. Use score_function(leave_one_out()), or disarm() for Bernoulli"
        )


@recorded
def pathwise(stick_the_landing: bool = False) -> Pathwise:
    """The pathwise estimator (reparameterization): for smooth functions and continuous samples.

    Args:
      stick_the_landing: for `elbo` only: whether to omit the score of the guide, which has
        expectation zero and, where the guide is exact, all of the variance.

    Returns:
      A method, unbiased at every order for which the function and the sampler have derivatives.

    Example:
      >>> from optx_estimators import pathwise
      >>> pathwise()
      pathwise(stick_the_landing=False)
    """
    return Pathwise(bool(stick_the_landing))
