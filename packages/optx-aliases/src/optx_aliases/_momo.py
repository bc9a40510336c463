"""MoMo: a step size from a model of the loss, made of the averages of past losses and gradients.

With averages over the past f of the loss, d of the gradient g, γ of ⟨g, p⟩ (decay beta; all of the
first step at the first step), a lower bound lb of the loss and λ the weight decay:

τ = min(lr, max((1 + lr·λ)·(f − lb − γ) + ⟨d, p⟩, 0) / ‖d‖²)
p ← (p − τ·d) / (1 + lr·λ)

With `adapt_lower_bound` the bound is estimated too: where the model lies below it, it is halved towards
that before the step; after it, lb = max(f + ⟨d, p⟩ − γ − τ·‖d‖²/2, lower_bound).

The division by 1 + lr·λ of the whole step is the paper's (and follows from its model); optax divides p
alone.

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithms 1 and 2, and section 3.3 (the bound).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._whole_tree import (
    add_up,
    decay_as,
    inner_product,
    quotient,
    real_dtype_of,
    sum_of_squares,
    value_at,
    zero_sums,
)
from optx_core import (
    Decay,
    Flow,
    GradientTransformationExtraArgs,
    LeafStep,
    Params,
    PyTree,
    Scalar,
    ScalarOrSchedule,
    check_number,
    leafwise,
    need_params,
    recorded,
    safe_increment,
    tree,
    zero_count,
)


class MomoState(NamedTuple):
    """State of `momo`.

    Attributes:
      exp_avg: d, a tree of the parameters' structure and shapes.
      barf: f, a scalar of at least float32.
      gamma: γ, likewise.
      lb: the lower bound, likewise.
      count: int32 scalar, the number of updates so far.
    """

    exp_avg: PyTree
    barf: jax.Array
    gamma: jax.Array
    lb: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


class Model(NamedTuple):
    """The averages that the step size is made of, and the numbers of this step."""

    barf: jax.Array
    gamma: jax.Array
    product: jax.Array  # ⟨d, p⟩
    square: jax.Array  # ‖d‖² in the metric
    lr: jax.Array
    decayed: jax.Array  # 1 + lr·λ
    correction: jax.Array  # c
    lower_bound: jax.Array


def step_size(model: Model, lb: jax.Array, adapt: bool) -> tuple[jax.Array, jax.Array]:
    """τ and the next lower bound."""
    known = model.decayed * (model.barf - model.gamma) + model.product
    if adapt:
        scale = model.correction * model.decayed
        halved = jnp.maximum(known / (2 * scale), model.lower_bound)
        lb = jnp.where(known < scale * lb, halved, lb)
    room = known - model.decayed * model.correction * lb
    limit = quotient(jnp.maximum(room, 0), model.square)
    tau = jnp.minimum(model.lr / model.correction, limit)
    if adapt:
        reached = model.barf + model.product - model.gamma - tau * model.square / 2
        lb = jnp.maximum(reached / model.correction, model.lower_bound)
    return tau, lb


def _measure(
    g: jax.Array, d: jax.Array, sums: jax.Array, p: jax.Array, *, beta: Decay
) -> tuple[jax.Array, jax.Array, jax.Array]:
    d = beta.value * d + beta.complement * g
    return g, d, sums + jnp.stack([inner_product(g, p), inner_product(d, p), sum_of_squares(d)])


def _step(
    g: jax.Array, d: jax.Array, p: jax.Array, *, tau: jax.Array, decayed: jax.Array
) -> jax.Array:
    del g
    return -(tau * d + (decayed - 1) * p) / decayed


def loss_value(where: str, value: Any, real: Any) -> jax.Array:
    if value is None:
        raise ValueError(f"{where} needs the loss: call update(grads, state, params, value=loss)")
    return jnp.asarray(value).astype(real)


@recorded
def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: Scalar = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: Scalar = 0.0,
    adapt_lower_bound: bool = False,
) -> GradientTransformationExtraArgs:
    """MoMo (Schaipp et al., 2023): SGD with momentum that chooses its step by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      beta: decay of the averages, in [0, 1).
      lower_bound: a number that the loss is known not to fall below.
      weight_decay: λ, a scalar at least 0.
      adapt_lower_bound: whether to estimate the bound; it is then not below `lower_bound`.

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
    check_number("momo", low=0, below=1, beta=beta)
    check_number("momo", low=0, weight_decay=weight_decay)
    check_number("momo", lower_bound=lower_bound)

    def init(params: Params) -> MomoState:
        real = real_dtype_of(params)
        zero = jnp.zeros((), real)
        lb = jnp.zeros((), real) + value_at(lower_bound, zero, real)
        return MomoState(tree.slots_like(params), zero, jnp.zeros((), real), lb, zero_count())

    def step(
        flow: Flow, state: MomoState, params: Params = None, *, value: Any = None, **_: Any
    ) -> LeafStep:
        need_params(flow.trail, params)
        real = state.barf.dtype
        f = loss_value(flow.trail, value, real)
        first, decay = state.count == 0, decay_as(beta, real)
        decay = Decay(jnp.where(first, 0, decay.value), jnp.where(first, 1, decay.complement))
        measure = LeafStep(
            _measure,
            slots=(state.exp_avg,),
            reduced=(zero_sums(flow, real, 3),),
            reads=(params,),
            close=lambda *renewed: renewed,
            operands={"beta": decay},
        )
        d, sums = flow.push(measure)()
        gp, dp, dd = add_up(sums, real, 3)
        lr = value_at(learning_rate, state.count, real)
        model = Model(
            decay.value * state.barf + decay.complement * f,
            decay.value * state.gamma + decay.complement * gp,
            dp,
            dd,
            lr,
            1 + lr * value_at(weight_decay, lr, real),
            jnp.ones((), real),
            value_at(lower_bound, lr, real),
        )
        tau, lb = step_size(model, state.lb, adapt_lower_bound)
        return LeafStep(
            _step,
            reads=(d, params),
            close=lambda: MomoState(d, model.barf, model.gamma, lb, safe_increment(state.count)),
            operands={"tau": tau, "decayed": model.decayed},
        )

    return leafwise(step, init)
