"""The baseline of minimal variance, one for each entry of the parameters.

b_k = E f·s_k² / E s_k²,   s_k = ∂ log p(x)/∂θ_k

Estimated from the other samples of the same draw, so that b_{i,k} does not depend on x_i, or
averaged over past steps.

Reference: Greensmith, Bartlett, Baxter, "Variance Reduction Techniques for Gradient Estimates in
Reinforcement Learning", 2004, theorem 8, by component.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, safe_increment
from optx_core.build import check_number, common_real_dtype, recorded, zero_count
from optx_estimators._baseline import Baseline
from optx_estimators._ema_baseline import ema_step
from optx_estimators._errors import EstimatorError
from optx_estimators._method import Aux, by_row


class OptimalBaselineState(NamedTuple):
    """State of `optimal_baseline(decay)`.

    Attributes:
      count: the number of updates so far, an int32 scalar.
      weighted: average of f·s², a tree like the parameters.
      weight: average of s², a tree like the parameters.
    """

    count: jax.Array  # type: ignore[assignment]
    weighted: PyTree
    weight: PyTree


def _ratio(a: jax.Array, b: jax.Array) -> jax.Array:
    usable = b > 0
    return jnp.where(usable, a / jnp.where(usable, b, 1), 0)


@recorded
def optimal_baseline(decay: float | None = None) -> Baseline:
    """The baseline that minimizes the variance of every entry of the gradient.

    Args:
      decay: None to estimate the baseline from the other samples of the same draw, at least two
        independent samples; or the weight of the past in [0, 1), to average over past steps.

    Returns:
      A `Baseline` with one value for each entry of the parameters. It takes the memory of
      num_samples gradients, and second derivatives are refused.

    Raises:
      ValueError: if `decay` is out of range.

    Example:
      >>> from optx_estimators import optimal_baseline
      >>> optimal_baseline()
      optimal_baseline(decay=None)
    """
    check_number("optimal_baseline", low=0, below=1, decay=decay)
    if decay is None:
        return Baseline(value=_of_the_others, unit=None, per_parameter=True)

    def init(params: PyTree) -> OptimalBaselineState:
        def zeros(p: Any) -> jax.Array:
            p = jnp.asarray(p)
            return jnp.zeros_like(p, dtype=common_real_dtype(p.dtype))

        zero = jax.tree_util.tree_map(zeros, params)
        return OptimalBaselineState(zero_count(), zero, jax.tree_util.tree_map(jnp.copy, zero))

    def value(state: OptimalBaselineState, aux: Aux, context: Any) -> PyTree:
        del aux, context
        return jax.tree_util.tree_map(lambda a, b: _ratio(a, b)[None], state.weighted, state.weight)

    def update(state: OptimalBaselineState, aux: Aux, context: Any) -> OptimalBaselineState:
        del context
        count = safe_increment(state.count)

        def weighted(old: jax.Array, s: jax.Array) -> jax.Array:
            new = jnp.mean(by_row(aux.values, s) * s * s, axis=0)
            return ema_step(old, new, count, decay)

        def weight(old: jax.Array, s: jax.Array) -> jax.Array:
            return ema_step(old, jnp.mean(s * s, axis=0), count, decay)

        tree_map = jax.tree_util.tree_map
        return OptimalBaselineState(
            count,
            tree_map(weighted, state.weighted, aux.scores),
            tree_map(weight, state.weight, aux.scores),
        )

    return Baseline(init, value, update, per_parameter=True)


def _of_the_others(state: Any, aux: Aux, context: Any) -> PyTree:
    del state, context
    if aux.values.shape[0] < 2:
        raise EstimatorError("optimal_baseline() needs at least two samples; num_samples is 1")

    def one(s: jax.Array) -> jax.Array:
        squares = s * s
        weighted = by_row(aux.values, s) * squares
        return _ratio(
            jnp.sum(weighted, axis=0, keepdims=True) - weighted,
            jnp.sum(squares, axis=0, keepdims=True) - squares,
        )

    return jax.tree_util.tree_map(one, aux.scores)
