"""A baseline that is a trained function of a context.

b = predict(φ, context),   φ descends mean_i (f(x_i) − b)²

Reference: Mnih, Gregor, "Neural Variational Inference and Learning in Belief Networks", 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import PyTree, apply_updates
from optx_core.build import recorded
from optx_estimators._baseline import Baseline
from optx_estimators._method import Aux, check_optimizer


class LearnedBaselineState(NamedTuple):
    """State of `learned_baseline`.

    Attributes:
      predictor: φ.
      inner_state: the optimizer's state.
    """

    predictor: PyTree
    inner_state: Any


@recorded
def learned_baseline(
    predict: Callable[[Any, Any], Any], predictor: PyTree, optimizer: Any
) -> Baseline:
    """A baseline that predicts f from the context of the step, trained on past steps.

    Args:
      predict: a function from φ and the `context` of the step to a scalar, or to one number per
        sample. The context is an argument of the function that `value_and_grad` returns; it must
        not contain the samples.
      predictor: the initial φ, a tree of arrays.
      optimizer: a transformation with `init` and `update`.

    Returns:
      A `Baseline` with a state: use it with `value_and_grad`.

    Raises:
      TypeError: if `optimizer` has no `init` or no `update`.
      ValueError: when it is used, if `predict` returns another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale
      >>> from optx_estimators import learned_baseline
      >>> def linear(phi, context):
      ...     return jnp.dot(phi, context)
      >>> baseline = learned_baseline(linear, jnp.zeros(3), scale(-0.1))
    """
    check_optimizer("learned_baseline", optimizer)

    def prediction(phi: PyTree, aux: Aux, context: Any) -> jax.Array:
        b = jnp.asarray(predict(phi, context)).astype(aux.values.dtype)
        if b.shape not in ((), aux.values.shape):
            raise ValueError(
                f"learned_baseline: predict must return a scalar or one number per sample, shape "
                f"{aux.values.shape}, not {b.shape}"
            )
        return jnp.broadcast_to(b, aux.values.shape)

    def init(params: PyTree) -> LearnedBaselineState:
        del params
        phi = jax.tree_util.tree_map(jnp.array, predictor)
        return LearnedBaselineState(phi, optimizer.init(phi))

    def value(state: LearnedBaselineState, aux: Aux, context: Any) -> jax.Array:
        return prediction(state.predictor, aux, context)

    def update(state: LearnedBaselineState, aux: Aux, context: Any) -> LearnedBaselineState:
        def loss(phi: PyTree) -> jax.Array:
            return jnp.mean(jnp.square(aux.values - prediction(phi, aux, context)))

        grads = jax.grad(loss)(state.predictor)
        updates, inner = optimizer.update(grads, state.inner_state, state.predictor)
        return LearnedBaselineState(apply_updates(state.predictor, updates), inner)

    return Baseline(init, value, update)
