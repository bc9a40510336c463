"""ACProp: gradients divided by a centered second moment from the step before.

u = g / (√v̂ + eps),   v̂ = v / (1 − b2ᵗ⁻¹) with the old v; v̂ = 1 at the first step
v ← b2·v + (1 − b2)·|g − m|² + eps_root with the old m
m ← b1·m + (1 − b1)·g

The denominator is independent of this step's gradient (asynchronous), and measures how far gradients are
from their mean (centered). The paper, which calls v s, centers at the new m; this centers at the old one, as
optax does. Since g − m′ = b1·(g − m), the two v differ by the constant factor b1².

Reference: Zhuang, Ding, Tang, Dvornek, Tatikonda, Duncan, "Momentum Centering and Asynchronous Update
for Adaptive Gradient Methods", 2021, algorithm 1.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.belief import ScaleByBeliefState
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


@build.rule(ScaleByBeliefState)
def scale_by_acprop(
    g: Array,
    s: ScaleByBeliefState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-16,
    eps_root: build.Nonnegative = 1e-16,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> tuple[Array, ScaleByBeliefState]:
    """Divides the gradients by the root of the variance up to the step before.

    Args:
      b1, b2, eps, eps_root, mu_dtype, nu_dtype: as for `acprop`.

    Returns:
      A transformation with a `ScaleByBeliefState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_acprop
      >>> tx = scale_by_acprop()
      >>> updates, _ = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 5)
      4.0
    """
    g = build.squarable(g)
    t = s.count
    v_hat = jnp.where(t == 1, 1, s.nu / (1 - b2 ** jnp.maximum(t - 1, 1)))
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g - s.mu) + eps_root
    m = b1 * s.mu + (1 - b1) * g
    return g / (jnp.sqrt(v_hat) + eps), s._replace(mu=m, nu=v)


@build.recorded
def acprop(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """ACProp (Zhuang et al., 2021).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean gradient, in [0, 1), or a schedule.
      b2: decay rate of the variance, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added to the variance at every step.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nu_dtype: dtype of the variance; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import acprop
      >>> acprop(1e-3) == acprop(learning_rate=1e-3)
      True
    """
    return chain(
        scale_by_acprop(b1, b2, eps, eps_root, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
