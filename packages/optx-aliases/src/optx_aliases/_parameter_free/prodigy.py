"""Prodigy: Adam whose learning rate follows an estimate of the distance to the solution.

λ = d·lr·√(1 − b2ᵗ) / (1 − b1ᵗ)
r ← b3·r + (d/d₀)·λ·⟨g, p₀ − p⟩
m ← b1·m + (1 − b1)·d·g
v ← b2·v + (1 − b2)·d²·g²
s ← b3·s + (d/d₀)·λ·g          (safeguard_warmup: (d/d₀)·d·g)
d ← max(d, estim_lr_coef·r / ‖s‖₁)
p ← p − λ·m / (√v + d·eps) − weight_decay·λ·p

The division by d₀ (`estim_lr0`) and the bias correction of λ follow the authors' code, and so does the new d
in d·eps: the paper's algorithm 4 has the old d there, which differs by parts in 10⁸.

Reference: Mishchenko, Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", 2023,
algorithm 4.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import inner_product, measured
from optx_aliases._transforms.decay_after import then_decay
from optx_aliases._transforms.scalars import quotient, scalar_dtype
from optx_core import Params, PyTree, Scalar, ScalarOrSchedule, build, safe_increment, tree


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
    estim_lr: Array
    numerator_weighted: Array
    count: build.Count


def _measure(
    g: Array,
    m: Array,
    v: Array,
    s: Array,
    sums: Array,
    p: Array,
    p0: Array,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    b3: Scalar,
    d: Array,
    weight: Array,
) -> tuple[Array, ...]:
    product = inner_product(g, p0 - p)
    scaled = d * g
    m = b1 * m + (1 - b1) * scaled
    v = b2 * v + (1 - b2) * build.abs_squared(scaled)
    s = b3 * s + weight * scaled
    return g, m, v, s, sums + jnp.stack([product, jnp.sum(jnp.abs(s))])


def _step(_g: Array, m: Array, v: Array, *, rate: Array, eps: Array) -> Array:
    return -rate * m / (jnp.sqrt(v) + eps)


@build.recorded
@build.schedulable("betas", "beta3", "eps", "estim_lr_coef", "weight_decay")
def prodigy(
    learning_rate: ScalarOrSchedule = 1.0,
    betas: tuple[ScalarOrSchedule, ScalarOrSchedule] = (0.9, 0.999),
    beta3: ScalarOrSchedule | None = None,
    eps: ScalarOrSchedule = 1e-8,
    estim_lr0: Scalar = 1e-6,
    estim_lr_coef: ScalarOrSchedule = 1.0,
    weight_decay: ScalarOrSchedule = 0.0,
    safeguard_warmup: bool = False,
    mask: build.Mask = None,
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
    b1: Any
    b2: Any
    b1, b2 = betas
    b3 = b2**0.5 if beta3 is None else beta3
    build.check_number("prodigy", low=0, below=1, b1=b1, b2=b2)
    build.check_number("prodigy", low=0, high=1, beta3=b3)
    build.check_number("prodigy", low=0, weight_decay=weight_decay)
    build.check_number(
        "prodigy", above=0, eps=eps, estim_lr0=estim_lr0, estim_lr_coef=estim_lr_coef
    )

    rates = {"b1": build.rate_of(b1), "b2": build.rate_of(b2)}

    def init(params: Params) -> ProdigyState:
        dtype = scalar_dtype(params)
        return ProdigyState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            tree.slots_like(params),
            build.copy_of(params),
            jnp.asarray(estim_lr0).astype(dtype),
            jnp.zeros((), dtype),
            build.zero_count(),
        )

    def step(
        flow: build.Flow, state: ProdigyState, params: Params = None, **_: Any
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        d, dtype, t = state.estim_lr, state.estim_lr.dtype, safe_increment(state.count)
        b1, b2 = (rate.astype(dtype) for rate in rates.values())
        correction = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        rate = d * build.evaluate(learning_rate, state.count, dtype) * correction
        start, coefficient, keep = (
            build.evaluate(x, t, dtype) for x in (estim_lr0, estim_lr_coef, b3)
        )
        weight = (d if safeguard_warmup else rate) / start
        (product, size), m, v, s = measured(
            flow,
            _measure,
            2,
            dtype,
            slots=(state.exp_avg, state.exp_avg_sq, state.grad_sum),
            reads=(params, state.params0),
            operands={**rates, "b3": b3, "d": d, "weight": weight},
        )
        r = keep * state.numerator_weighted + (d / start) * rate * product
        d = jnp.maximum(d, quotient(coefficient * r, size))
        adam = build.LeafStep(
            _step,
            reads=(m, v),
            close=lambda: ProdigyState(m, v, s, state.params0, d, r, t),
            operands={"rate": rate, "eps": d * build.evaluate(eps, t, dtype)},
        )
        decay = rate * build.evaluate(weight_decay, t, dtype)
        return then_decay(flow, adam, decay, mask, params)

    return build.leafwise(step, init)
