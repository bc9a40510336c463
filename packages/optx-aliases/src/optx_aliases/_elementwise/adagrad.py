"""Adagrad: the gradient divided by the root of the sum of all its squares.

v ← v + |g|²
u = g / √(v + eps)

v is called `sum_of_squares` in the state.

Reference: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
Optimization", 2011, section 1.1 (the diagonal version).
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.lax import rsqrt

from optx_core import PyTree, Scalar, ScalarOrSchedule, build, chain, scale_by_learning_rate


def _start(initial_accumulator_value: Scalar, **_: Any) -> Scalar:
    return initial_accumulator_value


class ScaleByRssState(NamedTuple):
    """State of `scale_by_rss`.

    Attributes:
      sum_of_squares: v, a tree of the parameters' structure and shapes; real where they are complex.
    """

    sum_of_squares: Annotated[PyTree, build.slot(nonnegative=True, fill=_start)]


@build.rule(ScaleByRssState)
def scale_by_rss(
    g: Array,
    s: ScaleByRssState,
    /,
    initial_accumulator_value: Annotated[Any, build.Number(low=0, schedule=False)] = 0.1,
    eps: build.Nonnegative = 1e-7,
) -> tuple[Array, ScaleByRssState]:
    """Divides the gradients by the root of the sum of all squares so far.

    Args:
      initial_accumulator_value, eps: as for `adagrad`.

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
    g = build.squarable(g)
    v = s.sum_of_squares + build.abs_squared(g)
    positive = v > 0
    u = g * jnp.where(positive, rsqrt(jnp.where(positive, v + eps, 1)), 0)
    return u, s._replace(sum_of_squares=v)


@build.recorded
def adagrad(
    learning_rate: ScalarOrSchedule,
    initial_accumulator_value: Scalar = 0.1,
    eps: ScalarOrSchedule = 1e-7,
) -> build.Transformation:
    """Adagrad (Duchi, Hazan, Singer, 2011).

    Args:
      learning_rate: a scalar, or a schedule.
      initial_accumulator_value: the initial value of the sums of squares, a scalar at least 0.
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
