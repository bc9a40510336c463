"""Straight-through estimators: the gradient at the discrete sample, applied to its probabilities.

straight_through:  g_φ = ∇f(x)·∂π/∂φ                          biased
reinmax:           g_φ = ∇f(x)·(2·J((π + x)/2) − ½·J(π)),   J(π) = diag(π) − ππᵀ

where φ are the logits and π their probabilities. ReinMax integrates along the line between two values by
the trapezoid rule, which is exact for functions that are quadratic in each variable.

References: Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic
Neurons for Conditional Computation", 2013; Liu, Dong, Liu, Yu, Gao, "Bridging Discrete and
Backpropagation: Straight-Through and Beyond", 2023, algorithm 2.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from optx_core import PyTree
from optx_core.build import recorded
from optx_estimators._attach import attach
from optx_estimators._discrete import Bernoulli
from optx_estimators._method import Aux, Method
from optx_estimators._problem import Problem, fixed
from optx_estimators._relaxation import check_relaxable


def slopes(problem: Problem, params: PyTree, xs: jax.Array) -> jax.Array:
    """∇f at each of the samples."""
    held = fixed(params)
    return jax.vmap(jax.grad(lambda x: problem.value(x, held)))(xs)


def through(
    where: str, problem: Problem, params: PyTree, hard: jax.Array, soft: jax.Array
) -> tuple[jax.Array, Aux]:
    """The mean of f at the hard samples, with its gradient there applied to the soft ones."""
    values = problem.values(hard, params)
    g = slopes(problem, params, hard) / hard.shape[0]
    return attach(where, jnp.mean(values), soft, g), Aux(lax.stop_gradient(values))


class StraightThrough(Method):
    """See `straight_through`."""

    unbiased: ClassVar[bool] = False

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist = check_relaxable(self.name, problem.dist(params))
        hard = problem.samples(params, z)
        soft = jnp.broadcast_to(dist.probs[None], hard.shape)
        return through(self.name, problem, params, hard, soft)


class ReinMax(Method):
    """See `reinmax`."""

    unbiased: ClassVar[bool] = False

    def surrogate(
        self, problem: Problem, params: PyTree, z: Any, state: Any, context: Any
    ) -> tuple[jax.Array, Aux]:
        del state, context
        dist = check_relaxable(self.name, problem.dist(params))
        xs = problem.samples(params, z)
        values = problem.values(xs, params)
        probs = jnp.broadcast_to(lax.stop_gradient(dist.probs)[None], xs.shape)
        slope = slopes(problem, params, xs)
        two_class = isinstance(dist, Bernoulli)
        middle = _by_logits(two_class, (probs + xs) / 2, slope)
        g = jnp.mean(2 * middle - _by_logits(two_class, probs, slope) / 2, axis=0)
        return attach(self.name, jnp.mean(values), dist.logits, g), Aux(lax.stop_gradient(values))


def _by_logits(two_class: bool, probs: jax.Array, slope: jax.Array) -> jax.Array:
    """slope·J(π)."""
    if two_class:
        return slope * probs * (1 - probs)
    return probs * (slope - jnp.sum(slope * probs, axis=-1, keepdims=True))


@recorded
def straight_through() -> StraightThrough:
    """Uses the gradient with respect to a discrete sample as that of its probabilities; biased.

    Returns:
      A method that refuses second derivatives, for `Bernoulli` and `OneHotCategorical` and a
      differentiable function.

    Example:
      >>> from optx_estimators import straight_through
      >>> straight_through()
      straight_through()
    """
    return StraightThrough()


@recorded
def reinmax() -> ReinMax:
    """ReinMax: second-order straight-through, unbiased for functions quadratic in each variable.

    Returns:
      A method that refuses second derivatives, for `Bernoulli` and `OneHotCategorical` and a
      differentiable function.

    Example:
      >>> from optx_estimators import reinmax
      >>> reinmax()
      reinmax()
    """
    return ReinMax()
