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

from typing import Any, NamedTuple

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
from optx_core import Params, Scalar, build, safe_increment


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

    exp_avg: build.Moment
    exp_avg_sq: build.SecondMoment
    grad_sum: build.Moment
    estim_lr: build.Factor
    numerator_weighted: Array
    count: build.Count


@equations(DAdaptAdamWState, sums=2)
def _adamw(
    g: Array,
    _p: Array,
    s: DAdaptAdamWState,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    root_b2: build.DecayRate,
    rate: Array,
    eps: Scalar,
) -> tuple[Any, ...]:
    product = inner_product(g, s.grad_sum / (jnp.sqrt(s.exp_avg_sq) + eps))
    g = build.squarable(g, g.size)
    m = b1 * s.exp_avg + (1 - b1) * (rate * g)
    v = b2 * s.exp_avg_sq + (1 - b2) * build.abs_squared(g)
    total = root_b2 * s.grad_sum + (1 - root_b2) * (rate * g)
    sums = product, jnp.sum(jnp.abs(total))
    return -m / (jnp.sqrt(v) + eps), s._replace(exp_avg=m, exp_avg_sq=v, grad_sum=total), sums


@build.factory
def dadapt_adamw(
    learning_rate: OwnRate = 1.0,
    betas: tuple[build.Rate, build.Rate] = (0.9, 0.999),
    eps: build.Positive = 1e-8,
    estim_lr0: FirstValue = 1e-6,
    weight_decay: build.Nonnegative = 0.0,
    mask: build.Mask = None,
) -> build.Transformation:
    """AdamW with D-Adaptation (Defazio and Mishchenko, 2023).

    Args:
      learning_rate: a factor of the estimated learning rate, a scalar or a schedule; its peak should
        be 1.
      betas: b1 and b2, the decays of the mean and of the mean square, each in [0, 1), or a schedule.
      eps: added to the root, against division by zero; greater than 0, or a schedule.
      estim_lr0: d at the start, greater than 0. Too small a value costs a few steps; d never decreases
        from one that is too large.
      weight_decay: decoupled weight decay, a scalar at least 0, or a schedule, multiplied by λ.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `DAdaptAdamWState`; `update` needs the parameters. The state's
      `estim_lr` is the current estimate of the learning rate.

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
    b1, b2 = betas
    rates = {name: build.rate_of(b) for name, b in (("b1", b1), ("b2", b2), ("root_b2", b2**0.5))}

    def step(flow: build.Flow, s: DAdaptAdamWState, p: Params, **_: Any) -> build.LeafStep:
        d, dtype, t = s.estim_lr, s.estim_lr.dtype, safe_increment(s.count)
        b1, b2, root_b2 = (rate.astype(dtype) for rate in rates.values())
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        rate = d * build.evaluate(learning_rate, s.count, dtype) * correction

        def close(new: DAdaptAdamWState, sums: Array) -> DAdaptAdamWState:
            product, size = sums
            r = build.squarable(root_b2 * s.numerator_weighted + (1 - root_b2) * rate * product)
            bound = quotient(r, (1 - root_b2) * size)
            return new._replace(estim_lr=jnp.maximum(d, bound), numerator_weighted=r, count=t)

        adamw = _adamw.step(close, flow, s, p, **rates, rate=rate, eps=eps)
        decay = rate * build.evaluate(weight_decay, t, dtype)
        return then_decay(flow, adamw, decay, mask, p)

    return whole_tree(DAdaptAdamWState, step, estim_lr=estim_lr0)
