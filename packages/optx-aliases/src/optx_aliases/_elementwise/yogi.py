"""Yogi: Adam whose mean square moves by steps of the gradient's size, up or down.

m ← b1·m + (1 − b1)·g
v ← v − (1 − b2)·sign(v − |g|²)·|g|²
u = m̂ / (√(v̂ + eps_root) + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

The paper corrects neither mean for its start; here both are, as in the field's implementations.

Reference: Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive Methods for Nonconvex Optimization", 2018,
algorithm 2.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from optx_aliases._transforms.adam import ScaleByAdamState
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
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
    square = tree.abs_squared(g)
    mu = b1.value * mu + b1.complement * g
    nu = nu - b2.complement * jnp.sign(nu - square) * square
    mu_hat = mu / bias_correction(b1, count)
    nu_hat = nu / bias_correction(b2, count)
    return mu_hat / (jnp.sqrt(nu_hat + eps_root) + eps), mu, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_yogi(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-3,
    eps_root: ScalarOrSchedule = 0.0,
    initial_accumulator_value: Scalar = 1e-6,
) -> GradientTransformationExtraArgs:
    """Rescales gradients by Yogi.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: 1 − b2 is the step of the mean square, relative to |g|²; in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      initial_accumulator_value: where `mu` and `nu` start.

    Returns:
      A transformation with a `ScaleByAdamState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_yogi
      >>> tx = scale_by_yogi(eps=0.0, initial_accumulator_value=0.0)
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    check_number("scale_by_yogi", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_yogi", low=0, eps=eps, eps_root=eps_root)
    check_number("scale_by_yogi", low=0, initial_accumulator_value=initial_accumulator_value)

    def init(params: Params) -> ScaleByAdamState:
        start = initial_accumulator_value
        return ScaleByAdamState(
            zero_count(),
            mu=tree.slots_like(params, fill_value=start),
            nu=tree.slots_like(params, real=True, fill_value=start),
        )

    def step(flow: Flow, state: ScaleByAdamState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByAdamState(count, mu, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "eps": eps,
                "eps_root": eps_root,
                "count": count,
            },
        )

    return leafwise(step, init)


@recorded
def yogi(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-3,
) -> GradientTransformationExtraArgs:
    """Yogi (Zaheer et al., 2018).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: 1 − b2 is the step of the mean square, relative to |g|²; in [0, 1), or a schedule.
      eps: added to the root, against division by zero.

    Returns:
      A transformation.

    Example:
      >>> from optx_aliases import yogi
      >>> tx = yogi(1e-2)
    """
    return chain(scale_by_yogi(b1, b2, eps), scale_by_learning_rate(learning_rate))
