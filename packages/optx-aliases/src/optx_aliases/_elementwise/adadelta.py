"""AdaDelta: each entry moves by about as much as it has moved before.

E[g²] ← rho·E[g²] + (1 − rho)·|g|²
u = g·√(E[x²] + eps) / √(E[g²] + eps)
E[x²] ← rho·E[x²] + (1 − rho)·|u|²

Here u is computed from the new E[x²], so that the old one need not be kept beside it:
u = g·√(E[x²] + rho·eps) / √(rho·(E[g²] + eps) + (1 − rho)·|g|²), with both means new.

Reference: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
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
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
)


class ScaleByAdaDeltaState(NamedTuple):
    """State of `scale_by_adadelta`.

    Attributes:
      e_g: E[g²], a tree of the parameters' structure and shapes; real where they are complex.
      e_x: E[x²], likewise.
    """

    e_g: PyTree
    e_x: PyTree


def _leaf(
    g: jax.Array, e_g: jax.Array, e_x: jax.Array, *, rho: Decay, eps: Scalar
) -> tuple[jax.Array, jax.Array, jax.Array]:
    square = tree.abs_squared(g)
    e_g = rho.value * e_g + rho.complement * square
    size = e_g + eps
    # A size of 0: no gradient was ever other than zero, and eps is zero.
    e_x = rho.value * e_x + rho.complement * square * (e_x + eps) / jnp.where(size == 0, 1, size)
    size = rho.value * size + rho.complement * square
    past = e_x + rho.value * eps
    moved = (past > 0) & (size > 0)
    root = jnp.sqrt(jnp.where(moved, past, 1) / jnp.where(moved, size, 1))
    return g * jnp.where(moved, root, 0), e_g, e_x


@recorded
@schedulable("rho", "eps")
def scale_by_adadelta(
    rho: ScalarOrSchedule = 0.9, eps: ScalarOrSchedule = 1e-6
) -> GradientTransformationExtraArgs:
    """Multiplies the gradients by the ratio of past updates' size to past gradients' size.

    Args:
      rho: decay of both mean squares, in [0, 1), or a schedule.
      eps: added under both roots, a scalar, or a schedule. The first steps are of about √eps.

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
    check_number("scale_by_adadelta", low=0, below=1, rho=rho)
    check_number("scale_by_adadelta", low=0, eps=eps)

    def init(params: Params) -> ScaleByAdaDeltaState:
        return ScaleByAdaDeltaState(
            tree.slots_like(params, real=True), tree.slots_like(params, real=True)
        )

    def step(flow: Flow, state: ScaleByAdaDeltaState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            slots=(state.e_g, state.e_x),
            close=ScaleByAdaDeltaState,
            operands={"rho": decay_of(rho), "eps": eps},
        )

    return leafwise(step, init)


@recorded
def adadelta(
    learning_rate: ScalarOrSchedule | None = None,
    rho: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """AdaDelta (Zeiler, 2012).

    The decay is added to the gradients before they are scaled.

    Args:
      learning_rate: a scalar, or a schedule; None for 1, as in the paper.
      rho: decay of both mean squares, in [0, 1), or a schedule.
      eps: added under both roots, a scalar, or a schedule.
      weight_decay: λ, a scalar at least 0, or a schedule.
      weight_decay_mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters where they decay.

    Example:
      >>> from optx_aliases import adadelta
      >>> tx = adadelta(rho=0.95)
    """
    return chain(
        decayed(weight_decay, weight_decay_mask),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(1.0 if learning_rate is None else learning_rate),
    )
