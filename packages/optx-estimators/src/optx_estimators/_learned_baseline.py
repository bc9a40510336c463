"""A baseline that is a function with parameters of its own, trained alongside.

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
from optx_estimators._method import Aux


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
    """A baseline that is learned from past steps, of the context of the present one.

    Args:
      predict: from φ and the `context` given to `value_and_grad`'s function (an observation, say; it
        must not contain the samples) to a scalar, or one number for each sample.
      predictor: φ at the start, a tree of arrays.
      optimizer: any transformation with `init` and `update`.

    Returns:
      A `Baseline`. It needs a state: use it with `value_and_grad`.

    Raises:
      TypeError: if `optimizer` is no transformation.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_core import scale
      >>> from optx_estimators import learned_baseline
      >>> def linear(phi, context):
      ...     return jnp.dot(phi, context)
      >>> baseline = learned_baseline(linear, jnp.zeros(3), scale(-0.1))
    """
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"learned_baseline: optimizer needs init and update, not {optimizer!r}")

    def prediction(phi: PyTree, aux: Aux, context: Any) -> jax.Array:
        b = jnp.asarray(predict(phi, context)).astype(aux.values.dtype)
        if b.shape not in ((), aux.values.shape):
            raise ValueError(
                f"learned_baseline: predict returned shape {b.shape}; it must be a scalar or "
                f"{aux.values.shape}, one for each sample"
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
