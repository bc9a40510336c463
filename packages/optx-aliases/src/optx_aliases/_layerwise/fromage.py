"""Fromage: steps relative to the norm of each array, then a little shrinking.

p ← (p − lr·g·‖p‖ / ‖g‖) / √(1 + lr²)

Reference: Bernstein, Vahdat, Yue, Liu, "On the distance between two neural networks and the stability
of learning", 2020, algorithm 1.
"""

from __future__ import annotations

from typing import Any

import jax

from optx_aliases._transforms.trust_ratio import scale_by_trust_ratio
from optx_core import (
    GradientTransformationExtraArgs,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    chain,
    scale,
)
from optx_core.build import (
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
)


def _shrink_leaf(g: jax.Array, p: jax.Array, *, factor: Scalar) -> jax.Array:
    return g + factor * p


def _shrink(factor: Any) -> GradientTransformationExtraArgs:
    """U = g + factor·p, for a factor that is below zero."""

    def step(flow: Flow, state: OptState, params: Params = None, **_: Any) -> LeafStep:
        return LeafStep(
            _shrink_leaf,
            reads=(need_params(flow.trail, params),),
            close=lambda: state,
            operands={"factor": factor},
        )

    return leafwise(step)


@recorded
@schedulable("learning_rate")
def fromage(
    learning_rate: ScalarOrSchedule, min_norm: ScalarOrSchedule = 1e-6
) -> GradientTransformationExtraArgs:
    """Fromage (Bernstein et al., 2020).

    Args:
      learning_rate: the step relative to the norm of each array, a scalar, or a schedule.
      min_norm: the least norm that parameters and gradients count for.

    Returns:
      A transformation; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_aliases import fromage
      >>> tx = fromage(1e-2)
    """
    check_number("fromage", low=0, learning_rate=learning_rate)
    rate: Any = learning_rate
    inverse = 1.0 + rate * rate
    shrink = inverse**-0.5
    # shrink − 1 without cancellation: −lr²/(√(1 + lr²)·(1 + √(1 + lr²)))
    less = -rate * rate * shrink / (1.0 + 1.0 / shrink)
    return chain(scale_by_trust_ratio(min_norm), scale(-rate * shrink), _shrink(less))
