"""The model of the loss from which MoMo and MoMo-Adam take their step sizes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from optx_aliases._parameter_free.leaf_sums import inner_product
from optx_aliases._transforms.scalars import quotient


class Model(NamedTuple):
    """The averages behind the step size, and the numbers of this step.

    Attributes:
      barf: f, the average of the losses.
      gamma: γ, the average of ⟨g, p⟩.
      product: ⟨d, p⟩.
      square: ‖d‖² in the metric.
      shrunk_product: Σ ω·⟨d, p⟩ over the arrays.
      shrunk_square: Σ ω·‖d‖² over the arrays.
      lr: the largest step size.
      correction: c, the correction for averages that start at zero.
      lower_bound: the bound that the user gives.
    """

    barf: Array
    gamma: Array
    product: Array
    square: Array
    shrunk_product: Array
    shrunk_square: Array
    lr: Array
    correction: Array
    lower_bound: Array


def step_size(model: Model, lb: Array, adapt: bool) -> tuple[Array, Array]:
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


def model_sums(g: Array, d: Array, p: Array, square: Array, decay: Array) -> Array:
    """One array's part of ⟨g, p⟩ and of the model's product and square, plain and shrunk: 5 numbers."""
    product, omega = inner_product(d, p), 1 / (1 + decay)
    return jnp.stack([inner_product(g, p), product, square, omega * product, omega * square])


def loss_value(where: str, value: Any, dtype: Any) -> Array:
    """The loss as a scalar of a dtype; an error if it was not passed."""
    if value is None:
        raise ValueError(f"{where} needs the loss: call update(grads, state, params, value=loss)")
    return jnp.asarray(value).astype(dtype)
