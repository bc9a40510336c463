"""MADGRAD: dual averaging with the cube root of AdaGrad's sum, and momentum as an average of iterates.

λ = (lr + eps)·√(t + 1),   t = 0 at the first step
v ← v + λ·g²
s ← s + λ·g
z = x₀ − s / (∛v + eps)
p ← momentum·p + (1 − momentum)·z

where x₀ are the initial parameters. As in the authors' code, eps is added to the learning rate and to the
root; algorithm 1 of the paper has neither, and its initial v is not zero.

Reference: Defazio, Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged
Gradient Method for Stochastic Optimization", 2021, algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import PyTree, ScalarOrSchedule, build, chain


class MadgradState(NamedTuple):
    """State of `scale_by_madgrad`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      grad_sum_sq: v, a tree of the parameters' structure and shapes; real where they are complex.
      s: the weighted sum of gradients, likewise.
      x0: the parameters at the start.
    """

    count: build.Count
    grad_sum_sq: build.SecondMoment
    s: build.Moment
    x0: Annotated[PyTree, build.slot(fill="params", constant=True)]


@build.rule(MadgradState, params=True)
def scale_by_madgrad(
    g: Array,
    p: Array,
    s: MadgradState,
    /,
    learning_rate: build.LearningRate,
    momentum: build.Rate = 0.9,
    eps: build.Positive = 1e-6,
) -> tuple[Array, MadgradState]:
    """Turns gradients into MADGRAD's steps, learning rate included.

    Args:
      learning_rate, momentum, eps: as for `madgrad`.

    Returns:
      A transformation with a `MadgradState`; `update` needs the parameters. Its updates are added to the
      parameters as they are, without a change of sign.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_madgrad
      >>> tx, p = scale_by_madgrad(1.0, momentum=0.0), jnp.array([1.0])
      >>> round(float(tx.update(jnp.array([8.0]), tx.init(p), p)[0][0]), 4)
      -2.0
    """
    g = build.squarable(g)
    lr = jnp.asarray(learning_rate) + eps
    weight = lr * jnp.sqrt(s.count.astype(lr.dtype))
    v = s.grad_sum_sq + weight * build.abs_squared(g)
    sum_ = s.s + weight * g
    z = s.x0 - sum_ / (jnp.cbrt(v) + eps)
    return (1 - momentum) * (z - p), s._replace(grad_sum_sq=v, s=sum_)


@build.recorded
def madgrad(
    learning_rate: ScalarOrSchedule,
    momentum: ScalarOrSchedule = 0.9,
    weight_decay: ScalarOrSchedule = 0.0,
    eps: ScalarOrSchedule = 1e-6,
    mask: build.Mask = None,
) -> build.Transformation:
    """MADGRAD (Defazio and Jelassi, 2021).

    Args:
      learning_rate: lr, a scalar at least 0, or a schedule. It is the weight of this step's gradient in the
        sums: a rate that falls to zero freezes the sums, not the parameters.
      momentum: the weight of p in the average of iterates, in [0, 1), or a schedule.
      weight_decay: λ in g + λ·p, a scalar at least 0, or a schedule. The paper recommends less than for
        SGD, often 0.
      eps: added to the learning rate and to the cube root; greater than 0, since entries whose gradients
        have all been zero would otherwise become NaN.
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
