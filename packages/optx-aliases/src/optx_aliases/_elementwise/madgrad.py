"""MADGRAD: dual averaging with the cube root of AdaGrad's sum, and momentum as an average of iterates.

λ = (lr + eps)·√(t + 1),   t = 0 at the first step
v ← v + λ·g²
s ← s + λ·g
z = x₀ − s / (∛v + eps)
p ← momentum·p + (1 − momentum)·z

As in the authors' code eps is added to the learning rate and to the root; the paper has neither in
its algorithm 1, whose first v is not zero.

Reference: Defazio, Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged
Gradient Method for Stochastic Optimization", 2021, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.weight_decay import decayed
from optx_aliases._transforms.whole_tree import copy_of, value_at
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    chain,
    safe_increment,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    decay_of,
    leafwise,
    need_params,
    recorded,
    schedulable,
    zero_count,
)


class MadgradState(NamedTuple):
    """State of `scale_by_madgrad`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      grad_sum_sq: v, a tree of the parameters' structure and shapes; real where they are complex.
      s: the weighted sum of gradients, likewise.
      x0: the parameters at the start.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    grad_sum_sq: PyTree
    s: PyTree
    x0: PyTree


def _leaf(
    g: jax.Array,
    v: jax.Array,
    s: jax.Array,
    p: jax.Array,
    x0: jax.Array,
    *,
    learning_rate: Scalar,
    momentum: Decay,
    eps: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    lr = jnp.asarray(learning_rate) + eps
    weight = lr * jnp.sqrt((count + 1).astype(lr.dtype))
    v = v + weight * tree.abs_squared(g)
    s = s + weight * g
    z = x0 - s / (jnp.cbrt(v) + eps)
    return momentum.complement * (z - p), v, s


@recorded
@schedulable("momentum", "eps")
def scale_by_madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    eps: ScalarOrSchedule = 1e-6,
) -> GradientTransformationExtraArgs:
    """Turns gradients into MADGRAD's steps, which include the learning rate.

    Args:
      learning_rate: lr, a scalar at least 0, or a schedule. It weighs this step's gradient in the
        sums: one that falls to zero stops what is added, not the parameters.
      momentum: in [0, 1), or a schedule.
      eps: added to the learning rate and to the cube root; greater than 0, or entries whose gradients
        have all been zero become NaN.

    Returns:
      A transformation with a `MadgradState`; `update` needs the parameters. Its updates are to be
      added, with no sign flipped.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_madgrad
      >>> tx, p = scale_by_madgrad(1.0, momentum=0.0), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([8.0]), tx.init(p), p)[0][0]), 4)
      -2.0
    """
    check_number("scale_by_madgrad", low=0, learning_rate=learning_rate)
    check_number("scale_by_madgrad", low=0, below=1, momentum=momentum)
    check_number("scale_by_madgrad", above=0, eps=eps)

    def init(params: Params) -> MadgradState:
        return MadgradState(
            zero_count(),
            tree.slots_like(params, real=True),
            tree.slots_like(params),
            copy_of(params),
        )

    def step(flow: Flow, state: MadgradState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        return LeafStep(
            _leaf,
            slots=(state.grad_sum_sq, state.s),
            reads=(params, state.x0),
            close=lambda v, s: MadgradState(safe_increment(state.count), v, s, state.x0),
            operands={
                "learning_rate": value_at(learning_rate, state.count),
                "momentum": decay_of(momentum),
                "eps": eps,
                "count": state.count,
            },
        )

    return leafwise(step, init)


@recorded
def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    weight_decay: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-6,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """MADGRAD (Defazio and Jelassi, 2021).

    Args:
      learning_rate: a scalar at least 0, or a schedule.
      momentum: in [0, 1), or a schedule.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule. The paper advises less than for
        SGD, often 0.
      eps: added to the learning rate and to the cube root, greater than 0.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation; `update` needs the parameters.

    Example:
      >>> from optx_aliases import madgrad
      >>> madgrad(1e-2) == madgrad(learning_rate=1e-2)
      True
    """
    return chain(
        decayed(weight_decay, mask),
        scale_by_madgrad(learning_rate, momentum, eps),
    )
