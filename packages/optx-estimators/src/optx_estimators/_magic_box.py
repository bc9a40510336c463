"""The magic box: 1 as a value, the score as a derivative, right at every order.

box(τ) = exp(τ − stop(τ)),   ∇box = box·∇τ

It is written as the rule of its derivative: at a τ that is infinite, the difference would be no number.

Reference: Foerster, Farquhar, Al-Shedivat, Rocktäschel, Xing, Whiteson, "DiCE: The Infinitely
Differentiable Monte Carlo Estimator", 2018, equation 5.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_jvp
def _box(log_prob: jax.Array) -> jax.Array:
    return jnp.ones_like(log_prob)


@_box.defjvp
def _box_jvp(primals: Any, tangents: Any) -> Any:
    box = _box(*primals)
    return box, box * tangents[0]


def magic_box(log_prob: jax.Array) -> jax.Array:
    """One, whose derivatives of every order are those of a likelihood ratio.

    Multiply a cost by the box of the log-probability of all samples it depends on; the derivatives
    of the mean, of any order, are then unbiased.

    Args:
      log_prob: τ, log-probabilities, of any shape.

    Returns:
      Ones of that shape, also where `log_prob` is not finite.

    Example:
      >>> import jax
      >>> from optx_estimators import magic_box
      >>> jax.grad(lambda t: 3.0 * magic_box(2.0 * t))(0.0)
      Array(6., dtype=float32, weak_type=True)
    """
    return _box(jnp.asarray(log_prob))
