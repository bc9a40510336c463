"""AdEMAMix: Adam with a second, much slower mean of the gradients mixed in.

m1 ← b1·m1 + (1 − b1)·g
m2 ← b3·m2 + (1 − b3)·g
v ← b2·v + (1 − b2)·g²
u = (m̂1 + alpha·m2) / (√(v̂ + eps_root) + eps),   m̂1 = m1 / (1 − b1ᵗ),   v̂ = v / (1 − b2ᵗ)

The paper warms alpha and b3 up over T steps, at step t counted from 1:

alphaₜ = alpha·min(t / T, 1)
1 / ln b3ₜ = (1 − t/T) / ln b_start + (t/T) / ln b3       (so that the mean's half-life grows evenly)

Reference: Pagliardini, Ablin, Grangier, "The AdEMAMix Optimizer: Better, Faster, Older", 2024,
algorithm 1 and section 3 (schedulers).
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
    Recorded,
    bias_correction,
    check_number,
    decay_of,
    leafwise,
    recorded,
    schedulable,
    zero_count,
)


class ScaleByAdemamixState(NamedTuple):
    """State of `scale_by_ademamix`.

    Attributes:
      count: t, int32 scalar, the number of updates so far.
      count_m2: int32 scalar, the count at which schedules of `alpha` and `b3` are evaluated.
      m1: the fast mean, a tree of the parameters' structure and shapes.
      m2: the slow mean, likewise.
      nu: v, likewise; real where the parameters are complex.
    """

    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()
    count_m2: jax.Array
    m1: PyTree
    m2: PyTree
    nu: PyTree


class _Warmup(Recorded):
    """A schedule that prints and compares as the call that made it."""

    def __init__(self, at: Callable[[jax.Array], jax.Array], steps: int) -> None:
        self.at = at
        self.steps = steps

    def __call__(self, count: Any) -> jax.Array:
        # From 0 to 1 by the step that is about to be taken, counted from 1.
        done = jnp.minimum(jnp.asarray(count).astype(float) + 1, self.steps)
        return self.at(done / self.steps)


@recorded
def ademamix_alpha_schedule(alpha: float, warmup_steps: int) -> _Warmup:
    """AdEMAMix's schedule of `alpha`: it grows linearly from 0, then stays.

    Args:
      alpha: the final value.
      warmup_steps: the number of steps to reach it, at least 1.

    Returns:
      A function of the number of updates so far.

    Example:
      >>> from optx_aliases import ademamix_alpha_schedule
      >>> [float(ademamix_alpha_schedule(8.0, 4)(count)) for count in (0, 1, 3, 9)]
      [2.0, 4.0, 8.0, 8.0]
    """
    check_number("ademamix_alpha_schedule", low=1, warmup_steps=warmup_steps)
    return _Warmup(lambda part: alpha * part, warmup_steps)


@recorded
def ademamix_b3_schedule(b3: float, warmup_steps: int, b_start: float = 0.9) -> _Warmup:
    """AdEMAMix's schedule of `b3`: the half-life of the slow mean grows evenly, then stays.

    Args:
      b3: the final value, in (0, 1).
      warmup_steps: the number of steps to reach it, at least 1.
      b_start: the value it starts from, in (0, 1); the paper takes `b1`.

    Returns:
      A function of the number of updates so far.

    Example:
      >>> from optx_aliases import ademamix_b3_schedule
      >>> [round(float(ademamix_b3_schedule(0.99, 2, 0.9)(count)), 4) for count in (0, 1, 9)]
      [0.9818, 0.99, 0.99]
    """
    check_number("ademamix_b3_schedule", low=1, warmup_steps=warmup_steps)
    check_number("ademamix_b3_schedule", above=0, below=1, b3=b3, b_start=b_start)

    def at(part: jax.Array) -> jax.Array:
        slow, fast = jnp.log(jnp.asarray(b3, part.dtype)), jnp.log(jnp.asarray(b_start, part.dtype))
        return jnp.exp(1 / ((1 - part) / fast + part / slow))

    return _Warmup(at, warmup_steps)


def _leaf(
    g: jax.Array,
    m1: jax.Array,
    m2: jax.Array,
    nu: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    b3: Decay,
    alpha: Scalar,
    eps: Scalar,
    eps_root: Scalar,
    count: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    m1 = b1.value * m1 + b1.complement * g
    m2 = b3.value * m2 + b3.complement * g
    nu = b2.value * nu + b2.complement * tree.abs_squared(g)
    mixed = m1 / bias_correction(b1, count) + alpha * m2
    nu_hat = nu / bias_correction(b2, count)
    return mixed / (jnp.sqrt(nu_hat + eps_root) + eps), m1, m2, nu


@recorded
@schedulable("b1", "b2", "eps", "eps_root")
def scale_by_ademamix(
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 6.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """Divides a mixture of a fast and a slow mean of the gradients by the root of their mean square.

    Args:
      b1: decay of the fast mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      b3: decay of the slow mean, in [0, 1), or a schedule, such as `ademamix_b3_schedule`.
      alpha: weight of the slow mean, or a schedule, such as `ademamix_alpha_schedule`.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `m1` and `m2`; by default the parameters', at least float32.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
    check_number("scale_by_ademamix", low=0, below=1, b1=b1, b2=b2, b3=b3)
    check_number("scale_by_ademamix", low=0, alpha=alpha, eps=eps, eps_root=eps_root)

    def init(params: Params) -> ScaleByAdemamixState:
        return ScaleByAdemamixState(
            zero_count(),
            zero_count(),
            m1=tree.slots_like(params, mu_dtype),
            m2=tree.slots_like(params, mu_dtype),
            nu=tree.slots_like(params, nu_dtype, real=True),
        )

    def step(flow: Flow, state: ScaleByAdemamixState, params: Params = None, **_: Any) -> LeafStep:
        del flow, params
        counts = safe_increment(state.count), safe_increment(state.count_m2)
        return LeafStep(
            _leaf,
            slots=(state.m1, state.m2, state.nu),
            close=lambda m1, m2, nu: ScaleByAdemamixState(*counts, m1, m2, nu),
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "b3": decay_of(value_at(b3, state.count_m2)),
                "alpha": value_at(alpha, state.count_m2),
                "eps": eps,
                "eps_root": eps_root,
                "count": counts[0],
            },
        )

    return leafwise(step, init)


@recorded
def ademamix(
    learning_rate: ScalarOrSchedule,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    b3: ScalarOrSchedule = 0.9999,
    alpha: ScalarOrSchedule = 5.0,
    eps: ScalarOrSchedule = 1e-8,
    eps_root: ScalarOrSchedule = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
    nu_dtype: Any = None,
) -> GradientTransformationExtraArgs:
    """AdEMAMix (Pagliardini, Ablin and Grangier, 2024).

    Args:
      learning_rate: a scalar, or a schedule.
      b1: decay of the fast mean, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      b3: decay of the slow mean, in [0, 1), or a schedule: `ademamix_b3_schedule(0.9999, steps)` is
        the paper's.
      alpha: weight of the slow mean, or a schedule: `ademamix_alpha_schedule(5.0, steps)` is the
        paper's.
      eps: added to the root, against division by zero.
      eps_root: added under the root.
      mu_dtype: dtype of `m1` and `m2`; by default the parameters', at least float32.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      nu_dtype: dtype of `nu`; by default the parameters', at least float32.

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
