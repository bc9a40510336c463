"""MoMo: a step size from a model of the loss, made of the averages of past losses and gradients.

With averages over the past f of the loss, d of the gradient g, γ of ⟨g, p⟩ (decay beta; all of the
first step at the first step), a lower bound lb of the loss, λ the weight decay and ω = 1 / (1 + lr·λ):

τ = min(lr, max(f − lb − γ + ω·⟨d, p⟩, 0) / (ω·‖d‖²))
p ← ω·(p − τ·d)

Arrays that a mask leaves out have λ = 0: the paper's model, of the loss and of λ/2·‖p‖² over those that
decay, then gives the same τ with ω inside the two sums, array by array.

With `adapt_lower_bound` the bound is estimated too: where the model lies below it, it is halved towards
that before the step; after it, lb = max(f + ⟨d, p⟩ − γ − τ·‖d‖²/2, lower_bound).

The division by 1 + lr·λ of the whole step is the paper's (and follows from its model); optax divides p
alone.

Reference: Schaipp, Ohana, Eickenberg, Defazio, Gower, "MoMo: Momentum Models for Adaptive Learning Rates",
2023, algorithms 1 and 2, and section 3.3 (the bound).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._transforms.whole_tree import (
    add_up,
    decay_as,
    inner_product,
    quotient,
    real_dtype_of,
    sum_of_squares,
    value_at,
    where_masked,
    zero_sums,
)
from optx_core import (
    GradientTransformationExtraArgs,
    Params,
    PyTree,
    ScalarOrSchedule,
    safe_increment,
    tree,
)
from optx_core.build import (
    Decay,
    Flow,
    LeafStep,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
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
    shrunk_product: jax.Array  # Σ ω·⟨d, p⟩
    shrunk_square: jax.Array  # Σ ω·‖d‖²
    lr: jax.Array
    correction: jax.Array  # c
    lower_bound: jax.Array


def step_size(model: Model, lb: jax.Array, adapt: bool) -> tuple[jax.Array, jax.Array]:
    """τ and the next lower bound."""
    c, known = model.correction, model.barf - model.gamma + model.shrunk_product
    if adapt:
        halved = jnp.maximum(known / (2 * c), model.lower_bound)
        lb = jnp.where(known < c * lb, halved, lb)
    limit = quotient(jnp.maximum(known - c * lb, 0), model.shrunk_square)
    tau = jnp.minimum(model.lr / c, limit)
    if adapt:
        reached = model.barf + model.product - model.gamma - tau * model.square / 2
        lb = jnp.maximum(reached / c, model.lower_bound)
    return tau, lb


def sums_of(
    g: jax.Array, d: jax.Array, p: jax.Array, square: jax.Array, decay: jax.Array
) -> jax.Array:
    """What one array adds to ⟨g, p⟩, and to the model's product and square, plain and shrunk."""
    product, omega = inner_product(d, p), 1 / (1 + decay)
    return jnp.stack([inner_product(g, p), product, square, omega * product, omega * square])


def _measure(
    g: jax.Array, d: jax.Array, sums: jax.Array, p: jax.Array, decay: jax.Array, *, beta: Decay
) -> tuple[jax.Array, jax.Array, jax.Array]:
    d = beta.value * d + beta.complement * g
    return g, d, sums + sums_of(g, d, p, sum_of_squares(d), decay)


def _step(
    g: jax.Array, d: jax.Array, p: jax.Array, decay: jax.Array, *, tau: jax.Array
) -> jax.Array:
    del g
    return -(tau * d + decay * p) / (1 + decay)


def loss_value(where: str, value: Any, real: Any) -> jax.Array:
    if value is None:
        raise ValueError(f"{where} needs the loss: call update(grads, state, params, value=loss)")
    return jnp.asarray(value).astype(real)


@recorded
@schedulable("beta", "lower_bound", "weight_decay")
def momo(
    learning_rate: ScalarOrSchedule = 1.0,
    beta: ScalarOrSchedule = 0.9,
    lower_bound: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """MoMo (Schaipp et al., 2023): SGD with momentum that chooses its step by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      beta: decay of the averages, in [0, 1), or a schedule.
      lower_bound: a number that the loss is known not to fall below, or a schedule.
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
        lr = value_at(learning_rate, state.count, real)
        decays = where_masked(mask, params, lr * value_at(weight_decay, lr, real), flow.trail)
        measure = LeafStep(
            _measure,
            slots=(state.exp_avg,),
            reduced=(zero_sums(flow, real, 5),),
            reads=(params, decays),
            close=lambda *renewed: renewed,
            operands={"beta": decay},
        )
        d, sums = flow.push(measure)()
        gp, dp, dd, shrunk_dp, shrunk_dd = add_up(sums, real, 5)
        model = Model(
            decay.value * state.barf + decay.complement * f,
            decay.value * state.gamma + decay.complement * gp,
            dp,
            dd,
            shrunk_dp,
            shrunk_dd,
            lr,
            jnp.ones((), real),
            value_at(lower_bound, lr, real),
        )
        tau, lb = step_size(model, state.lb, adapt_lower_bound)
        return LeafStep(
            _step,
            reads=(d, params, decays),
            close=lambda: MomoState(d, model.barf, model.gamma, lb, safe_increment(state.count)),
            operands={"tau": tau},
        )

    return leafwise(step, init)
