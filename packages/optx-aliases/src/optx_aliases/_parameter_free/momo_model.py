"""The model of the loss from which MoMo and MoMo-Adam take their step sizes, with all that the two share.

With averages f of the loss, d of the gradient and γ of ⟨g, p⟩, their correction c, a lower bound lb of the
loss, norms ‖d‖² in a metric, and ω = 1 / (1 + lr·λ) of each array:

τ = min(lr/c, max(f − c·lb − γ + Σ ω·⟨d, p⟩, 0) / Σ ω·‖d‖²)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import (
    Equations,
    inner_product,
    where_masked,
    whole_tree,
)
from optx_aliases._transforms.scalars import quotient
from optx_core import Params, Scalar, ScalarOrSchedule, build, safe_increment


def model_sums(g: Array, d: Array, p: Array, square: Array, decay: Array) -> tuple[Array, ...]:
    """One array's part of ⟨g, p⟩ and of the model's product and square, plain and shrunk: 5 numbers."""
    product, omega = inner_product(d, p), 1 / (1 + decay)
    return inner_product(g, p), product, square, omega * product, omega * square


def shrunk(u: Array, p: Array, decay: Array) -> Array:
    """The update from p to ω·(p − u)."""
    return -(u + decay * p) / (1 + decay)


def model_based(
    state: Any,
    average: Equations,
    step: Callable[..., Array],
    averaging: Callable[[Any], tuple[build.DecayRate, Scalar, dict[str, Any]]],
    learning_rate: ScalarOrSchedule,
    lower_bound: Scalar,
    weight_decay: Scalar,
    adapt_lower_bound: bool,
    mask: build.Mask,
) -> build.Transformation:
    """A transformation whose step size comes from the model.

    Args:
      state: the class of the state, with the fields barf, gamma, lb and count.
      average: equations of the averages; they take b and the operands of the metric, and return `model_sums`.
      step: equations of the update, given the averages, the parameter, its decay, τ and the operands of the
        metric.
      averaging: a function of the state that returns the decay b of the averages of numbers, c, and the
        operands of the metric.
      learning_rate, lower_bound, weight_decay, adapt_lower_bound, mask: as for `momo`.
    """

    def update(
        flow: build.Flow, s: Any, p: Params, *, value: Any = None, **_: Any
    ) -> build.LeafStep:
        if value is None:
            raise ValueError(
                f"{flow.trail} needs the loss: call update(grads, state, params, value=loss)"
            )
        b, c, metric = averaging(s)
        loss, least, decay = (
            jnp.asarray(x).astype(s.barf.dtype) for x in (value, lower_bound, weight_decay)
        )
        lr = build.evaluate(learning_rate, s.count, s.barf.dtype)
        decays = where_masked(mask, p, lr * decay, flow.trail)
        s, sums = average.over(flow, s, p, decays, b=b, **metric)
        gp, product, square, shrunk_product, shrunk_square = sums
        f, gamma, lb = b * s.barf + (1 - b) * loss, b * s.gamma + (1 - b) * gp, s.lb
        known = f - gamma + shrunk_product
        if adapt_lower_bound:
            lb = jnp.where(known < c * lb, jnp.maximum(known / (2 * c), least), lb)
        tau = jnp.minimum(lr / c, quotient(jnp.maximum(known - c * lb, 0), shrunk_square))
        if adapt_lower_bound:
            lb = jnp.maximum((f + product - gamma - tau * square / 2) / c, least)
        s = s._replace(barf=f, gamma=gamma, lb=lb, count=safe_increment(s.count))
        return build.LeafStep(
            step,
            reads=(*(getattr(s, name) for name in average.renews), p, decays),
            close=lambda: s,
            operands={**metric, "tau": tau},
        )

    return whole_tree(state, update, lb=lower_bound)
