"""COCOB-Backprop: each parameter bets on its gradients with what it has won so far.

L ← max(L, |g|)                  the largest gradient so far, eps at first
G ← G + |g|                      the sum of absolute gradients
R ← max(R − g·(p − p₀), 0)       the reward
C ← C − g                        the sum of negative gradients
p ← p₀ + C / (L·max(G + L, alpha·L)) · (L + R)

There is no learning rate to choose; `learning_rate` multiplies the gradients.

Reference: Orabona, Tommasi, "Training Deep Networks without Learning Rates Through Coin Betting",
2017, algorithm 2.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import PyTree, Scalar, ScalarOrSchedule, build, chain, scale_by_learning_rate


class COCOBState(NamedTuple):
    """State of `scale_by_cocob`: trees of the parameters' structure and shapes.

    Attributes:
      init_particles: p₀, the parameters at the start.
      cumulative_gradients: C, the sum of negative gradients.
      scale: L, the largest absolute gradients.
      subgradients: G, the sum of absolute gradients.
      reward: R, the winnings.
    """

    init_particles: Annotated[PyTree, build.slot(fill="params", constant=True)]
    cumulative_gradients: build.Moment
    scale: Annotated[PyTree, build.slot(nonnegative=True, fill=lambda eps, **_: eps)]
    subgradients: build.SecondMoment
    reward: build.SecondMoment


@build.rule(COCOBState, params=True)
def scale_by_cocob(
    g: Array,
    p: Array,
    s: COCOBState,
    /,
    alpha: build.Nonnegative = 100.0,
    eps: Annotated[Any, build.Number(above=0, schedule=False)] = 1e-8,
) -> tuple[Array, COCOBState]:
    """Turns gradients into the steps of coin betting.

    Args:
      alpha, eps: as for `cocob`.

    Returns:
      A transformation with a `COCOBState`; `update` needs the parameters. Its updates are to be added,
      with no sign flipped. Real parameters only.

    Raises:
      ValueError: if a number is out of its range.
      TypeError: for complex gradients.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_cocob
      >>> tx, p = scale_by_cocob(), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([4.0]), tx.init(p), p)[0][0]), 5)
      -0.01
    """
    if jnp.iscomplexobj(g):
        raise TypeError(
            "scale_by_cocob: a bet is on a real number; wrap it in split_real_and_imaginary"
        )
    g = build.squarable(g)
    moved = p - s.init_particles
    L = jnp.maximum(s.scale, jnp.abs(g))
    G = s.subgradients + jnp.abs(g)
    R = jnp.maximum(s.reward - g * moved, 0)
    C = s.cumulative_gradients - g
    u = C / (L * jnp.maximum(G + L, alpha * L)) * (L + R) - moved
    return u, s._replace(cumulative_gradients=C, scale=L, subgradients=G, reward=R)


@build.recorded
def cocob(
    learning_rate: ScalarOrSchedule = 1.0,
    alpha: ScalarOrSchedule = 100.0,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """COCOB-Backprop (Orabona and Tommasi, 2017).

    Args:
      learning_rate: multiplies the gradients: a scalar, or a schedule. A constant changes nothing.
      alpha: slows the first steps down; a scalar at least 0, or a schedule.
      eps: the initial value of the largest gradient, greater than 0.
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
