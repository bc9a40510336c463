"""RAdam: Adam that uses its mean square only once it has averaged enough gradients.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·|g|²
ρ∞ = 2 / (1 − b2) − 1,   ρ = ρ∞ − 2·t·b2ᵗ / (1 − b2ᵗ)
u = r·m̂ / (√(v̂ + eps_root) + eps) where ρ ≥ threshold, else m̂
r = √((ρ − 4)·(ρ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρ))

Reference: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020, algorithm 2
(there the threshold is 4). With Nesterov's momentum, m̂ is that of NAdam.
"""

from __future__ import annotations

from typing import Annotated, Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.rule(ScaleByAdamState)
def scale_by_radam(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    threshold: Annotated[Any, build.Number(low=4)] = 5.0,
    *,
    nesterov: bool = False,
) -> tuple[Array, ScaleByAdamState]:
    """Rescales gradients by rectified Adam.

    Args:
      b1, b2, eps, eps_root, threshold, nesterov: as for `radam`.

    Returns:
      A transformation with a `ScaleByAdamState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_radam
      >>> tx = scale_by_radam()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]  # at first the mean itself
      [4.0, -0.5]
    """
    g = build.squarable(g)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    m_hat = m / (1 - b1**t)
    if nesterov:
        m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    correction = 1 - b2**t
    rho_inf = 2 / (1 - b2) - 1
    rho = rho_inf - 2 * t.astype(correction.dtype) * (1 - correction) / correction
    ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    rectify = (rho >= threshold) & (ratio > 0)
    r = jnp.sqrt(jnp.where(rectify, ratio, 1))
    rectified = r * m_hat / (jnp.sqrt(v / correction + eps_root) + eps)
    return jnp.where(rectify, rectified, m_hat), s._replace(mu=m, nu=v)


@build.recorded
def radam(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    threshold: ScalarOrSchedule = 5.0,
    *,
    nesterov: bool = False,
) -> build.Transformation:
    """Rectified Adam (Liu et al., 2020).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root; needed (1e-8, say) to differentiate through the update.
      threshold: the effective number of gradients ρ from which the mean square is used, at least 4, or a
        schedule.
      nesterov: whether to use Nesterov's momentum.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import radam
      >>> tx = radam(1e-3)
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
