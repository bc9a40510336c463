"""MoMo: a step size from a model of the loss, built on averages of past losses and gradients.

With averages f of the loss, d of the gradient g and γ of ⟨g, p⟩ (decay beta; at the first step they
equal its values), a lower bound lb of the loss, λ the weight decay and ω = 1 / (1 + lr·λ):

τ = min(lr, max(f − lb − γ + ω·⟨d, p⟩, 0) / (ω·‖d‖²))
p ← ω·(p − τ·d)

Arrays outside the mask have λ = 0. The paper's model, of the loss and of λ/2·‖p‖² over the arrays that
decay, then gives the same τ with ω inside the two sums, array by array.

With `adapt_lower_bound` the bound is estimated too: before the step, a bound above the model becomes half of
the model's value; after it, lb = max(f + ⟨d, p⟩ − γ − τ·‖d‖²/2, lower_bound).

The division by 1 + lr·λ of the whole step is the paper's (and follows from its model); optax divides p
alone.

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithms 1 and 2, and section 3.3 (the bound).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import measured, sum_of_squares, where_masked
from optx_aliases._parameter_free.momo_model import Model, loss_value, model_sums, step_size
from optx_aliases._transforms.scalars import scalar_dtype
from optx_core import Params, ScalarOrSchedule, build, safe_increment, tree


class MomoState(NamedTuple):
    """State of `momo`.

    Attributes:
      exp_avg: d, a tree of the parameters' structure and shapes.
      barf: f, a scalar of at least float32.
      gamma: γ, likewise.
      lb: the lower bound, likewise.
      count: int32 scalar, the number of updates so far.
    """

    exp_avg: build.Moment
    barf: Array
    gamma: Array
    lb: Array
    count: build.Count


def _measure(
    g: Array, d: Array, sums: Array, p: Array, decay: Array, *, beta: build.DecayRate
) -> tuple[Array, Array, Array]:
    d = beta * d + (1 - beta) * g
    return g, d, sums + model_sums(g, d, p, sum_of_squares(d), decay)


def _step(_g: Array, d: Array, p: Array, decay: Array, *, tau: Array) -> Array:
    return -(tau * d + decay * p) / (1 + decay)


@build.recorded
@build.schedulable("beta", "lower_bound", "weight_decay")
def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: ScalarOrSchedule = 0.9,
    lower_bound: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    mask: build.Mask = None,
) -> build.Transformation:
    """MoMo (Schaipp et al., 2023): SGD with momentum that chooses its step by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      beta: decay of the averages, in [0, 1), or a schedule.
      lower_bound: a known lower bound of the loss, or a schedule.
      weight_decay: λ, a scalar at least 0, or a schedule.
      adapt_lower_bound: whether to estimate the bound; it is then not below `lower_bound`.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

    Returns:
      A transformation with a `MomoState`; `update` needs the parameters and the loss, `value=loss`.

    Raises:
      ValueError: if a number is out of its range, or, from `update`, the loss was not passed.

    Example:
      >>> import jax.numpy as jnp
      >>> from optx_aliases import momo
      >>> tx, p = momo(), jnp.array([3.0])
      >>> updates, state = tx.update(2 * p, tx.init(p), p, value=jnp.sum(p**2))
      >>> float((p + updates)[0])
      1.5
    """
    build.check_number("momo", low=0, below=1, beta=beta)
    build.check_number("momo", low=0, weight_decay=weight_decay)
    build.check_number("momo", lower_bound=lower_bound)

    def init(params: Params) -> MomoState:
        zero = jnp.zeros((), scalar_dtype(params))
        lb = jnp.asarray(lower_bound).astype(zero.dtype)
        return MomoState(
            tree.slots_like(params), zero, jnp.copy(zero), zero + lb, build.zero_count()
        )

    def step(
        flow: build.Flow,
        state: MomoState,
        params: Params = None,
        *,
        value: Any = None,
        **_: Any,
    ) -> build.LeafStep:
        build.need_params(flow.trail, params)
        dtype = state.barf.dtype
        f = loss_value(flow.trail, value, dtype)
        first, b = state.count == 0, build.rate_of(beta).astype(dtype)
        b = build.DecayRate(jnp.where(first, 0, b.value), jnp.where(first, 1, b.complement))
        lr = build.evaluate(learning_rate, state.count, dtype)
        decays = where_masked(
            mask, params, lr * jnp.asarray(weight_decay).astype(dtype), flow.trail
        )
        (gp, dp, dd, shrunk_dp, shrunk_dd), d = measured(
            flow,
            _measure,
            5,
            dtype,
            slots=(state.exp_avg,),
            reads=(params, decays),
            operands={"beta": b},
        )
        model = Model(
            b * state.barf + (1 - b) * f,
            b * state.gamma + (1 - b) * gp,
            dp,
            dd,
            shrunk_dp,
            shrunk_dd,
            lr,
            jnp.ones((), dtype),
            jnp.asarray(lower_bound).astype(dtype),
        )
        tau, lb = step_size(model, state.lb, adapt_lower_bound)
        return build.LeafStep(
            _step,
            reads=(d, params, decays),
            close=lambda: MomoState(d, model.barf, model.gamma, lb, safe_increment(state.count)),
            operands={"tau": tau},
        )

    return build.leafwise(step, init)
