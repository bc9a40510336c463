"""Prodigy: Adam whose learning rate follows an estimate of the distance to the solution.

λ = d·lr·√(1 − b2ᵗ) / (1 − b1ᵗ)          (use_bias_correction=False: d·lr)
r ← b3·r + (d/d₀)·λ·⟨g, p₀ − p⟩
m ← b1·m + (1 − b1)·d·g
v ← b2·v + (1 − b2)·d²·g²
s ← b3·s + (d/d₀)·λ·g          (safeguard_warmup: (d/d₀)·d·g)
d ← max(d, estim_lr_coef·r / ‖s‖₁)
p ← p − λ·m / (√v + d·eps) − weight_decay·λ·p

The division by d₀ (`estim_lr0`) follows the authors' code, and so does the new d in d·eps: the paper's
algorithm 4 has the old d there, which differs by parts in 10⁸.

Reference: Mishchenko, Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", 2023,
algorithm 4.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    FirstValue,
    OwnRate,
    equations,
    inner_product,
    whole_tree,
)
from optx_aliases._transforms.decay_after import then_decay
from optx_aliases._transforms.scalars import quotient
from optx_core import Params, PyTree, Scalar, build, safe_increment


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

    exp_avg: build.Moment
    exp_avg_sq: build.SecondMoment
    grad_sum: build.Moment
    params0: Annotated[PyTree, build.slot(fill="params", constant=True)]
    estim_lr: build.Factor
    numerator_weighted: Array
    count: build.Count


@equations(ProdigyState, sums=2)
def _average(
    g: Array,
    p: Array,
    s: ProdigyState,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    b3: Scalar,
    weight: Array,
) -> tuple[Any, ...]:
    scaled = build.squarable(s.estim_lr * g, g.size)
    m = b1 * s.exp_avg + (1 - b1) * scaled
    v = b2 * s.exp_avg_sq + (1 - b2) * build.abs_squared(scaled)
    total = b3 * s.grad_sum + weight * scaled
    sums = inner_product(g, s.params0 - p), jnp.sum(jnp.abs(total))
    return g, s._replace(exp_avg=m, exp_avg_sq=v, grad_sum=total), sums


def _adam(_g: Array, m: Array, v: Array, *, rate: Array, eps: Array) -> Array:
    return -rate * m / (jnp.sqrt(v) + eps)


@build.factory
def prodigy(
    learning_rate: OwnRate = 1.0,
    betas: tuple[build.Rate, build.Rate] = (0.9, 0.999),
    beta3: build.ClosedRate = None,
    eps: build.Positive = 1e-8,
    estim_lr0: FirstValue = 1e-6,
    estim_lr_coef: build.Positive = 1.0,
    weight_decay: build.Nonnegative = 0.0,
    safeguard_warmup: bool = False,
    mask: build.Mask = None,
    *,
    use_bias_correction: bool = True,
) -> build.Transformation:
    """Prodigy (Mishchenko and Defazio, 2023): AdamW without a learning rate.

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule; its peak should
        be 1.
      betas: b1 and b2, the decays of the mean and of the mean square, each in [0, 1), or
        a schedule.
      beta3: b3, the decay of the sums, in [0, 1], or a schedule; √b2 by default.
      eps: added to the root, times d; greater than 0, or a schedule.
      estim_lr0: d₀, the estimate at the start, greater than 0.
      estim_lr_coef: a factor of the estimate, greater than 0, or a schedule; tune this number first
        (0.5 to 2).
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule, multiplied by λ.
      safeguard_warmup: whether to leave the scheduled learning rate out of the denominator of the
        estimate, so that the estimate does not grow in a warmup.
      mask: which leaves decay, as for `optx_core.masked`; all by default.
      use_bias_correction: whether λ has Adam's factor √(1 − b2ᵗ) / (1 − b1ᵗ), as in optax; the authors' code
        leaves it out by default.

    Returns:
      A transformation with a `ProdigyState`; `update` needs the parameters. The state's `estim_lr` is
      the current estimate of the learning rate.

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
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3
    rates = {"b1": build.rate_of(b1), "b2": build.rate_of(b2)}

    def step(flow: build.Flow, s: ProdigyState, p: Params, **_: Any) -> build.LeafStep:
        d, dtype, t = s.estim_lr, s.estim_lr.dtype, safe_increment(s.count)
        b1, b2 = (rate.astype(dtype) for rate in rates.values())
        rate = d * build.evaluate(learning_rate, s.count, dtype)
        if use_bias_correction:
            rate = rate * (jnp.sqrt(1 - b2**t) / (1 - b1**t))
        start, coefficient, keep = (
            build.evaluate(x, t, dtype) for x in (estim_lr0, estim_lr_coef, b3)
        )
        weight = (d if safeguard_warmup else rate) / start
        s, (product, size) = _average.over(flow, s, p, **rates, b3=b3, weight=weight)
        r = build.squarable(keep * s.numerator_weighted + (d / start) * rate * product)
        d = jnp.maximum(d, quotient(coefficient * r, size))
        s = s._replace(estim_lr=d, numerator_weighted=r, count=t)
        adam = build.LeafStep(
            _adam,
            reads=(s.exp_avg, s.exp_avg_sq),
            close=lambda: s,
            operands={"rate": rate, "eps": d * build.evaluate(eps, t, dtype)},
        )
        return then_decay(flow, adam, rate * build.evaluate(weight_decay, t, dtype), mask, p)

    return whole_tree(ProdigyState, step, estim_lr=estim_lr0)
