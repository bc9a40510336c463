"""Grams: Adam decides how far each entry moves, the gradient alone in which direction.

m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·g²
u = sign(g)·|m̂| / (√v̂ + eps),   m̂ = m / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

Reference: Cao, Li, Song, "Grams: Gradient Descent with Adaptive Momentum Scaling", 2024, algorithm 1.
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
    b2: Decay,
    eps: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1.value * mu + b1.complement * g
    nu = b2.value * nu + b2.complement * tree.abs_squared(g)
    size = jnp.abs(mu) / bias_correction(b1, count)
    return jnp.sign(g) * (size / (jnp.sqrt(nu / bias_correction(b2, count)) + eps)), mu, nu


@recorded
@schedulable("b1", "b2", "eps")
def scale_by_grams(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-6,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Gives Adam's step the gradient's sign, entry by entry.

    Args:
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
    check_number("scale_by_grams", low=0, below=1, b1=b1, b2=b2)
    check_number("scale_by_grams", low=0, eps=eps)

    def init(params: Params) -> ScaleByAdamState:
        return ScaleByAdamState(
            zero_count(),
            mu=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, nu_dtype, real=True),
        )

    def step(flow: Flow, state: ScaleByAdamState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        count = safe_increment(state.count)
        return LeafStep(
            _leaf,
            slots=(state.mu, state.nu),
            close=lambda mu, nu: ScaleByAdamState(count, mu, nu),
            operands={"b1": decay_of(b1), "b2": decay_of(b2), "eps": eps, "count": count},
        )

    return leafwise(step, init)


@recorded
def grams(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Grams (Cao, Li and Song, 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `mu`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
