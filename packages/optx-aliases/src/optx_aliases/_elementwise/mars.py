"""MARS: Adam on gradients whose variance is reduced by their difference from the last ones.

c = g + gamma·b1/(1 − b1)·(g − g′),   g′ the last gradient; c = g at the first step
c ← c / max(‖c‖, 1)                   the norm of one array
m ← b1·m + (1 − b1)·c
v ← b2·v + (1 − b2)·c²
u = m̂ / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

This is MARS-approx: g′ was computed at the last step's parameters on the last batch. For the exact form pass
`update(..., last_grad=...)`, the gradient of this batch at the last parameters. The norm is that of one
array, as in the authors' code; the paper treats all parameters as one vector.

Reference: Yuan, Liu, Wu, Zhou, Gu, "MARS: Unleashing the Power of Variance Reduction for Training Large
Models", 2024, algorithms 1 and 2 (MARS-AdamW).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.scalars import root
from optx_aliases._transforms.weight_decay import decayed
from optx_core import ScalarOrSchedule, build, chain, safe_increment, scale_by_learning_rate, tree


class ScaleByMarsState(NamedTuple):
    """State of `scale_by_mars`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
      last_grad: g′, a tree of the parameters' structure and shapes.
    """

    count: build.Count
    mu: build.Moment
    nu: build.SecondMoment
    last_grad: build.Moment


def _leaf(
    g: Array,
    mu: Array,
    nu: Array,
    kept: Array,
    given: Array | None = None,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    gamma: Array,
    eps: Array,
    t: Array,
) -> tuple[Array, Array, Array, Array]:
    last = kept if given is None else given
    c = g + jnp.where(t == 1, 0, b1 * gamma / (1 - b1)) * (g - last)
    c = c / jnp.maximum(root(jnp.sum(build.abs_squared(c))), 1)
    m = b1 * mu + (1 - b1) * c
    v = b2 * nu + (1 - b2) * build.abs_squared(c)
    return m / (1 - b1**t) / (jnp.sqrt(v / (1 - b2**t)) + eps), m, v, g


@build.recorded
@build.schedulable("b1", "b2", "gamma", "eps")
def scale_by_mars(
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.99,
    gamma: ScalarOrSchedule = 0.025,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """Adam's step for gradients corrected by their difference from the last ones.

    Args:
      b1, b2, gamma, eps, mu_dtype, nu_dtype: as for `mars`.

    Returns:
      A transformation with a `ScaleByMarsState`. `update` takes an optional `last_grad`, the gradient of
      this batch at the parameters of the step before.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_mars
      >>> tx = scale_by_mars()
      >>> updates, _ = tx.update(jnp.array([3.0, -4.0]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    build.check_number("scale_by_mars", low=0, below=1, b1=b1, b2=b2)
    build.check_number("scale_by_mars", low=0, gamma=gamma, eps=eps)

    def init(params: Any) -> ScaleByMarsState:
        return ScaleByMarsState(
            build.zero_count(),
            tree.slots_like(params, mu_dtype),
            tree.slots_like(params, nu_dtype, real=True),
            tree.slots_like(params),
        )

    def step(
        _flow: build.Flow,
        state: ScaleByMarsState,
        _params: Any = None,
        *,
        last_grad: Any = None,
        **_: Any,
    ) -> build.LeafStep:
        t = safe_increment(state.count)
        return build.LeafStep(
            _leaf,
            slots=(state.mu, state.nu, state.last_grad),
            reads=() if last_grad is None else (last_grad,),
            close=lambda mu, nu, last: ScaleByMarsState(t, mu, nu, last),
            operands={
                "b1": build.rate_of(b1),
                "b2": build.rate_of(b2),
                "gamma": gamma,
                "eps": eps,
                "t": t,
            },
        )

    return build.leafwise(step, init)


@build.recorded
def mars(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.99,
    gamma: ScalarOrSchedule = 0.025,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """MARS-AdamW (Yuan et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      gamma: strength of the correction, a scalar at least 0, or a schedule; 0 gives Adam on normalized
        gradients.
      eps: added to the root, to avoid division by zero.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of the mean; by default the parameters', at least float32.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters. `update` takes an optional
      `last_grad`, the gradient of this batch at the parameters of the step before.

    Example:
      >>> from optx_aliases import mars
      >>> mars(3e-3) == mars(learning_rate=3e-3)
      True
    """
    return chain(
        scale_by_mars(b1, b2, gamma, eps, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
