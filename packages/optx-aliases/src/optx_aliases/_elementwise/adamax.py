"""Adamax: Adam with a decaying maximum of the gradients in place of the mean square.

m ← b1·m + (1 − b1)·g
v ← max(b2·v, |g| + eps)
u = m̂ / v,   m̂ = m / (1 − b1ᵗ)

References: Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2; Loshchilov,
Hutter, "Decoupled Weight Decay Regularization", 2019 (the decay of Adamaxw).
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.rule(ScaleByAdamState)
def scale_by_adamax(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.ClosedRate = 0.999,
    eps: build.Nonnegative = 1e-8,
) -> tuple[Array, ScaleByAdamState]:
    """Divides the mean gradient by a decaying maximum of the gradients' absolute values.

    Args:
      b1, b2, eps: as for `adamax`.

    Returns:
      A transformation with a `ScaleByAdamState`, whose `nu` is the maximum v.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adamax
      >>> tx = scale_by_adamax()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.1]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    m = b1 * s.mu + (1 - b1) * g
    v = jnp.maximum(b2 * s.nu, jnp.abs(g) + eps)
    m_hat = m / (1 - b1**s.count)
    u = jnp.where(v == 0, 0, m_hat / jnp.where(v == 0, 1, v))
    return u, s._replace(mu=m, nu=v)


@build.recorded
def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
) -> build.Transformation:
    """Adamax (Kingma and Ba, 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean gradient, in [0, 1), or a schedule.
      b2: decay rate of the maximum, in [0, 1], or a schedule.
      eps: added to the gradient's absolute value, to avoid division by zero.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import adamax
      >>> tx = adamax(2e-3)
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@build.recorded
def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: build.Mask = None,
) -> build.Transformation:
    """Adamax with decoupled weight decay: p ← p − lr·(u + weight_decay·p).

    Args:
      learning_rate, b1, b2, eps: as for `adamax`.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import adamaxw
      >>> tx = adamaxw(2e-3, weight_decay=1e-2)
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
