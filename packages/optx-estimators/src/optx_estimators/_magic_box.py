"""The magic box: 1 as a value, the score as a derivative, right at every order.

box(τ) = exp(τ − stop(τ)),   ∇box = box·∇τ

Reference: Foerster, Farquhar, Al-Shedivat, Rocktäschel, Xing, Whiteson, "DiCE: The Infinitely
Differentiable Monte Carlo Estimator", 2018, equation 5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def magic_box(log_prob: jax.Array) -> jax.Array:
    """One, whose derivatives of every order are those of a likelihood ratio.

    Multiply a cost by the box of the log-probability of all samples it depends on; the derivatives
    of the mean, of any order, are then unbiased.

    Args:
      log_prob: τ, log-probabilities, of any shape.

    Returns:
      Ones of that shape.

    Example:
      >>> import jax
      >>> from optx_estimators import magic_box
      >>> jax.grad(lambda t: 3.0 * magic_box(2.0 * t))(0.0)
      Array(6., dtype=float32, weak_type=True)
    """
    return jnp.exp(log_prob - lax.stop_gradient(log_prob))
