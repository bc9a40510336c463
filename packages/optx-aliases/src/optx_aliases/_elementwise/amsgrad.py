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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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


class ScaleByAmsgradState(NamedTuple):
    """State of `scale_by_amsgrad`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      mu: m, a tree of the parameters' structure and shapes.
      nu: v, likewise; real where the parameters are complex.
      nu_max: x, likewise.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    mu: PyTree
    nu: PyTree
    nu_max: PyTree


def _leaf(
    g: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    nu_max: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: Scalar,
    eps_root: Scalar,
    count: jax.Array,
    correct_mu: bool,
    correct_nu: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    nu = b2.value * nu + b2.complement * tree.abs_squared(g)
    mu_hat = mu / bias_correction(b1, count) if correct_mu else mu
    nu_max = jnp.maximum(nu_max, nu / bias_correction(b2, count) if correct_nu else nu)
    return mu_hat / (jnp.sqrt(nu_max + eps_root) + eps), mu, nu, nu_max


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_amsgrad(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformationExtraArgs:
    """Divides the mean of the gradients by the root of the largest mean square so far.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      bias_correction_mu: whether to correct the mean for its start at zero.
      bias_correction_nu: whether to correct the mean square, before the maximum is taken.

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
    check_number("scale_by_amsgrad", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_amsgrad", low=0, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleByAmsgradState:
        return ScaleByAmsgradState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, real=True),
            nu_max=tree.slots_like(params, real=True),
        )

    def step(flow: Flow, state: ScaleByAmsgradState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu, state.nu_max),
            close=lambda mu, nu, nu_max: ScaleByAmsgradState(count, mu, nu, nu_max),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "count": count,
                "correct_mu": bool(bias_correction_mu),
                "correct_nu": bool(bias_correction_nu),
            },
        )

    return leafwise(step, init)


@recorded
def amsgrad(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> GradientTransformationExtraArgs:
    """AMSGrad (Reddi, Kale, Kumar, 2018).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      bias_correction_mu: whether to correct the mean for its start at zero.
      bias_correction_nu: whether to correct the mean square, before the maximum is taken.

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
