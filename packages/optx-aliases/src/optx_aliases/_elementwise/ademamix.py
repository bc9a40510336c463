"""AdEMAMix: Adam with a second, much slower mean of the gradients mixed in.

m1 ← b1·m1 + (1 − b1)·g
m2 ← b3·m2 + (1 − b3)·g
v ← b2·v + (1 − b2)·g²
u = (m̂1 + alpha·m2) / (√(v̂ + eps_root) + eps),   m̂1 = m1 / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

The paper warms alpha and b3 up over T steps, at step t counted from 1:

alphaₜ = alpha·min(t / T, 1)
1 / ln b3ₜ = (1 − t/T) / ln b_start + (t/T) / ln b3       (a linear growth of the mean's half-life)

Reference: Pagliardini, Ablin, Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", 2024,
algorithm 1 and section 3 (schedulers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._transforms.weight_decay import decayed
from optx_core import PyTree, ScalarOrSchedule, build, chain, scale_by_learning_rate


class ScaleByAdemamixState(NamedTuple):
    """State of `scale_by_ademamix`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      count_m2: int32 scalar, the count at which schedules of `alpha` and `b3` are evaluated.
      m1: the fast mean, a tree of the parameters' structure and shapes.
      m2: the slow mean, likewise.
      nu: v, likewise; real where the parameters are complex.
    """

    count: build.Count
    count_m2: build.Count
    m1: Annotated[PyTree, build.slot(dtype="mu_dtype")]
    m2: Annotated[PyTree, build.slot(dtype="mu_dtype")]
    nu: build.SecondMoment


class _Warmup(build.Recorded):
    """A schedule that prints and compares as the call that made it."""

    def __init__(self, value: Callable[[Array], Array], steps: int) -> None:
        self.value = value
        self.steps = steps

    def __call__(self, count: Any) -> Array:
        t = jnp.asarray(count).astype(float) + 1
        return self.value(jnp.minimum(t, self.steps) / self.steps)


@build.recorded
def ademamix_alpha_schedule(alpha: float, warmup_steps: int) -> _Warmup:
    """AdEMAMix's schedule of `alpha`: a linear warmup from 0, then constant.

    Args:
      alpha: the final value.
      warmup_steps: the number of warmup steps, at least 1.

    Returns:
      A function of the number of updates so far.

    Example:
      >>> from optx_aliases import ademamix_alpha_schedule
      >>> [float(ademamix_alpha_schedule(8.0, 4)(count)) for count in (0, 1, 3, 9)]
      [2.0, 4.0, 8.0, 8.0]
    """
    build.check_number("ademamix_alpha_schedule", low=1, warmup_steps=warmup_steps)
    return _Warmup(lambda fraction: alpha * fraction, warmup_steps)


@build.recorded
def ademamix_b3_schedule(b3: float, warmup_steps: int, b_start: float = 0.9) -> _Warmup:
    """AdEMAMix's schedule of `b3`: the slow mean's half-life grows linearly, then stays constant.

    Args:
      b3: the final value, in (0, 1).
      warmup_steps: the number of warmup steps, at least 1.
      b_start: the initial value, in (0, 1); the paper uses `b1`.

    Returns:
      A function of the number of updates so far.

    Example:
      >>> from optx_aliases import ademamix_b3_schedule
      >>> [round(float(ademamix_b3_schedule(0.99, 2, 0.9)(count)), 4) for count in (0, 1, 9)]
      [0.9818, 0.99, 0.99]
    """
    build.check_number("ademamix_b3_schedule", low=1, warmup_steps=warmup_steps)
    build.check_number("ademamix_b3_schedule", above=0, below=1, b3=b3, b_start=b_start)

    def value(fraction: Array) -> Array:
        slow, fast = (jnp.log(jnp.asarray(b, fraction.dtype)) for b in (b3, b_start))
        return jnp.exp(1 / ((1 - fraction) / fast + fraction / slow))

    return _Warmup(value, warmup_steps)


@build.rule(ScaleByAdemamixState)
def scale_by_ademamix(
    g: Array,
    s: ScaleByAdemamixState,
    /,
    b1: build.Rate = 0.9,
    b2: build.Rate = 0.999,
    b3: Annotated[Any, build.Number(low=0, below=1, rate=True, own_count="count_m2")] = 0.9999,
    alpha: Annotated[Any, build.Number(low=0, own_count="count_m2")] = 6.0,
    eps: build.Nonnegative = 1e-8,
    eps_root: build.Nonnegative = 0.0,
    mu_dtype: build.DType = None,
    nu_dtype: build.DType = None,
) -> tuple[Array, ScaleByAdemamixState]:
    """Divides a mixture of a fast and a slow mean gradient by the root mean square.

    Args:
      b1, b2, b3, alpha, eps, eps_root, mu_dtype, nu_dtype: as for `ademamix`.

    Returns:
      A transformation with a `ScaleByAdemamixState`. The slow mean is not debiased, as in the paper.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import scale_by_ademamix
      >>> tx = scale_by_ademamix(b3=0.5, alpha=2.0)
      >>> updates, _ = tx.update(jnp.array([4.0]), tx.init(jnp.zeros(1)))
      >>> round(float(updates[0]), 5)
      2.0
    """
    g = build.squarable(g)
    t = s.count
    m1 = b1 * s.m1 + (1 - b1) * g
    m2 = b3 * s.m2 + (1 - b3) * g
    v = b2 * s.nu + (1 - b2) * build.abs_squared(g)
    mixed = m1 / (1 - b1**t) + alpha * m2
    u = mixed / (jnp.sqrt(v / (1 - b2**t) + eps_root) + eps)
    return u, s._replace(m1=m1, m2=m2, nu=v)


@build.recorded
def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: build.DType = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: build.Mask = None,
    nu_dtype: build.DType = None,
) -> build.Transformation:
    """AdEMAMix (Pagliardini, Ablin and Grangier, 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay rate of the fast mean, in [0, 1), or a schedule.
      b2: decay rate of the mean square, in [0, 1), or a schedule.
      b3: decay rate of the slow mean, in [0, 1), or a schedule: `ademamix_b3_schedule(0.9999, steps)` is
        the paper's.
      alpha: weight of the slow mean, at least 0, or a schedule: `ademamix_alpha_schedule(5.0, steps)` is
        the paper's.
      eps: added to the root, to avoid division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of both means; by default the parameters', at least float32.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      nu_dtype: dtype of the mean square; by default the parameters', at least float32.

    Returns:
      A transformation; with weight decay `update` needs the parameters.

    Example:
      >>> from optx_aliases import ademamix, ademamix_alpha_schedule, ademamix_b3_schedule
      >>> steps = 10_000
      >>> tx = ademamix(
      ...     1e-3, b3=ademamix_b3_schedule(0.9999, steps), alpha=ademamix_alpha_schedule(5.0, steps)
      ... )
    """
    return chain(
        scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root, mu_dtype, nu_dtype),
        decayed(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
