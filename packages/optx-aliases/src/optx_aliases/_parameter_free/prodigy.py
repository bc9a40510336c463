"""Prodigy: Adam whose learning rate follows an estimate of the distance to the solution.

λ = d·lr·√(1 − b2ᵗ) / (1 − b1ᵗ)
r ← b3·r + (d/d₀)·λ·⟨g, p₀ − p⟩
m ← b1·m + (1 − b1)·d·g
v ← b2·v + (1 − b2)·d²·g²
s ← b3·s + (d/d₀)·λ·g          (safeguard_warmup: (d/d₀)·d·g)
d ← max(d, estim_lr_coef·r / ‖s‖₁)
p ← p − λ·m / (√v + d·eps) − weight_decay·λ·p

The division by d₀ (`estim_lr0`) and the bias correction of λ are the authors' code's. So is the d of
d·eps, the new one: the paper's algorithm 4 has the old d there, which differs by parts in 10⁸.

Reference: Mishchenko, Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", 2023,
algorithm 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.decay_after import then_decay
from optx_aliases._transforms.whole_tree import (
    add_up,
    copy_of,
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


class ProdigyState(NamedTuple):
    """State of `prodigy`.

    Attributes:
      exp_avg: m, a tree of the parameters' structure and shapes.
      exp_avg_sq: v, likewise; real where the parameters are complex.
      grad_sum: s, likewise.
      params0: p₀, the parameters at the start.
      estim_lr: d, a scalar of at least float32.
      numerator_weighted: r, likewise.
      count: t, int32 scalar, the number of updates so far.
    """

    exp_avg: PyTree
    exp_avg_sq: PyTree
    grad_sum: PyTree
    params0: PyTree
    estim_lr: jax.Array
    numerator_weighted: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def _measure(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    s: jax.Array,
    sums: jax.Array,
    p: jax.Array,
    p0: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    b3: Scalar,
    d: jax.Array,
    weight: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    product = inner_product(g, p0 - p)
    scaled = d * g
    m = b1.value * m + b1.complement * scaled
    v = b2.value * v + b2.complement * tree.abs_squared(scaled)
    s = b3 * s + weight * scaled
    sums = sums + jnp.stack([product, jnp.sum(jnp.abs(s))])
    return g, m, v, s, sums


def _step(
    g: jax.Array,
    m: jax.Array,
    v: jax.Array,
    *,
    rate: jax.Array,
    eps: jax.Array,
) -> jax.Array:
    del g
    return -rate * m / (jnp.sqrt(v) + eps)


@recorded
@schedulable("betas", "beta3", "eps", "estim_lr_coef", "weight_decay")
def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[ScalarOrSchedule, ScalarOrSchedule] = (0.9, 0.999),
    beta3: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule = 1e-8,
    estim_lr0: Scalar = 1e-6,
    estim_lr_coef: ScalarOrSchedule = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    safeguard_warmup: bool = False,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """Prodigy (Mishchenko and Defazio, 2023): AdamW without a learning rate.

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule: leave its peak
        at 1.
      betas: b1 and b2, the decays of the mean and of the mean square, each in [0, 1), or
        a schedule.
      beta3: b3, the decay of the sums, in [0, 1), or a schedule; √b2 by default.
      eps: added to the root, times d; greater than 0, or a schedule.
      estim_lr0: d₀, the estimate at the start, greater than 0.
      estim_lr_coef: a factor of the estimate, greater than 0; the one to change if any (0.5 to 2);
        a scalar, or a schedule.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule, multiplied by λ.
      safeguard_warmup: whether a small scheduled learning rate is kept out of the denominator of the
        estimate, so that it does not grow in a warmup.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `ProdigyState`; `update` needs the parameters. The state's `estim_lr` is
      the learning rate found so far.

    Raises:
      ValueError: if a number is out of its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import prodigy
      >>> tx, p = prodigy(), jnp.array([3.0])
      >>> state = tx.init(p)
      >>> for _ in range(20):
      ...     updates, state = tx.update(2 * p, state, p)
      ...     p = p + updates
      >>> bool(state.estim_lr > 1e-4)
      True
    """
    b1: Any
    b2: Any
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3
    check_number("prodigy", low=0, below=1, b1=b1, b2=b2, beta3=b3)
    check_number("prodigy", low=0, weight_decay=weight_decay)
    check_number("prodigy", above=0, eps=eps, estim_lr0=estim_lr0, estim_lr_coef=estim_lr_coef)

    def init(params: Params) -> ProdigyState:
        real = real_dtype_of(params)
        return ProdigyState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            tree.slots_like(params),
            copy_of(params),
            jnp.asarray(estim_lr0).astype(real),
            jnp.zeros((), real),
            zero_count(),
        )

    def step(flow: Flow, state: ProdigyState, params: Params = None, **_: Any) -> LeafStep:
        need_params(flow.trail, params)
        d, real = state.estim_lr, state.estim_lr.dtype
        count = safe_increment(state.count)
        root = jnp.sqrt(bias_correction(decay_as(b2, real), count))
        correction = root / bias_correction(decay_as(b1, real), count)
        rate = d * value_at(learning_rate, state.count, real) * correction
        start, coefficient, keep = (
            value_at(x, count, real) for x in (estim_lr0, estim_lr_coef, b3)
        )

        measure = LeafStep(
            _measure,
            slots=(state.exp_avg, state.exp_avg_sq, state.grad_sum),
            reduced=(zero_sums(flow, real, 2),),
            reads=(params, state.params0),
            close=lambda *renewed: renewed,
            operands={
                "b1": decay_of(b1),
                "b2": decay_of(b2),
                "b3": b3,
                "d": d,
                "weight": (d if safeguard_warmup else rate) / start,
            },
        )
        m, v, s, sums = flow.push(measure)()
        product, size = add_up(sums, real, 2)
        r = keep * state.numerator_weighted + (d / start) * rate * product
        d = jnp.maximum(d, quotient(coefficient * r, size))
        made = LeafStep(
            _step,
            reads=(m, v),
            close=lambda: ProdigyState(m, v, s, state.params0, d, r, count),
            operands={"rate": rate, "eps": d * value_at(eps, count, real)},
        )
        return then_decay(flow, made, rate * value_at(weight_decay, count, real), mask, params)

    return leafwise(step, init)
