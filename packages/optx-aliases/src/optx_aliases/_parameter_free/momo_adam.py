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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optx_aliases._parameter_free.momo import Model, loss_value, step_size, sums_of
from optx_aliases._transforms.whole_tree import (
    add_up,
    decay_as,
    real_dtype_of,
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
    bias_correction,
    check_number,
    leafwise,
    need_params,
    recorded,
    schedulable,
    zero_count,
)


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

    exp_avg: PyTree
    exp_avg_sq: PyTree
    barf: jax.Array
    gamma: jax.Array
    lb: jax.Array
    count: jax.Array  # type: ignore[assignment]  # a field, though tuples have count()


def _measure(
    g: jax.Array,
    d: jax.Array,
    v: jax.Array,
    sums: jax.Array,
    p: jax.Array,
    decay: jax.Array,
    *,
    b1: Decay,
    b2: Decay,
    eps: jax.Array,
    correction: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    d = b1.value * d + b1.complement * g
    v = b2.value * v + b2.complement * tree.abs_squared(g)
    square = jnp.sum(tree.abs_squared(d) / (eps + jnp.sqrt(v / correction)))
    return g, d, v, sums + sums_of(g, d, p, square, decay)


def _step(
    g: jax.Array,
    d: jax.Array,
    v: jax.Array,
    p: jax.Array,
    decay: jax.Array,
    *,
    tau: jax.Array,
    eps: jax.Array,
    correction: jax.Array,
) -> jax.Array:
    del g
    scaled = d / (eps + jnp.sqrt(v / correction))
    return -(tau * scaled + decay * p) / (1 + decay)


@recorded
@schedulable("b1", "b2", "eps", "lower_bound", "weight_decay")
def momo_adam(
    learning_rate: ScalarOrSchedule = 1e-2,
    b1: ScalarOrSchedule = 0.9,
    b2: ScalarOrSchedule = 0.999,
    eps: ScalarOrSchedule = 1e-8,
    lower_bound: ScalarOrSchedule = 0.0,
    weight_decay: ScalarOrSchedule = 0.0,
    adapt_lower_bound: bool = False,
    mask: PyTree | Callable[[Params], PyTree] | None = None,
) -> GradientTransformationExtraArgs:
    """MoMo-Adam (Schaipp et al., 2023): Adam that shortens its step by the loss.

    Args:
      learning_rate: the largest step size, a scalar or a schedule.
      b1: decay of the averages of loss and gradient, in [0, 1), or a schedule.
      b2: decay of the mean square, in [0, 1), or a schedule.
      eps: added to the root, against division by zero; greater than 0, or a schedule.
      lower_bound: a number that the loss is known not to fall below, or a schedule.
      weight_decay: λ, a scalar at least 0, or a schedule.
      adapt_lower_bound: whether to estimate the bound; it is then not below `lower_bound`.
      mask: which leaves decay, as for `optx_core.masked`; all by default.

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
    check_number("momo_adam", low=0, below=1, b1=b1, b2=b2)
    check_number("momo_adam", low=0, weight_decay=weight_decay)
    check_number("momo_adam", above=0, eps=eps)
    check_number("momo_adam", lower_bound=lower_bound)

    def init(params: Params) -> MomoAdamState:
        real = real_dtype_of(params)
        zero = jnp.zeros((), real)
        return MomoAdamState(
            tree.slots_like(params),
            tree.slots_like(params, real=True),
            zero,
            jnp.zeros((), real),
            jnp.zeros((), real) + value_at(lower_bound, zero, real),
            zero_count(),
        )

    def step(
        flow: Flow, state: MomoAdamState, params: Params = None, *, value: Any = None, **_: Any
    ) -> LeafStep:
        need_params(flow.trail, params)
        real = state.barf.dtype
        f, count = loss_value(flow.trail, value, real), safe_increment(state.count)
        decay, decay2 = decay_as(b1, real), decay_as(b2, real)
        metric = {
            "eps": value_at(eps, count, real),
            "correction": bias_correction(decay2, count),
        }
        lr = value_at(learning_rate, state.count, real)
        decays = where_masked(mask, params, lr * value_at(weight_decay, lr, real), flow.trail)
        measure = LeafStep(
            _measure,
            slots=(state.exp_avg, state.exp_avg_sq),
            reduced=(zero_sums(flow, real, 5),),
            reads=(params, decays),
            close=lambda *renewed: renewed,
            operands={"b1": decay, "b2": decay2, **metric},
        )
        d, v, sums = flow.push(measure)()
        gp, dp, dd, shrunk_dp, shrunk_dd = add_up(sums, real, 5)
        model = Model(
            decay.value * state.barf + decay.complement * f,
            decay.value * state.gamma + decay.complement * gp,
            dp,
            dd,
            shrunk_dp,
            shrunk_dd,
            lr,
            bias_correction(decay, count),
            value_at(lower_bound, lr, real),
        )
        tau, lb = step_size(model, state.lb, adapt_lower_bound)
        return LeafStep(
            _step,
            reads=(d, v, params, decays),
            close=lambda: MomoAdamState(d, v, model.barf, model.gamma, lb, count),
            operands={"tau": tau, **metric},
        )

    return leafwise(step, init)
