"""AdaDelta: the size of past updates, divided by that of past gradients, scales each entry.

E[g²] ← rho·E[g²] + (1 − rho)·|g|²
u = g·√(E[x²] + eps) / √(E[g²] + eps)
E[x²] ← rho·E[x²] + (1 − rho)·|u|²

The code computes u from the new E[x²], so that the old one need not be kept in memory:
u = g·√(E[x²] + rho·eps) / √(rho·(E[g²] + eps) + (1 − rho)·|g|²), with both means new.

Reference: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


class ScaleByAdaDeltaState(NamedTuple):
    """State of `scale_by_adadelta`.

    Attributes:
      e_g: E[g²], a tree of the parameters' structure and shapes; real where they are complex.
      e_x: E[x²], likewise.
    """

    e_g: build.SecondMoment
    e_x: build.SecondMoment


@build.rule(ScaleByAdaDeltaState)
def scale_by_adadelta(
    g: Array, s: ScaleByAdaDeltaState, /, rho: build.Rate = 0.9, eps: build.Nonnegative = 1e-6
) -> tuple[Array, ScaleByAdaDeltaState]:
    """Multiplies the gradients by the ratio of the size of past updates to that of past gradients.

    Args:
      rho, eps: as for `adadelta`.

    Returns:
      A transformation with a `ScaleByAdaDeltaState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adadelta
      >>> tx = scale_by_adadelta(rho=0.75, eps=1e-6)
      >>> updates, _ = tx.update(jnp.array([10.0]), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 6)
      0.002
    """
    g = build.squarable(g)
    square = build.abs_squared(g)
    e_g = rho * s.e_g + (1 - rho) * square
    size = e_g + eps
    # A size of 0: all gradients so far were zero, and so is eps.
    e_x = rho * s.e_x + (1 - rho) * square * (s.e_x + eps) / jnp.where(size == 0, 1, size)
    size = rho * size + (1 - rho) * square
    past = e_x + rho * eps
    moved = (past > 0) & (size > 0)
    root = jnp.sqrt(jnp.where(moved, past, 1) / jnp.where(moved, size, 1))
    return g * jnp.where(moved, root, 0), s._replace(e_g=e_g, e_x=e_x)


@build.recorded
def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: build.Mask = None,
) -> build.Transformation:
    """AdaDelta (Zeiler, 2012).

    The decay is added to the gradients before they are scaled.

    Args:
      learning_rate: a scalar, or a schedule; None for 1, as in the paper.
      rho: decay rate of both mean squares, in [0, 1), or a schedule.
      eps: added under both roots, a scalar, or a schedule. The first steps are about √eps long.
      weight_decay: λ, a scalar at least 0, or a schedule.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import adadelta
      >>> tx = adadelta(rho=0.95)
    """
    return chain(
        decayed(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(1.0 if learning_rate is None else learning_rate),
    )
