"""Fromage: steps relative to the norm of each array, then a slight shrinkage.

p ← (p − lr·g·‖p‖ / ‖g‖) / √(1 + lr²)

Reference: Bernstein, Vahdat, Yue, Liu, "On the distance between two neural networks and the stability
of learning", 2020, algorithm 1.
"""

from __future__ import annotations

from typing import Any

from jax import Array

from optx_aliases._transforms.trust_ratio import scale_by_trust_ratio
from optx_core import ScalarOrSchedule, build, chain, scale


@build.rule(params=True)
def _shrink(g: Array, p: Array, /, factor: build.Real) -> Array:
    return g + factor * p


@build.recorded
@build.schedulable("learning_rate")
def fromage(
    learning_rate: ScalarOrSchedule, min_norm: ScalarOrSchedule = 1e-6
) -> build.Transformation:
    """Fromage (Bernstein et al., 2020).

    Args:
      learning_rate: the step relative to the norm of each array, a scalar at least 0, or a schedule.
      min_norm: a lower bound of the norms of parameters and gradients, a scalar at least 0, or a schedule.

    Returns:
      A transformation; `update` needs the parameters.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> from optx_aliases import fromage
      >>> tx = fromage(1e-2)
    """
    build.check_number("fromage", low=0, learning_rate=learning_rate)
    lr: Any = learning_rate
    shrinkage = (1.0 + lr * lr) ** -0.5
    # shrinkage − 1 without cancellation: −lr²/(√(1 + lr²)·(1 + √(1 + lr²)))
    less = -lr * lr * shrinkage / (1.0 + 1.0 / shrinkage)
    return chain(scale_by_trust_ratio(min_norm), scale(-lr * shrinkage), _shrink(less))
