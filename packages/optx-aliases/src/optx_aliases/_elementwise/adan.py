"""Adan: Nesterov's momentum, estimated from the differences of successive gradients.

d = g − gₗₐₛₜ  (0 at the first step)
m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·d
n ← b3·n + (1 − b3)·|g + look_ahead·d|²
u = (m̂ + look_ahead·v̂) / (√(n̂ + eps_root) + eps),   each hat divided by 1 − bᵗ

The paper's β are 1 − b here; hence look_ahead = b2 in the paper and in its authors' code.

Reference: Xie, Zhou, Li, Lin, Yan, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
Deep Models", 2022, algorithm 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


class ScaleByAdanState(NamedTuple):
    """State of `scale_by_adan`.

    Attributes:
      m: mean of the gradients, a tree of the parameters' structure and shapes.
      v: mean of the differences of successive gradients, likewise.
      n: mean square of the gradients ahead, likewise; real where the parameters are complex.
      g: the last gradient, likewise.
      t: int32 scalar, the number of updates so far.
    """

    m: build.Moment
    v: build.Moment
    n: build.SecondMoment
    g: build.Moment
    t: build.Count


@build.rule(ScaleByAdanState)
def scale_by_adan(
    g: Array,
    s: ScaleByAdanState,
    /,
    b1: build.Rate = 0.98,
    b2: build.Rate = 0.92,
    b3: build.Rate = 0.99,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    *,
    look_ahead: build.Nonnegative | None = None,
) -> tuple[Array, ScaleByAdanState]:
    """Rescales gradients by Adan.

    Args:
      b1, b2, b3, eps, eps_root, look_ahead: as for `adan`.

    Returns:
      A transformation with a `ScaleByAdanState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adan
      >>> tx = scale_by_adan()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    t, ahead = s.t, b2 if look_ahead is None else look_ahead
    now = build.squarable(g)
    d = jnp.where(t == 1, 0, now - build.squarable(s.g))
    m = b1 * s.m + (1 - b1) * now
    v = b2 * s.v + (1 - b2) * d
    n = b3 * s.n + (1 - b3) * build.abs_squared(now + ahead * d)
    m_ahead = m / (1 - b1**t) + ahead * v / (1 - b2**t)
    u = m_ahead / (jnp.sqrt(n / (1 - b3**t) + eps_root) + eps)
    return u, s._replace(m=m, v=v, n=n, g=g)


@build.recorded
def adan(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.98,
    b2: ScalarOrSchedule = 0.92,
    b3: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    *,
    look_ahead: ScalarOrSchedule | None = None,
) -> build.Transformation:
    """Adan (Xie et al., 2022), with AdamW's decay: p ← p − lr·(u + weight_decay·p).

    (The paper divides by 1 + lr·weight_decay instead; the two agree to first order.)

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean gradient, in [0, 1), or a schedule.
      b2: decay rate of the mean difference, in [0, 1), or a schedule.
      b3: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      look_ahead: the weight of the difference, a scalar at least 0, or a schedule; b2 by default. (optax
        takes 1 − b2.)

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import adan
      >>> tx = adan(1e-3, weight_decay=0.02)
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root, look_ahead=look_ahead),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
