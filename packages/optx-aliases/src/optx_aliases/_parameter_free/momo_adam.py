"""MoMo-Adam: Adam whose step size comes from a model of the loss.

As `momo`, with Adam's metric D = √(v / (1 − b2ᵗ)) + eps, averages that start from zero, and
c = 1 − b1ᵗ:

τ = min(lr/c, max(f − c·lb − γ + ω·⟨d, p⟩, 0) / (ω·⟨d, d/D⟩))
p ← ω·(p − τ·d/D)

With `adapt_lower_bound`, after the step lb = max((f + ⟨d, p⟩ − γ − τ·⟨d, d/D⟩/2) / c, lower_bound).

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithm 3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import measured, where_masked
from optx_aliases._parameter_free.momo_model import Model, loss_value, model_sums, step_size
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import Params, ScalarOrSchedule, build, safe_increment, tree


class MomoAdamState(NamedTuple):
    """State of `momo_adam`.

    Attributes:
      exp_avg: d, a tree of the parameters' structure and shapes.
      exp_avg_sq: v, likewise; real where the parameters are complex.
      barf: f, a scalar of at least float32.
      gamma: γ, likewise.
      lb: the lower bound, likewise.
      count: t, int32 scalar, the number of updates so far.
    """

    exp_avg: build.Moment
    exp_avg_sq: build.SecondMoment
    barf: Array
    gamma: Array
    lb: Array
    count: build.Count


def _measure(
    g: Array,
    d: Array,
    v: Array,
    sums: Array,
    p: Array,
    decay: Array,
    *,
    b1: build.DecayRate,
    b2: build.DecayRate,
    eps: Array,
    correction: Array,
) -> tuple[Array, Array, Array, Array]:
    d = b1 * d + (1 - b1) * g
    v = b2 * v + (1 - b2) * build.abs_squared(g)
    square = jnp.sum(build.abs_squared(d) / (eps + jnp.sqrt(v / correction)))
    return g, d, v, sums + model_sums(g, d, p, square, decay)


def _step(
    _g: Array,
    d: Array,
    v: Array,
    p: Array,
    decay: Array,
    *,
    tau: Array,
    eps: Array,
    correction: Array,
) -> Array:
    scaled = d / (eps + jnp.sqrt(v / correction))
    return -(tau * scaled + decay * p) / (1 + decay)


@build.recorded
@build.schedulable("b1", "b2", "eps", "lower_bound", "weight_decay")
def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    lower_bound: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    mask: build.Mask = None,
) -> build.Transformation:
    """MoMo-Adam (Schaipp et al., 2023): Adam whose step is bounded by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      b1: decay of the averages of loss and gradient, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero; greater than 0, or a schedule.
      lower_bound, weight_decay, adapt_lower_bound, mask: as for `momo`.

    Returns:
      A transformation with a `MomoAdamState`; `update` needs the parameters and the loss, `value=loss`.

    Raises:
      ValueError: if a number is out of its range, or, from `update`, the loss was not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import momo_adam
      >>> tx, p = momo_adam(), jnp.array([3.0])
      >>> updates, state = tx.update(2 * p, tx.init(p), p, value=jnp.sum(p**2))
      >>> round(float(updates[0]), 5)
      -0.01
    """
    build.check_number("momo_adam", low=0, below=1, b1=b1, b2=b2)
    build.check_number("momo_adam", low=0, weight_decay=weight_decay)
    build.check_number("momo_adam", above=0, eps=eps)
    build.check_number("momo_adam", lower_bound=lower_bound)

    def init(params: Params) -> MomoAdamState:
        zero = jnp.zeros((), scalar_dtype(params))
        return MomoAdamState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            zero,
            jnp.copy(zero),
            zero + jnp.asarray(lower_bound).astype(zero.dtype),
            build.zero_count(),
        )

    def step(
        flow: build.Flow,
        state: MomoAdamState,
        params: Params = None,
        *,
        value: Any = None,
        **_: Any,
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        dtype = state.barf.dtype
        f, t = loss_value(flow.trail, value, dtype), safe_increment(state.count)
        mean, mean_square = (build.rate_of(b).astype(dtype) for b in (b1, b2))
        metric = {"eps": jnp.asarray(eps).astype(dtype), "correction": 1 - mean_square**t}
        lr = build.evaluate(learning_rate, state.count, dtype)
        decays = where_masked(
            mask, params, lr * jnp.asarray(weight_decay).astype(dtype), flow.trail
        )
        (gp, dp, dd, shrunk_dp, shrunk_dd), d, v = measured(
            flow,
            _measure,
            5,
            dtype,
            slots=(state.exp_avg, state.exp_avg_sq),
            reads=(params, decays),
            operands={"b1": mean, "b2": mean_square, **metric},
        )
        model = Model(
            mean * state.barf + (1 - mean) * f,
            mean * state.gamma + (1 - mean) * gp,
            dp,
            dd,
            shrunk_dp,
            shrunk_dd,
            lr,
            1 - mean**t,
            jnp.asarray(lower_bound).astype(dtype),
        )
        tau, lb = step_size(model, state.lb, adapt_lower_bound)
        return build.LeafStep(
            _step,
            reads=(d, v, params, decays),
            close=lambda: MomoAdamState(d, v, model.barf, model.gamma, lb, t),
            operands={"tau": tau, **metric},
        )

    return build.leafwise(step, init)
