"""MARS: Adam on gradients whose variance is reduced by the difference from the last ones.

c = g + gamma·b1/(1 − b1)·(g − g′),   g′ the gradient before; g itself at the first step
c ← c / max(‖c‖, 1)                   the norm of one array
m ← b1·m + (1 − b1)·c
v ← b2·v + (1 − b2)·c²
u = m̂ / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

This is MARS-approx: g′ was taken at the last step's parameters with the last batch. For the exact form pass
`update(..., last_grad=...)`, the gradient of this batch at the last parameters. The norm is that of one
array as in the authors' code; the paper knows one vector.

Reference: Yuan, Liu, Wu, Zhou, Gu, "MARS: Unleashing the Power of Variance Reduction for Training Large
Models", 2024, algorithms 1 and 2 (MARS-AdamW).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import root, sum_of_squares
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    Updates,
    chain,
    safe_increment,
    scale_by_learning_rate,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByMarsState(NamedTuple):
    """State of `scale_by_mars`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
      last_grad: g′, likewise.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree
    last_grad: PyTree


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    last: jax.Array,
    given: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    gamma: Scalar,
    eps: Scalar,
    count: jax.Array,
    approximate: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    before = last if approximate else given
    part = jnp.where(count == 1, 0, gamma * b1.value / b1.complement)
    c = g + part * (g - before)
    c = c / jnp.maximum(root(sum_of_squares(c)), 1)
    mu = b1.value * mu + b1.complement * c
    nu = b2.value * nu + b2.complement * tree.abs_squared(c)
    nu_hat = nu / bias_correction(b2, count)
    return mu / bias_correction(b1, count) / (jnp.sqrt(nu_hat) + eps), mu, nu, g


@recorded
@schedulable("b1", "b2", "gamma", "eps")
def scale_by_mars(
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.99,
    gamma: ScalarOrSchedule = 0.025,
    eps: ScalarOrSchedule = 1e-8,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Adam's direction for gradients corrected by their difference from the last ones.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      gamma: strength of the correction, a scalar at least 0, or a schedule; 0 is Adam of normalized
        gradients.
      eps: added to the root, against division by zero.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleByMarsState`. `update` may be given `last_grad`, the gradient of
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
    check_number("scale_by_mars", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_mars", low=0, gamma=gamma, eps=eps)

    def init(params: Params) -> ScaleByMarsState:
        return ScaleByMarsState(
            zero_count(),
            tree.slots_like(params, mu_dtype),
            tree.slots_like(params, nu_dtype, real=True),
            tree.slots_like(params),
        )

    def step(
        flow: Flow,
        state: ScaleByMarsState,
        params: Params = None,
        *,
        last_grad: Updates = None,
        **_: Any,
    ) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu, state.last_grad),
            reads=(state.last_grad if last_grad is None else last_grad,),
            close=lambda mu, nu, last: ScaleByMarsState(count, mu, nu, last),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "gamma": gamma,
                "eps": eps,
                "count": count,
                "approximate": last_grad is None,
            },
        )

    return leafwise(step, init)


@recorded
def mars(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.95,
    b2: ScalarOrSchedule = 0.99,
    gamma: ScalarOrSchedule = 0.025,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """MARS-AdamW (Yuan et al., 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      gamma: strength of the correction, a scalar at least 0, or a schedule.
      eps: added to the root, against division by zero.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters. See `scale_by_mars` for
      `last_grad`.

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
