"""Simplified AdEMAMix: one sum of gradients, and the newest gradient mixed in.

m ← b1·m + g
v ← b2·v + (1 − b2)·g²
u = (m + alpha·g) / (√(v̂ + eps_root) + eps),   v̂ = v / (1 − b2ᵗ)

m is a sum, not a mean: the learning rate is about (1 − b1) times Adam's.

Reference: Morwani, Vyas, Zhang, Kakade, "Connections between Schedule-Free Optimizers, AdEMAMix, and
Accelerated SGD Variants", 2025, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import value_at
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


class ScaleBySimplifiedAdEMAMixState(NamedTuple):
    """State of `scale_by_simplified_ademamix`.

    Attributes:
      t: int32 scalar, the number of updates so far.
      m: the sum of gradients, a tree of the parameters' structure and shapes.
      n: v, likewise; real where the parameters are complex.
    """

    t: jax.Array
    m: PyTree
    n: PyTree


def _leaf(
    g: jax.Array,
    m: jax.Array,
    n: jax.Array,
    *,
    b1: Scalar,
    b2: Decay,
    alpha: Scalar,
    eps: Scalar,
    eps_root: Scalar,
    t: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    m = b1 * m + g
    n = b2.value * n + b2.complement * tree.abs_squared(g)
    n_hat = n / bias_correction(b2, t)
    return (m + alpha * g) / (jnp.sqrt(n_hat + eps_root) + eps), m, n


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_simplified_ademamix(
    b1: ScalarOrSchedule = 0.99,
    b2: ScalarOrSchedule = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Divides a sum of gradients, the newest one mixed in, by the root of their mean square.

    Args:
      b1: decay of the sum, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      alpha: extra weight of the newest gradient, or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `m`; by default the parameters', at least float32.
      nu_dtype: dtype of `n`; by default the parameters', at least float32.

    Returns:
      A transformation with a `ScaleBySimplifiedAdEMAMixState`.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_simplified_ademamix
      >>> tx = scale_by_simplified_ademamix(alpha=2.0)
      >>> updates, _ = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 5)
      3.0
    """
    where = "scale_by_simplified_ademamix"
    check_number(where, low=0, below=1, b1=b1, b2=b2)
    check_number(where, low=0, alpha=alpha, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleBySimplifiedAdEMAMixState:
        return ScaleBySimplifiedAdEMAMixState(
            zero_count(),
            m=tree.slots_like(params, mu_dtype),
            n=tree.slots_like(params, nu_dtype, real=True),
        )

    def step(
        flow: Flow, state: ScaleBySimplifiedAdEMAMixState, params: Params = None, **_: Any
    ) -> LeafStep:
        del flow, params
        t = safe_increment(state.t)
        return LeafStep(
            _leaf,
            slots=(state.m, state.n),
            close=lambda m, n: ScaleBySimplifiedAdEMAMixState(t, m, n),
            operands={
                "b1": b1,
                "b2": decay_of(b2),
                "alpha": value_at(alpha, state.t),
                "eps": eps,
                "eps_root": eps_root,
                "t": t,
            },
        )

    return leafwise(step, init)


@recorded
def simplified_ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.99,
    b2: ScalarOrSchedule = 0.95,
    alpha: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Simplified AdEMAMix (Morwani et al., 2025).

    Args:
      learning_rate: a scalar, or a schedule; about (1 − b1) times what Adam takes.
      b1: decay of the sum of gradients, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      alpha: extra weight of the newest gradient, or a schedule.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      mu_dtype: dtype of `m`; by default the parameters', at least float32.
      nu_dtype: dtype of `n`; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import simplified_ademamix
      >>> simplified_ademamix(1e-5) == simplified_ademamix(learning_rate=1e-5)
      True
    """
    return chain(
        scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
