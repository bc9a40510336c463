"""Adan: Nesterov's momentum, estimated from the differences of successive gradients.

d = g − gₗₐₛₜ  (0 at the first step)
m ← b1·m + (1 − b1)·g
v ← b2·v + (1 − b2)·d
n ← b3·n + (1 − b3)·|g + look_ahead·d|²
u = (m̂ + look_ahead·v̂) / (√(n̂ + eps_root) + eps),   each hat divided by 1 − bᵗ

The paper's β are 1 − b here, so that look_ahead = b2 in the paper and in its authors' code.

Reference: Xie, Zhou, Li, Lin, Yan, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing
Deep Models", 2022, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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


class ScaleByAdanState(NamedTuple):
    """State of `scale_by_adan`.

    Attributes:
      m: mean of the gradients, a tree of the parameters' structure and shapes.
      v: mean of the differences of successive gradients, likewise.
      n: mean square of the gradients ahead, likewise; real where the parameters are complex.
      g: the last gradient, likewise.
      t: int32 scalar, the number of updates so far.
    """

    m: PyTree
    v: PyTree
    n: PyTree
    g: PyTree
    t: jax.Array


def _leaf(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    n: jax.Array,
    last: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    b3: Decay,
    look_ahead: Scalar,
    eps: Scalar,
    eps_root: Scalar,
    t: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    d = jnp.where(t == 1, 0, g - last)
    m = b1.value * m + b1.complement * g
    v = b2.value * v + b2.complement * d
    n = b3.value * n + b3.complement * tree.abs_squared(g + look_ahead * d)
    ahead = m / bias_correction(b1, t) + look_ahead * v / bias_correction(b2, t)
    size = jnp.sqrt(n / bias_correction(b3, t) + eps_root) + eps
    return ahead / size, m, v, n, g


@recorded
@schedulable("b1", "b2", "b3", "eps", "eps_root", "look_ahead")
def scale_by_adan(
    b1: ScalarOrSchedule = 0.98,
    b2: ScalarOrSchedule = 0.92,
    b3: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    *,
    look_ahead: ScalarOrSchedule | None = None,
) -> GradientTransformationExtraArgs:
    """Rescales gradients by Adan.

    Args:
      b1: decay of the mean gradient, in [0, 1), or a schedule.
      b2: decay of the mean difference, in [0, 1), or a schedule.
      b3: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      look_ahead: the weight of the difference; b2 by default. (optax takes 1 − b2.)

    Returns:
      A transformation with a `ScaleByAdanState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_adan
      >>> tx = scale_by_adan()
      >>> updates, _ = tx.update(jnp.array([4.0, -0.5]), tx.init(jnp.zeros(2)))
      >>> [round(float(u), 5) for u in updates]
      [1.0, -1.0]
    """
    check_number("scale_by_adan", low=0, below=1, b1=b1, b2=b2, b3=b3)
    check_number("scale_by_adan", low=0, eps=eps, eps_root=eps_root, look_ahead=look_ahead)

    def init(params: Params) -> ScaleByAdanState:
        return ScaleByAdanState(
            m=tree.slots_like(params),
            v=tree.slots_like(params),
            n=tree.slots_like(params, real=True),
            g=tree.slots_like(params),
            t=zero_count(),
        )

    def step(flow: Flow, state: ScaleByAdanState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        t = safe_increment(state.t)
        return LeafStep(
            _leaf,
            slots=(state.m, state.v, state.n, state.g),
            close=lambda m, v, n, g: ScaleByAdanState(m, v, n, g, t),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "b3": decay_of(b3),
                "look_ahead": b2 if look_ahead is None else look_ahead,
                "eps": eps,
                "eps_root": eps_root,
                "t": t,
            },
        )

    return leafwise(step, init)


@recorded
def adan(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.98,
    b2: ScalarOrSchedule = 0.92,
    b3: ScalarOrSchedule = 0.99,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    *,
    look_ahead: ScalarOrSchedule | None = None,
) -> GradientTransformationExtraArgs:
    """Adan (Xie et al., 2022), its decay as in AdamW: p ← p − lr·(u + weight_decay·p).

    (The paper divides by 1 + lr·weight_decay instead; the two agree to first order.)

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the mean gradient, in [0, 1), or a schedule.
      b2: decay of the mean difference, in [0, 1), or a schedule.
      b3: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      weight_decay: λ, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      look_ahead: the weight of the difference; b2 by default. (optax takes 1 − b2.)

    Returns:
      A transformation; `update` needs the parameters where they decay.

    Example:
      >>> from optx_aliases import adan
      >>> tx = adan(1e-3, weight_decay=0.02)
    """
    return chain(
        scale_by_adan(b1, b2, b3, eps, eps_root, look_ahead=look_ahead),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
