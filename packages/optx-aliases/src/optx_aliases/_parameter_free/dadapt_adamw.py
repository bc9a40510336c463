"""D-Adaptation: AdamW's learning rate from a growing lower bound on the distance to the solution.

With d the bound and λ = d·lr·√(1 − b2ᵗ) / (1 − b1ᵗ):

r ← √b2·r + (1 − √b2)·λ·⟨g, s / (√v + eps)⟩          (s and v of the steps before)
m ← b1·m + (1 − b1)·λ·g
v ← b2·v + (1 − b2)·g²
s ← √b2·s + (1 − √b2)·λ·g
d ← max(d, r / ((1 − √b2)·‖s‖₁))
p ← p − m / (√v + eps) − weight_decay·λ·p

The bias correction of λ is an option of the authors' code; it is on here, as in optax.

Reference: Defazio, Mishchenko, "Learning-Rate-Free Learning by D-Adaptation", 2023, algorithm 5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.decay_after import then_decay
from optx_aliases._transforms.whole_tree import (
    add_up,
    decay_as,
    inner_product,
    quotient,
    real_dtype_of,
    value_at,
    zero_sums,
)
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    safe_increment,
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
    need_params,
    recorded,
    schedulable,
    zero_count,
)


class DAdaptAdamWState(NamedTuple):
    """State of `dadapt_adamw`.

    Attributes:
      exp_avg: m, a tree of the parameters' structure and shapes.
      exp_avg_sq: v, likewise; real where the parameters are complex.
      grad_sum: s, likewise.
      estim_lr: d, a scalar of at least float32.
      numerator_weighted: r, likewise.
      count: t, int32 scalar, the number of updates so far.
    """

    exp_avg: PyTree
    exp_avg_sq: PyTree
    grad_sum: PyTree
    estim_lr: jax.Array
    numerator_weighted: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def _adamw_leaf(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
    sums: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    slow: Decay,
    rate: jax.Array,
    eps: Scalar,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    product = inner_product(g, s / (jnp.sqrt(v) + eps))
    m = b1.value * m + b1.complement * (rate * g)
    v = b2.value * v + b2.complement * tree.abs_squared(g)
    s = slow.value * s + slow.complement * (rate * g)
    sums = sums + jnp.stack([product, jnp.sum(jnp.abs(s))])
    return -m / (jnp.sqrt(v) + eps), m, v, s, sums


@recorded
@schedulable("betas", "eps", "weight_decay")
def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[ScalarOrSchedule, ScalarOrSchedule] = (0.9, 0.999),
    eps: ScalarOrSchedule = 1e-8,
    estim_lr0: Scalar = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """AdamW with D-Adaptation (Defazio and Mishchenko, 2023).

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule: leave its peak
        at 1.
      betas: the decays of the mean and of the mean square, each in [0, 1), or a
        schedule.
      eps: added to the root, against division by zero; greater than 0, or a schedule.
      estim_lr0: d at the start, greater than 0; too small costs a few steps, too large is never
        corrected.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule, multiplied by λ.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `DAdaptAdamWState`; `update` needs the parameters. The state's
      `estim_lr` is the learning rate found so far.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from optx_aliases import dadapt_adamw
      >>> tx, p = dadapt_adamw(), jnp.array([3.0])
      >>> state = tx.init(p)
      >>> for _ in range(20):
      ...     updates, state = tx.update(2 * p, state, p)
      ...     p = p + updates
      >>> bool(state.estim_lr > 1e-3)
      True
    """
    b1: Any
    b2: Any
    b1, b2 = betas
    check_number("dadapt_adamw", low=0, below=1, b1=b1, b2=b2)
    check_number("dadapt_adamw", low=0, weight_decay=weight_decay)
    check_number("dadapt_adamw", above=0, eps=eps, estim_lr0=estim_lr0)

    def init(params: Params) -> DAdaptAdamWState:
        real = real_dtype_of(params)
        return DAdaptAdamWState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            tree.slots_like(params),
            jnp.asarray(estim_lr0).astype(real),
            jnp.zeros((), real),
            zero_count(),
        )

    def step(flow: Flow, state: DAdaptAdamWState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        d, real = state.estim_lr, state.estim_lr.dtype
        count, slow = safe_increment(state.count), decay_as(b2**0.5, real)
        root = jnp.sqrt(bias_correction(decay_as(b2, real), count))
        correction = root / bias_correction(decay_as(b1, real), count)
        rate = d * value_at(learning_rate, state.count, real) * correction

        def close(m: PyTree, v: PyTree, s: PyTree, sums: PyTree) -> DAdaptAdamWState:
            product, size = add_up(sums, real, 2)
            r = slow.value * state.numerator_weighted + slow.complement * rate * product
            bound = quotient(r, slow.complement * size)
            return DAdaptAdamWState(m, v, s, jnp.maximum(d, bound), r, count)

        made = LeafStep(
            _adamw_leaf,
            slots=(state.exp_avg, state.exp_avg_sq, state.grad_sum),
            reduced=(zero_sums(flow, real, 2),),
            close=close,
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "slow": decay_of(b2**0.5),
                "rate": rate,
                "eps": eps,
            },
        )
        return then_decay(flow, made, rate * value_at(weight_decay, count, real), mask, params)

    return leafwise(step, init)
