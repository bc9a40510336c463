"""ACProp: gradients divided by a centered second moment that is one step old.

u = g / (√ŝ + eps),   ŝ = s / (1 − b2ᵗ⁻¹), with s of the steps before; ŝ = 1 at the first step
s ← b2·s + (1 − b2)·(g − m)² + eps_root,   m of the steps before
m ← b1·m + (1 − b1)·g

The denominator does not know this step's gradient (it is asynchronous), and measures how far
gradients are from their mean (it is centered). The paper centers at the new m, this at the old one, as
optax does: g − m′ = b1·(g − m), so that the two s differ by the constant factor b1².

Reference: Zhuang, Ding, Tang, Dvornek, Tatikonda, Duncan, "Momentum Centering and Asynchronous Update
for Adaptive Gradient Methods", 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._elementwise.adabelief import ScaleByBeliefState
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
    b2: Decay,
    eps: Scalar,
    eps_root: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    first = count == 0
    correction = bias_correction(b2, jnp.maximum(count, 1))
    nu_hat = jnp.where(first, 1, nu / correction)
    error = g - mu
    mu = b1.value * mu + b1.complement * g
    nu = b2.value * nu + b2.complement * tree.abs_squared(error) + eps_root
    return g / (jnp.sqrt(nu_hat) + eps), mu, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_acprop(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Divides the gradients by the root of their variance as it was a step ago.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the variance, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added to the variance at each step.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
    check_number("scale_by_acprop", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_acprop", low=0, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleByBeliefState:
        return ScaleByBeliefState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, nu_dtype, real=True),
        )

    def step(flow: Flow, state: ScaleByBeliefState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByBeliefState(safe_increment(state.count), mu, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "count": state.count,
            },
        )

    return leafwise(step, init)


@recorded
def acprop(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-16,
    eps_root: ScalarOrSchedule = 1e-16,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """ACProp (Zhuang et al., 2021).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the variance, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added to the variance at each step.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
