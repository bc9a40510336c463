"""The equations of Adam, which several optimizers share.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·g²
u = m̂ / (√(v̂ + eps_root) + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

With Nesterov's momentum, m̂ = b1·m / (1 − b1ᵗ⁺¹) + (1 − b1)·g / (1 − b1ᵗ).

References: Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Dozat,
"Incorporating Nesterov Momentum into Adam", 2016.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_core import build


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
    """

    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment


@build.rule(ScaleByAdamState)
def scale_by_adam(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
    *,
    nesterov: bool = False,
) -> tuple[Array, ScaleByAdamState]:
    """Divides the mean of the gradients by the root of the mean of their squares.

    Args:
      b1, b2, eps, eps_root, mu_dtype, nu_dtype, nesterov: as for `adam`.

    Returns:
      A transformation with a `ScaleByAdamState`. A zero gradient from the first step on gives zero
      updates.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adam
      >>> tx = scale_by_adam()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    g = build.squarable(g)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    m_hat = m / (1 - b1**t)
    if nesterov:
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    u = m_hat / (jnp.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return u, s._replace(mu=m, nu=v)
