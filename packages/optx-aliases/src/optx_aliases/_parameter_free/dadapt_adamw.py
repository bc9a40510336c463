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

from optx_aliases._parameter_free.leaf_sums import add_up, inner_product, zero_sums
from optx_aliases._transforms.decay_after import then_decay
from optx_aliases._transforms.scalars import quotient, scalar_dtype
from optx_core import Params, PyTree, Scalar, ScalarOrSchedule, build, safe_increment, tree


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
    estim_lr: Array
    numerator_weighted: Array
    count: build.Count


def _leaf(
    g: Array,
    m: Array,
    v: Array,
    s: Array,
    sums: Array,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    root_b2: build.DecayRate,
    rate: Array,
    eps: Scalar,
) -> tuple[Array, ...]:
    product = inner_product(g, s / (jnp.sqrt(v) + eps))
    m = b1 * m + (1 - b1) * (rate * g)
    v = b2 * v + (1 - b2) * build.abs_squared(g)
    s = root_b2 * s + (1 - root_b2) * (rate * g)
    sums = sums + jnp.stack([product, jnp.sum(jnp.abs(s))])
    return -m / (jnp.sqrt(v) + eps), m, v, s, sums


@build.recorded
@build.schedulable("betas", "eps", "weight_decay")
def dadapt_adamw(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[ScalarOrSchedule, ScalarOrSchedule] = (0.9, 0.999),
    eps: ScalarOrSchedule = 1e-8,
    estim_lr0: Scalar = 1e-6,
    weight_decay: ScalarOrSchedule = 0.0,
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
    b1: Any
    b2: Any
    b1, b2 = betas
    build.check_number("dadapt_adamw", low=0, below=1, b1=b1, b2=b2)
    build.check_number("dadapt_adamw", low=0, weight_decay=weight_decay)
    build.check_number("dadapt_adamw", above=0, eps=eps, estim_lr0=estim_lr0)
    rates = {name: build.rate_of(b) for name, b in (("b1", b1), ("b2", b2), ("root_b2", b2**0.5))}

    def init(params: Params) -> DAdaptAdamWState:
        dtype = scalar_dtype(params)
        return DAdaptAdamWState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            tree.slots_like(params),
            jnp.asarray(estim_lr0).astype(dtype),
            jnp.zeros((), dtype),
            build.zero_count(),
        )

    def step(
        flow: build.Flow, state: DAdaptAdamWState, params: Params = None, **_: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        d, dtype, t = state.estim_lr, state.estim_lr.dtype, safe_increment(state.count)
        b1, b2, root_b2 = (rate.astype(dtype) for rate in rates.values())
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        rate = d * build.evaluate(learning_rate, state.count, dtype) * correction

        def close(m: PyTree, v: PyTree, s: PyTree, sums: PyTree) -> DAdaptAdamWState:
            product, size = add_up(sums, 2, dtype)
            r = root_b2 * state.numerator_weighted + (1 - root_b2) * rate * product
            bound = quotient(r, (1 - root_b2) * size)
            return DAdaptAdamWState(m, v, s, jnp.maximum(d, bound), r, t)

        adamw = build.LeafStep(
            _leaf,
            slots=(state.exp_avg, state.exp_avg_sq, state.grad_sum),
            reduced=(zero_sums(flow, 2, dtype),),
            close=close,
            operands={**rates, "rate": rate, "eps": eps},
        )
        decay = rate * build.evaluate(weight_decay, t, dtype)
        return then_decay(flow, adamw, decay, mask, params)

    return build.leafwise(step, init)
