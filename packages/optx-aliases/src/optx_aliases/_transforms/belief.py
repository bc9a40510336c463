"""The equations of AdaBelief, and the state that ACProp shares.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·|g − m|² + eps_root
u = m̂ / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

With Nesterov's momentum, m̂ = b1·m / (1 − b1ᵗ⁺¹) + (1 − b1)·g / (1 − b1ᵗ). The paper calls v s.

Reference: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
Gradients", 2020, algorithm 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_core import build


class ScaleByBeliefState(NamedTuple):
    """State of `scale_by_belief` and `scale_by_acprop`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment


@build.rule(ScaleByBeliefState)
def scale_by_belief(
    g: Array,
    s: ScaleByBeliefState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-16,
    eps_root: build.Nonnegative = 1e-16,
    *,
    nesterov: bool = False,
) -> tuple[Array, ScaleByBeliefState]:
    """Divides the mean gradient by the root mean square distance of the gradients from it.

    Args:
      b1, b2, eps, eps_root, nesterov: as for `adabelief`.

    Returns:
      A transformation with a `ScaleByBeliefState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_belief
      >>> tx = scale_by_belief(b1=0.5)
      >>> tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))[0]
      Array([ 2., -2.], dtype=float32)
    """
    g = build.squarable(g)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    # eps_root before the last sum: XLA:CPU would compute a sum with a number again for the update.
    v = (b2 * s.nu + eps_root) + (1 - b2) * build.abs_squared(g - m)
    m_hat = m / (1 - b1**t)
    if nesterov:
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    u = m_hat / (jnp.sqrt(v / (1 - b2**t)) + eps)
    return u, s._replace(mu=m, nu=v)
