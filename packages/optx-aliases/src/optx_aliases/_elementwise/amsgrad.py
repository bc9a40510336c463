"""AMSGrad: Adam with the largest mean square so far in place of the mean square.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·|g|²
x ← max(x, v̂)
u = m̂ / (√(x + eps_root) + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

The paper corrects neither mean: bias_correction_mu=False, bias_correction_nu=False. x is called
`nu_max` in the state.

Reference: Reddi, Kale, Kumar, "On the Convergence of Adam and Beyond", 2018, algorithm 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_core import ScalarOrSchedule, build, chain, scale_by_learning_rate


class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
      nu_max: x, likewise.
    """

    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment
    nu_max: build.SecondMoment


@build.rule(ScaleByAmsgradState)
def scale_by_amsgrad(
    g: Array,
    s: ScaleByAmsgradState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    mu_dtype: build.DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> tuple[Array, ScaleByAmsgradState]:
    """Divides the mean gradient by the root of the largest mean square so far.

    Args:
      b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu: as for `amsgrad`.

    Returns:
      A transformation with a `ScaleByAmsgradState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_amsgrad
      >>> tx = scale_by_amsgrad()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    g = build.squarable(g)
    t = s.count
    m = b1 * s.mu + (1 - b1) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    m_hat = m / (1 - b1**t) if bias_correction_mu else m
    v_hat = v / (1 - b2**t) if bias_correction_nu else v
    x = jnp.maximum(s.nu_max, v_hat)
    return m_hat / (jnp.sqrt(x + eps_root) + eps), s._replace(mu=m, nu=v, nu_max=x)


@build.recorded
def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> build.Transformation:
    """AMSGrad (Reddi, Kale, Kumar, 2018).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      bias_correction_mu: whether to correct the bias of the mean.
      bias_correction_nu: whether to correct the bias of the mean square, before taking the maximum.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import amsgrad
      >>> tx = amsgrad(1e-3)
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )
