"""Grams: Adam determines how far each entry moves, the gradient its direction.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·g²
u = sign(g)·|m̂| / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

Reference: Cao, Li, Song, "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024, algorithm 1.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.rule(ScaleByAdamState)
def scale_by_grams(
    g: Array,
    s: ScaleByAdamState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-6,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> tuple[Array, ScaleByAdamState]:
    """Gives each entry of Adam's step the sign of the gradient.

    Args:
      b1, b2, eps, mu_dtype, nu_dtype: as for `grams`.

    Returns:
      A transformation with a `ScaleByAdamState`. The sign of a complex gradient is g / |g|.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_grams
      >>> tx = scale_by_grams(b1=0.5)
      >>> _, state = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
      >>> bool(tx.update(jnp.array([-1.0]), state)[0][0] < 0)
      True
    """
    g = build.squarable(g)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    size = jnp.abs(m) / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t)) + eps)
    return jnp.sign(g) * size, s._replace(mu=m, nu=v)


@build.recorded
def grams(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """Grams (Cao, Li and Song, 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import grams
      >>> grams(1e-3) == grams(learning_rate=1e-3)
      True
    """
    return chain(
        scale_by_grams(b1, b2, eps, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
