"""The score function estimator, of every order.

∇E f = E f(x)·∇log p(x)
surrogate = mean_i box_i·f(x_i) + (1 − box_i)·b_i,   box = magic_box(log p)

where b_i is the baseline of sample i. The second term is zero, and so is the expectation of its derivatives
of every order; to first order it subtracts the baseline. With a baseline for each entry of the parameters,
the gradient is computed explicitly, to first order.

References: Williams, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning", 1992; Foerster et al., "DiCE", 2018; Mao et al., "A Baseline for Any Order
Gradient Estimation in Stochastic Computation Graphs", 2019.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._attach import attach
from optx_estimators._baseline import Baseline
from optx_estimators._errors import EstimatorError
from optx_estimators._magic_box import magic_box
from optx_estimators._method import Aux, Method, by_row
from optx_estimators._problem import Problem, fixed


class ScoreFunction(Method):
    """See `score_function`."""

    def __init__(self, baseline: Baseline | None) -> None:
        self.baseline = baseline
        self.unit = 1 if baseline is None else baseline.unit
        self.needs_independent_rows = self.unit != 1

    def init(self, params: PyTree) -> Any:
        return () if self.baseline is None else self.baseline.init(params)

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        values = problem.values(problem.samples(params, z), params)
        if self.baseline is not None and self.baseline.per_parameter:
            return self._by_parameter(problem, params, z, values, state, context)
        box = magic_box(problem.log_probs(params, z).astype(values.dtype))
        aux = Aux(lax.stop_gradient(values))
        if self.baseline is None:
            return jnp.mean(box * values), aux
        b = jnp.asarray(self.baseline.value(fixed(state), aux, fixed(context)))
        b = jnp.broadcast_to(b.astype(values.dtype), values.shape)
        return jnp.mean(box * values + (1 - box) * b), aux

    def _by_parameter(
        self, problem: Problem, params: PyTree, z: Any, values: jax.Array, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        assert self.baseline is not None  # noqa: S101 (for the type checker)

        params = jax.tree_util.tree_map(jnp.asarray, params)
        at_rest = problem.at_rest(params)

        def log_prob(params: PyTree, z: Any) -> jax.Array:
            return problem.dist(params).base_log_prob(z, at_rest)

        scores = jax.vmap(jax.grad(log_prob), in_axes=(None, 0))(fixed(params), z)
        aux = Aux(lax.stop_gradient(values), scores)
        b = self.baseline.value(fixed(state), aux, fixed(context))

        def gradient(score: jax.Array, b: jax.Array) -> jax.Array:
            excess = by_row(aux.values, score) - jnp.broadcast_to(b, score.shape)
            return jnp.mean(excess * score, axis=0)

        g = jax.tree_util.tree_map(gradient, scores, b)
        where = "score_function with a baseline for each parameter"
        return attach(where, jnp.mean(values), params, g), aux

    def update(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any, aux: Aux
    ) -> Any:
        del problem, params, z
        return state if self.baseline is None else self.baseline.update(state, aux, context)


@recorded
def score_function(baseline: Baseline | None = None) -> ScoreFunction:
    """The score function estimator (REINFORCE), for every distribution with a density.

    Neither the function nor the sampler is differentiated. The variance grows with the dimension; a
    baseline reduces it, and `leave_one_out()` needs no further evaluations.

    Args:
      baseline: the baseline to subtract from the values of the function, or None. Without one, or with
        one value per sample, derivatives of every order are unbiased; with one value for each
        parameter (`optimal_baseline`), second derivatives are refused.

    Returns:
      A method.

    Example:
      >>> from optx_estimators import leave_one_out, score_function
      >>> score_function(leave_one_out())
      score_function(baseline=leave_one_out(group=None))
    """
    if baseline is not None and not isinstance(baseline, Baseline):
        raise EstimatorError(
            f"score_function: baseline must be a Baseline or None, not {baseline!r}"
        )
    return ScoreFunction(baseline)
