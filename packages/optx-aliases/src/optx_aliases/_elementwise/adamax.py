"""Adamax: Adam with the largest gradient so far, slowly forgotten, in place of the mean square.

m ← b1·m + (1 − b1)·g
v ← max(b2·v, |g| + eps)
u = m̂ / v,   m̂ = m / (1 − b1ᵗ)

References: Kingma, Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2; with
decoupled weight decay (Loshchilov, Hutter, 2019) Adamaxw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_aliases._transforms.weight_decay import decayed
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
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


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Scalar,
    eps: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    nu = jnp.maximum(b2 * nu, jnp.abs(g) + eps)
    zero = nu == 0
    mu_hat = mu / bias_correction(b1, count)
    return jnp.where(zero, 0, mu_hat / jnp.where(zero, 1, nu)), mu, nu


@recorded
@schedulable("b1", "b2", "eps")
def scale_by_adamax(
    b1: ScalarOrSchedule = 0.9, b2: ScalarOrSchedule = 0.999, eps: ScalarOrSchedule = 1e-8
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by the largest of them, slowly forgotten.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: the factor by which the maximum shrinks at each step, in [0, 1], or a schedule.
      eps: added to the gradient's size, against division by zero.

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
    check_number("scale_by_adamax", low=0, below=1, b1=b1)
    check_number("scale_by_adamax", low=0, high=1, b2=b2)
    check_number("scale_by_adamax", low=0, eps=eps)

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(), tree.slots_like(params), tree.slots_like(params, real=True)
        )

    def step(flow: Flow, state: ScaleByAdamState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByAdamState(count, mu, nu),
            operands={"b1": decay_of(b1), "b2": b2, "eps": eps, "count": count},
        )

    return leafwise(step, init)


@recorded
def adamax(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
) -> GradientTransformationExtraArgs:
    """Adamax (Kingma and Ba, 2015).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: the factor by which the maximum shrinks at each step, in [0, 1], or a schedule.
      eps: added to the gradient's size, against division by zero.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import adamax
      >>> tx = adamax(2e-3)
    """
    return chain(scale_by_adamax(b1, b2, eps), scale_by_learning_rate(learning_rate))


@recorded
def adamaxw(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Adamax with decoupled weight decay: p ← p − lr·(u + weight_decay·p).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: the factor by which the maximum shrinks at each step, in [0, 1], or a schedule.
      eps: added to the gradient's size, against division by zero.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters where they decay.

    Example:
      >>> from optx_aliases import adamaxw
      >>> tx = adamaxw(2e-3, weight_decay=1e-2)
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
