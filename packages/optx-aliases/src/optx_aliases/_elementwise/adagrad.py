"""Adagrad: the gradient divided by the root of the sum of all its squares.

s ← s + |g|²
u = g / √(s + eps)

Reference: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
Optimization", 2011, section 1.1 (the diagonal version).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import Flow, LeafStep, check_number, leafwise, recorded, schedulable


class ScaleByRssState(NamedTuple):
    """State of `scale_by_rss`.

    Attributes:
      sum_of_squares: s, a tree of the parameters' structure and shapes; real where they are complex.
    """

    sum_of_squares: PyTree


def _leaf(g: jax.Array, sum_of_squares: jax.Array, *, eps: Scalar) -> tuple[jax.Array, jax.Array]:
    sum_of_squares = sum_of_squares + tree.abs_squared(g)
    some = sum_of_squares > 0
    size = jnp.where(some, sum_of_squares + eps, 1)
    return g * jnp.where(some, jax.lax.rsqrt(size), 0), sum_of_squares


@recorded
@schedulable("eps")
def scale_by_rss(
    initial_accumulator_value: Scalar = 0.1, eps: ScalarOrSchedule = 1e-7
) -> GradientTransformationExtraArgs:
    """Divides the gradients by the root of the sum of all squares so far.

    Args:
      initial_accumulator_value: where the sums start, a scalar at least 0.
      eps: added under the root, a scalar at least 0, or a schedule.

    Returns:
      A transformation with a `ScaleByRssState`. While a sum is 0, so is the update.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_rss
      >>> tx = scale_by_rss(initial_accumulator_value=9.0, eps=0.0)
      >>> tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))[0]
      Array([0.8], dtype=float32)
    """
    check_number(
        "scale_by_rss", low=0, initial_accumulator_value=initial_accumulator_value, eps=eps
    )

    def init(params: Params) -> ScaleByRssState:
        return ScaleByRssState(
            tree.slots_like(params, real=True, fill_value=initial_accumulator_value)
        )

    def step(flow: Flow, state: ScaleByRssState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf, slots=(state.sum_of_squares,), close=ScaleByRssState, operands={"eps": eps}
        )

    return leafwise(step, init)


@recorded
def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: Scalar = 0.1,
    eps: ScalarOrSchedule = 1e-7,
) -> GradientTransformationExtraArgs:
    """Adagrad (Duchi, Hazan, Singer, 2011).

    Args:
      learning_rate: a scalar, or a schedule.
      initial_accumulator_value: where the sums of squares start, a scalar at least 0.
      eps: added under the root, a scalar at least 0, or a schedule.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import adagrad
      >>> tx = adagrad(0.1)
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps), scale_by_learning_rate(learning_rate)
    )
