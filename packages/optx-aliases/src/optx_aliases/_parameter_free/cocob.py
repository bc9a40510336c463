"""COCOB-Backprop: each parameter bets on its gradients with what it has won so far.

L ← max(L, |g|)                  the largest gradient so far, eps at first
G ← G + |g|                      the sum of absolute gradients
R ← max(R − g·(p − p₀), 0)       the reward
C ← C − g                        the sum of negative gradients
p ← p₀ + C / (L·max(G + L, alpha·L)) · (L + R)

There is no learning rate to choose; a `learning_rate` multiplies the gradients.

Reference: Orabona, Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting",
2017, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import copy_of
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
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
)


class COCOBState(NamedTuple):
    """State of `scale_by_cocob`: trees of the parameters' structure and shapes.

    Attributes:
      init_particles: p₀, the parameters at the start.
      cumulative_gradients: C, the sum of negative gradients.
      scale: L, the largest absolute gradients.
      subgradients: G, the sum of absolute gradients.
      reward: R, what was won.
    """

    init_particles: PyTree
    cumulative_gradients: PyTree
    scale: PyTree
    subgradients: PyTree
    reward: PyTree


def _leaf(
    g: jax.Array,
    C: jax.Array,
    L: jax.Array,
    G: jax.Array,
    R: jax.Array,
    p: jax.Array,
    p0: jax.Array,
    *,
    alpha: Scalar,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_cocob: a bet is on a real number; wrap it in split_real_and_imaginary"
        )
    moved = p - p0
    L = jnp.maximum(L, jnp.abs(g))
    G = G + jnp.abs(g)
    R = jnp.maximum(R - g * moved, 0)
    C = C - g
    return C / (L * jnp.maximum(G + L, alpha * L)) * (L + R) - moved, C, L, G, R


@recorded
@schedulable("alpha")
def scale_by_cocob(
    alpha: ScalarOrSchedule = 100.0, eps: Scalar = 1e-8
) -> GradientTransformationExtraArgs:
    """Turns gradients into the steps that coin betting takes.

    Args:
      alpha: how slowly the first steps go, a scalar at least 0, or a schedule.
      eps: the largest gradient that is taken for seen at the start, greater than 0.

    Returns:
      A transformation with a `COCOBState`; `update` needs the parameters. Its updates are to be added,
      with no sign flipped. Real parameters only.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_cocob
      >>> tx, p = scale_by_cocob(), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([4.0]), tx.init(p), p)[0][0]), 5)
      -0.01
    """
    check_number("scale_by_cocob", low=0, alpha=alpha)
    check_number("scale_by_cocob", above=0, eps=eps)

    def init(params: Params) -> COCOBState:
        start = copy_of(params)
        return COCOBState(
            start,
            tree.slots_like(params),
            tree.slots_like(params, fill_value=eps),
            tree.slots_like(params),
            tree.slots_like(params),
        )

    def step(flow: Flow, state: COCOBState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        return LeafStep(
            _leaf,
            slots=(state.cumulative_gradients, state.scale, state.subgradients, state.reward),
            reads=(params, state.init_particles),
            close=lambda *slots: COCOBState(state.init_particles, *slots),
            operands={"alpha": alpha},
        )

    return leafwise(step, init)


@recorded
def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: ScalarOrSchedule = 100.0,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """COCOB-Backprop (Orabona and Tommasi, 2017).

    Args:
      learning_rate: multiplies the gradients: a scalar, or a schedule. A constant changes nothing.
      alpha: how slowly the first steps go, a scalar at least 0, or a schedule.
      eps: the largest gradient that is taken for seen at the start, greater than 0.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters. Real parameters only.

    Example:
      >>> from optx_aliases import cocob
      >>> cocob()
      cocob(learning_rate=1.0, alpha=100.0, eps=1e-08, weight_decay=0.0, mask=None)
    """
    return chain(
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate, flip_sign=False),
        scale_by_cocob(alpha, eps),
    )
